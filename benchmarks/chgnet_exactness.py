"""Features and energies of ``chgnet`` against the package the parameters come from.

A difference is the largest of a batch, relative to the largest reference value of that batch; the
largest over all batches counts. The symmetry quotient is compared with the package in float64 by
what does not depend on how atoms are merged: means over the atoms of each structure. Beside the
differences stands how far the package in float32 is from itself in float64, and we are: no
float32 answers can agree better than the less exact of them is exact.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.chgnet_readout import CHGNetReadout
from benchmarks.structures import ROOT, crystal_of, sample
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs.batching import collate
from moma_cl.learning.head import node_mean

RESULT = ROOT / "benchmarks" / "results" / "chgnet_exactness.json"
N_STRUCTURES = 1000
BATCH = 32

NAMES = ("block 1", "block 2", "block 3", "block 4", "energy per atom")
QUOTIENT_BAR = 1e-6
BARS = {torch.float32: (1e-5, 1e-5, 1e-5, 5e-5, 1e-5), torch.float64: (1e-8,) * 5}


def run(n_structures: int = N_STRUCTURES) -> list[dict[str, Any]]:
    """Compare on structures taken evenly from every file; write and return the table."""
    warnings.filterwarnings("ignore", module="pymatgen")
    structures = sample(n_structures)
    package, ours = _Package(), _Ours()
    ours_to_package: dict[torch.dtype, list[list[float]]] = {torch.float32: [], torch.float64: []}
    own_error: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    merged: list[list[float]] = []
    edges = [*range(0, len(structures), BATCH), len(structures)]
    for start, stop in pairwise(edges):
        batch = structures[start:stop]
        theirs = {dtype: package.answers(batch, dtype) for dtype in ours_to_package}
        mine = {dtype: ours.answers(batch, dtype) for dtype in ours_to_package}
        for dtype, rows in ours_to_package.items():
            rows.append(_differences(mine[dtype], theirs[dtype]))
        exact = theirs[torch.float64]
        own_error["ours"].append(_differences(mine[torch.float32], exact))
        own_error["theirs"].append(_differences(theirs[torch.float32], exact))
        means = package.means(batch, exact)
        merged.append(_differences(ours.answers(batch, torch.float64, quotient=True), means))
    table = _table(ours_to_package, own_error, len(structures))
    label = f"{len(structures)} structures, float64 with the quotient against package"
    table += [
        _entry(f"{name}{', mean' if 'block' in name else ''}, {label}", value, None, QUOTIENT_BAR)
        for name, value in zip(NAMES, np.max(merged, axis=0).tolist(), strict=True)
    ]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=1) + "\n")
    return table


class _Ours:
    def __init__(self) -> None:
        self.encoder = CHGNetBackbone.pretrained()
        self.readout = CHGNetReadout.pretrained()

    def answers(
        self, structures: Sequence[dict[str, Any]], dtype: torch.dtype, *, quotient: bool = False
    ) -> list[Tensor]:
        """Features of every block, or with the quotient their means, and energies per atom."""
        self.encoder.to(dtype)
        self.readout.to(dtype)
        crystals = [crystal_of(one) for one in structures]
        batch = collate([CHGNetBackbone.to_graph(one, quotient=quotient) for one in crystals])
        with torch.no_grad():
            features = self.encoder(batch)
            energies = self.readout(features[-1], batch)
        blocks = [node_mean(block, batch) for block in features] if quotient else features
        return [*blocks, energies]


class _Package:
    def __init__(self) -> None:
        from chgnet.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):
            self.model = CHGNet.load(use_device="cpu", verbose=False)
        self.model.graph_converter.set_isolated_atom_response("ignore")
        self.features: list[Tensor] = []
        for layer in self.model.atom_conv_layers:
            layer.register_forward_hook(lambda _layer, _in, out: self.features.append(out))

    def answers(self, structures: Sequence[dict[str, Any]], dtype: torch.dtype) -> list[Tensor]:
        """Features of every block and energies per atom."""
        from chgnet.model.model import BatchedGraph

        self.model.to(dtype)
        self.features.clear()
        graphs = [self._graph(one, dtype) for one in structures]
        with torch.no_grad():
            batched = BatchedGraph.from_graphs(
                graphs, self.model.bond_basis_expansion, self.model.angle_basis_expansion
            )
            energies = self.model._compute(batched)["e"]  # its forward() casts to float32
        reference = self.model.composition_model.fc.weight[0].detach()
        shares = [reference[graph.atomic_number - 1].mean() for graph in graphs]
        return [*self.features, energies + torch.stack(shares)]

    @staticmethod
    def means(structures: Sequence[dict[str, Any]], answers: Sequence[Tensor]) -> list[Tensor]:
        """Average every block's features over each structure."""
        counts = [len(one["species"]) for one in structures]
        blocks = [torch.split(block, counts) for block in answers[:-1]]
        return [*(torch.stack([atoms.mean(0) for atoms in block]) for block in blocks), answers[-1]]

    def _graph(self, one: dict[str, Any], dtype: torch.dtype) -> Any:
        from pymatgen.core import Structure

        graph = self.model.graph_converter(
            Structure(one["lattice"], one["species"], one["frac_coords"])
        )
        for name in ("atom_frac_coord", "lattice", "neighbor_image"):
            setattr(graph, name, getattr(graph, name).detach().to(dtype))
        return graph


def _differences(answers: Sequence[Tensor], references: Sequence[Tensor]) -> list[float]:
    return [
        float((answer - reference).abs().max() / reference.abs().max())
        for answer, reference in zip(answers, references, strict=True)
    ]


def _table(
    ours_to_package: dict[torch.dtype, list[list[float]]],
    own_error: dict[str, list[list[float]]],
    n_structures: int,
) -> list[dict[str, Any]]:
    theirs = np.max(own_error["theirs"], axis=0).tolist()
    ours = np.max(own_error["ours"], axis=0).tolist()
    table = []
    for dtype, rows in ours_to_package.items():
        label = f"{n_structures} structures, {str(dtype).removeprefix('torch.')} against package"
        found = np.max(rows, axis=0).tolist()
        table += [
            _entry(f"{name}, {label}", value, None, bar)
            for name, value, bar in zip(NAMES, found, BARS[dtype], strict=True)
        ]
    return table + [
        _entry(f"{name}, {n_structures} structures, float32 against float64", mine, its, None)
        for name, mine, its in zip(NAMES, ours, theirs, strict=True)
    ]


def _entry(name: str, ours: float, theirs: float | None, bar: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": "max|Δ| / max|ref|",
        "ratio": None if theirs is None else ours / theirs,
        "bar": bar,
        "holds": bar is None or ours <= bar,
    }
