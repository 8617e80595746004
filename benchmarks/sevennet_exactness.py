"""Features, energies and gradients of SevenNet against the package the parameters come from.

Both sides are given the symmetrised geometry. A difference is the largest of a batch, relative to
the largest reference value of that batch; the largest over all batches counts. Gradients are those
of the sum of energies by the package's parameters, ours taken back through the map from the
package's parameters to ours. Beside float32 stands how far the package in float32 is from itself in
float64: no float32 answers can agree better than the less exact of them is exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.sevennet_package import Package
from benchmarks.sevennet_readout import SevenNetReadout
from benchmarks.structures import crystal_of, sample
from moma_cl.backbones.sevennet.backbone import (
    N_SCALARS,
    SevenNet0Backbone,
    SevenNetBackbone,
    SevenNetL3i5Backbone,
)
from moma_cl.backbones.sevennet.weights import checkpoint, encoder_state
from moma_cl.backbones.symmetry import SymmetricCrystal, symmetrise
from moma_cl.graphs.batching import collate
from moma_cl.structures.crystals import Crystal

N_STRUCTURES = 1000
MAX_ATOMS = 64  # the package needs minutes, and gigabytes, for the gradients of larger cells
BATCH = 16
NAMES = (*(f"layer {number}" for number in range(1, 6)), "energies", "gradients")
_SLOTS = ("double", "single", "theirs")


def run(n_structures: int = N_STRUCTURES) -> list[dict[str, Any]]:
    """Compare on structures taken evenly from every file of the data."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    crystals = [crystal_of(one) for one in sample(2 * n_structures)]
    fit = [
        one
        for one in crystals
        if one.n_atoms <= MAX_ATOMS and set(one.atomic_numbers) <= SevenNetBackbone.elements
    ]
    places = np.linspace(0, len(fit), n_structures, endpoint=False).astype(int)
    chosen = [fit[place] for place in places]
    return [
        row
        for backbone in (SevenNet0Backbone, SevenNetL3i5Backbone)
        for row in _compare(backbone, chosen)
    ]


def _compare(backbone: type[SevenNetBackbone], crystals: Sequence[Crystal]) -> list[dict[str, Any]]:
    package = {dtype: Package(backbone, dtype) for dtype in (torch.float64, torch.float32)}
    worst = {slot: np.zeros(len(NAMES)) for slot in _SLOTS}
    for start, stop in pairwise([*range(0, len(crystals), BATCH), len(crystals)]):
        chosen = crystals[start:stop]
        symmetric = [symmetrise(one) for one in chosen]
        exact = package_answers(package[torch.float64], symmetric)
        single = package_answers(package[torch.float32], symmetric)
        found = {
            "double": our_answers(backbone, chosen, symmetric, package[torch.float64]),
            "single": our_answers(backbone, chosen, symmetric, package[torch.float32]),
            "theirs": single,
        }
        for slot, answers in found.items():
            worst[slot] = np.maximum(worst[slot], differences(answers, exact))
    label = f"{backbone.name}, {len(crystals)} structures"
    return [
        row
        for number, name in enumerate(NAMES)
        for row in (
            _entry(f"{label}, float64: {name}", worst["double"][number], None, 1e-8),
            _entry(
                f"{label}, float32: {name}",
                worst["single"][number],
                worst["theirs"][number],
                2.0 * worst["theirs"][number],
            ),
        )
    ]


def package_answers(package: Package, crystals: Sequence[SymmetricCrystal]) -> list[Tensor]:
    """Give features of every layer, energies, and the gradients of all parameters, in one row."""
    package.model.zero_grad(set_to_none=True)
    blocks, energies = package.answers([package.graph(one) for one in crystals])
    energies.sum().backward()
    gradients = [
        parameter.grad.flatten()
        for name, parameter in package.model.named_parameters()
        if parameter.grad is not None and _in_encoder(name)
    ]
    return [*(block.detach() for block in blocks), energies.detach(), torch.cat(gradients)]


def our_answers(
    backbone: type[SevenNetBackbone],
    crystals: Sequence[Crystal],
    symmetric: Sequence[SymmetricCrystal],
    package: Package,
) -> list[Tensor]:
    """Give the same of our encoder; gradients are those by the parameters of the package."""
    dtype = package.dtype
    encoder = backbone.pretrained().to(dtype)
    encoder.load_state_dict(encoder.published_state())
    readout = SevenNetReadout.pretrained(backbone).to(dtype)
    graphs = [backbone.to_graph(one, dtype=dtype) for one in crystals]
    batch = collate(graphs)
    cells = torch.tensor([float(one.n_cells) for one in symmetric], dtype=dtype)
    blocks = encoder(batch)
    energies = readout(blocks[-1], batch, encoder.rows_of_elements) / cells
    energies.sum().backward()
    starts = np.cumsum([0, *(graph.num_nodes for graph in graphs)])
    nodes = torch.tensor(
        np.concatenate(
            [nodes_of(one) + start for one, start in zip(symmetric, starts, strict=False)]
        )
    )
    rows = [block.detach()[nodes, :N_SCALARS] for block in blocks]
    return [*rows, energies.detach(), _taken_back(encoder, package)]


def nodes_of(crystal: SymmetricCrystal) -> Any:
    """Give the node of each atom: that of the lowest atom that a proper operation takes it to."""
    _, nodes = np.unique(crystal.proper.images.min(axis=0), return_inverse=True)
    return nodes


def differences(answers: Sequence[Tensor], references: Sequence[Tensor]) -> Any:
    """Give the largest difference of each, relative to the largest reference."""
    return np.array(
        [
            float((answer.double() - reference.double()).abs().max() / reference.abs().max())
            for answer, reference in zip(answers, references, strict=True)
        ]
    )


def _in_encoder(name: str) -> bool:
    return not name.startswith(("reduce_", "rescale_"))


def _taken_back(encoder: SevenNetBackbone, package: Package) -> Tensor:
    """Turn the gradients of our parameters into those of the package's."""
    learned = {
        name: value.detach().double().requires_grad_()
        for name, value in package.model.named_parameters()
        if value.grad is not None and _in_encoder(name)
    }
    source = {**checkpoint(*encoder.checkpoint_file), **learned}
    layers = [convolution.paths for convolution in encoder.convolutions]
    state = encoder_state(source, encoder._widths(), layers)
    ours = dict(encoder.named_parameters())
    names = [name for name in state if ours[name].grad is not None]
    found = torch.autograd.grad(
        [state[name] for name in names],
        list(learned.values()),
        [ours[name].grad.double() for name in names],
    )
    return torch.cat([gradient.flatten() for gradient in found])


def _entry(name: str, ours: float, theirs: float | None, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": float(ours),
        "theirs": None if theirs is None else float(theirs),
        "unit": "max|Δ| / max|ref|",
        "ratio": None if theirs is None else float(ours / theirs),
        "bar": f"<= {bar:.2g}",
        "holds": bool(ours <= bar),
    }
