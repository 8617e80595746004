"""CHGNet 0.3.0's parameters out of the ``chgnet`` package, under the names of our layers."""

from __future__ import annotations

import contextlib
import hashlib
import io
from functools import cache

import torch
from torch import Tensor

from moma_cl.backbones.chgnet.layers import FEATURE_DIM
from moma_store.errors import BackboneError

VERSION = "0.3.0"

DIGEST = "bbc949fbffbffb4a9d91671d642b792e18048009ac7faee30e60c8765f631b99"
"""SHA-256 of the parameters' float32 bytes, in the order of their sorted names in the package."""

_RENAMED = {
    "atom_embedding.weight": "atom_embedding.embedding.weight",
    "bond_basis.frequencies": "bond_basis_expansion.rbf_expansion_ag.frequencies",
    "short_bond_basis.frequencies": "bond_basis_expansion.rbf_expansion_bg.frequencies",
    "angle_basis.frequencies": "angle_basis_expansion.fourier_expansion.frequencies",
    "bond_embedding.weight": "bond_embedding.weight",
    "bond_weights.weight": "bond_weights_ag.weight",
    "short_bond_weights.weight": "bond_weights_bg.weight",
    "angle_embedding.weight": "angle_embedding.weight",
}
_BRANCHES = ("core", "gate")
# Columns of the package's first layers, 64 for each kind of feature.
_ATOM_CONV_COLUMNS = ("center", "bond", "neighbor")
_ANGLE_COLUMNS = ("first", "other", "angle", "atom")


def encoder_state() -> dict[str, Tensor]:
    """Give the state of `CHGNetBackbone` for ``load_state_dict``.

    Raises ``BackboneError`` as `package_state` does.
    """
    source = package_state()
    state = {ours: source[theirs] for ours, theirs in _RENAMED.items()}
    for block in range(4):
        state |= _atom_conv(source, block)
    for block in range(3):
        state |= _bond_conv(source, block)
    for block in range(2):
        state |= _angle_update(source, block)
    return state


@cache
def package_state() -> dict[str, Tensor]:
    """Give all parameters of the published model, by their names in the package.

    Raises ``BackboneError`` if the package is missing, or its parameters are not those of 0.3.0.
    """
    try:
        from chgnet.model import CHGNet
    except ImportError as error:
        raise BackboneError(
            f"backbone 'chgnet' {VERSION} takes its parameters from the package chgnet, which "
            f"cannot be imported: {error}; install chgnet>=0.4.2"
        ) from error
    # the package prints to stdout and draws random numbers, which a caller must not notice
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        model = CHGNet.load(model_name=VERSION, use_device="cpu", verbose=False)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].numpy().astype("<f4").tobytes())
    if digest.hexdigest() != DIGEST:
        raise BackboneError(
            f"backbone 'chgnet' {VERSION}: the installed package chgnet has parameters with "
            f"digest {digest.hexdigest()}, expected {DIGEST}; install chgnet==0.4.2"
        )
    return state


def _first_layer(
    source: dict[str, Tensor], prefix: str, index: int, columns: tuple[str, ...]
) -> dict[str, Tensor]:
    """Split a first layer by kind of feature, the core's rows above the gate's."""
    branches = [source[f"{prefix}.mlp_{branch}.layers.{index}.weight"] for branch in _BRANCHES]
    halves = [torch.split(branch, FEATURE_DIM, dim=1) for branch in branches]
    blocks = {
        name: torch.cat([core, gate]) for name, core, gate in zip(columns, *halves, strict=True)
    }
    biases = [source[f"{prefix}.mlp_{branch}.layers.{index}.bias"] for branch in _BRANCHES]
    return blocks | {"bias": torch.cat(biases)}


def _second_layer(source: dict[str, Tensor], prefix: str, ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.layers.{branch}.{kind}": source[f"{prefix}.mlp_{branch}.layers.3.{kind}"]
        for branch in _BRANCHES
        for kind in ("weight", "bias")
    }


def _norms(source: dict[str, Tensor], prefix: str, ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.{branch}_norm.{kind}": source[f"{prefix}.bn{number}.{kind}"]
        for number, branch in enumerate(_BRANCHES, start=1)
        for kind in ("weight", "bias")
    }


def _atom_conv(source: dict[str, Tensor], block: int) -> dict[str, Tensor]:
    theirs, ours = f"atom_conv_layers.{block}", f"atom_convs.{block}"
    gated = f"{theirs}.twoBody_atom"
    first = _first_layer(source, gated, 0, _ATOM_CONV_COLUMNS)
    return {
        f"{ours}.atoms.weight": torch.cat([first["center"], first["neighbor"]]),
        f"{ours}.bonds.weight": first["bond"],
        f"{ours}.bonds.bias": first["bias"],
        **_second_layer(source, gated, ours),
        **_norms(source, gated, f"{ours}.layers.norms"),
        f"{ours}.out.weight": source[f"{theirs}.mlp_out.layers.1.weight"],
    }


def _angle_first(source: dict[str, Tensor], gated: str, index: int, ours: str) -> dict[str, Tensor]:
    first = _first_layer(source, gated, index, _ANGLE_COLUMNS)
    return {
        f"{ours}.bonds.weight": torch.cat([first["first"], first["other"]]),
        f"{ours}.angles.weight": first["angle"],
        f"{ours}.angles.bias": first["bias"],
        f"{ours}.atoms.weight": first["atom"],
    }


def _bond_conv(source: dict[str, Tensor], block: int) -> dict[str, Tensor]:
    theirs, ours = f"bond_conv_layers.{block}", f"bond_convs.{block}"
    gated = f"{theirs}.twoBody_bond"
    return {
        **_angle_first(source, gated, 0, ours),
        **_second_layer(source, gated, ours),
        **_norms(source, gated, f"{ours}.layers.norms"),
        f"{ours}.out.weight": source[f"{theirs}.mlp_out.layers.1.weight"],
    }


def _angle_update(source: dict[str, Tensor], block: int) -> dict[str, Tensor]:
    gated, ours = f"angle_layers.{block}.twoBody_bond", f"angle_updates.{block}"
    return {
        **_angle_first(source, gated, 1, ours),
        **_norms(source, gated, f"{ours}.norms"),
    }
