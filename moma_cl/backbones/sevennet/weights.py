"""SevenNet's parameters out of the ``sevenn`` package, under the names of our layers.

Its checkpoints are read with torch's restricted reader, which makes arrays and runs nothing, and
without importing the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moma_cl.backbones.sevennet.angular import wigner_3j
from moma_cl.backbones.sevennet.paths import LayerPaths
from moma_cl.backbones.sevennet.paths import Path as TensorPath
from moma_store.errors import BackboneError

_INSTALL = "install sevenn==0.13"

# the only things other than tensors and plain values that the checkpoints hold
_HARMLESS: list[Any] = [
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float32)),
]


@cache
def checkpoint(file: str, digest: str) -> dict[str, Any]:
    """Read a checkpoint of the package.

    Parameters
    ----------
    file
        Where it lies in the package.
    digest
        SHA-256 that the file must have.

    Returns
    -------
    dict[str, Any]
        The parameters by their names in the package, and under ``elements`` the atomic numbers in
        the order of the rows of the embedding.

    Raises
    ------
    BackboneError
        If the package is missing, or the file is not the expected one.
    """
    spec = find_spec("sevenn")
    if spec is None or spec.origin is None:
        raise BackboneError(
            f"backbone 'sevennet' takes its parameters from the package sevenn, which is not "
            f"installed; {_INSTALL}"
        )
    path = Path(spec.origin).parent / "pretrained_potentials" / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackboneError(
            f"the package sevenn has no readable {path}: {error}; {_INSTALL}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise BackboneError(f"{path} has SHA-256 {found}, expected {digest}; {_INSTALL}")
    with torch.serialization.safe_globals(_HARMLESS):
        document = torch.load(path, map_location="cpu", weights_only=True)
    places = document["config"]["_type_map"]
    return {**document["model_state_dict"], "elements": sorted(places, key=places.__getitem__)}


def current_layout(source: Mapping[str, Any], paths: Sequence[LayerPaths]) -> dict[str, Any]:
    """Sort the columns of the last matrix of each radial network as the package does today.

    The checkpoints are older: they have them in the order of (l₁, l_f, l₂), and beside them the 3j
    symbols that they were trained with, some of which have the other sign than today's.

    Parameters
    ----------
    source
        What `checkpoint` gave.
    paths
        The paths of each layer.

    Returns
    -------
    dict[str, Any]
        The same, with columns sorted by l₂ and signs changed.
    """
    names = [f"{layer}_convolution.weight_nn.layer2.weight" for layer in range(len(paths))]
    changed = {
        name: _sorted_by_path(source, layer, source[name], paths[layer])
        for layer, name in enumerate(names)
    }
    return {**source, **changed}


def encoder_state(
    source: Mapping[str, Any], channels: Sequence[Sequence[int]], paths: Sequence[LayerPaths]
) -> dict[str, Tensor]:
    """Give the state of the encoder for ``load_state_dict``, in float64.

    Parameters
    ----------
    source
        The parameters in today's layout, by their names in the package.
    channels
        Channels of each degree before each layer, and after the last.
    paths
        The paths of each layer.

    Returns
    -------
    dict[str, Tensor]
        The state.
    """
    elements = source["elements"]
    rows = source["onehot_to_feature_x.linear.weight"].double().view(len(elements), -1)
    state = {
        "embedding.weight": rows[np.argsort(elements)],
        "basis.frequencies": source["edge_embedding.basis_function.coeffs"].double(),
    }
    for layer, (n_in, n_out) in enumerate(pairwise(channels)):
        gated = [sum(n_out), *n_out[1:]]
        ours = f"convolutions.{layer}"
        for number in range(3):
            weight = source[f"{layer}_convolution.weight_nn.layer{number}.weight"].double()
            state[f"{ours}.network.layers.{number}.weight"] = weight.T
        for theirs, name, n_from, n_to in (
            ("self_interaction_1", "before", n_in, n_in),
            ("self_interaction_2", "after", paths[layer].widths, gated),
            ("self_connection_intro", "kept", n_in, gated),
        ):
            weight = source[f"{layer}_{theirs}.linear.weight"].double()
            state |= _linear(weight, n_from, n_to, f"{ours}.{name}")
    return state


def _linear(
    weight: Tensor, n_in: Sequence[int], n_out: Sequence[int], ours: str
) -> dict[str, Tensor]:
    """Take apart the linear maps of all degrees."""
    pairs = list(zip(n_in, n_out, strict=False))
    parts = torch.split(weight, [one * other for one, other in pairs])
    return {
        f"{ours}.maps.{degree}.weight": part.view(pair).T
        for degree, (part, pair) in enumerate(zip(parts, pairs, strict=True))
    }


def _sorted_by_path(
    source: Mapping[str, Any], layer: int, weight: Tensor, paths: LayerPaths
) -> Tensor:
    columns: dict[TensorPath, Tensor] = {}
    start = 0
    for path in sorted(paths.paths, key=lambda path: (path.source, path.factor, path.target)):
        degrees = (path.source, path.factor, path.target)
        part = weight[:, start : start + path.n_channels]
        name = "_w3j_{}_{}_{}".format(*degrees)
        trained = source.get(f"{layer}_convolution.convolution._compiled_main_left_right.{name}")
        if trained is not None and float((trained.numpy() * wigner_3j(*degrees)).sum()) < 0:
            part = -part
        columns[path] = part
        start += path.n_channels
    return torch.cat([columns[path] for path in paths.paths], dim=1)
