"""Parameters as one flat vector, in which form modules are stored and averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from moma_cl.arraytypes import ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.records.records import ModuleKind
from moma_store.codecs import from_ordered, to_ordered
from moma_store.errors import BackboneError

_ADAPTERS = "adapters."


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterManifest:
    """The tensors that a flat vector of parameters consists of, in order."""

    names: tuple[str, ...]  # of each tensor in the backbone
    shapes: tuple[tuple[int, ...], ...]  # shape of each tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where tensors begin and end: tensor ``i`` is ``vector[offsets[i]:offsets[i + 1]]``."""
        return tuple(np.cumsum([0, *self.sizes]).tolist())

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(self.sizes)

    def to_json(self) -> dict[str, Any]:
        """Give the manifest as a document for a record or a header."""
        return {
            "names": list(self.names),
            "shapes": [list(shape) for shape in self.shapes],
            "offsets": list(self.offsets),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a manifest from a document that `to_json` gave: lists of names, shapes and offsets.

        Raises ``BackboneError`` if it is none, or its offsets contradict its shapes.
        """
        try:
            manifest = cls(
                names=tuple(str(name) for name in document["names"]),
                shapes=tuple(tuple(int(n) for n in shape) for shape in document["shapes"]),
            )
            offsets = tuple(document["offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise BackboneError(f"not a manifest of parameters: {error!r}") from error
        if len(manifest.names) != len(manifest.shapes) or offsets != manifest.offsets:
            raise BackboneError(
                f"a manifest of {len(manifest.names)} names and {len(manifest.shapes)} shapes "
                f"has offsets that do not belong to them; the record is damaged"
            )
        return manifest


def manifest_of(backbone: Backbone, kind: ModuleKind) -> ParameterManifest:
    """List the parameters that a module of one kind holds, in the backbone's own order.

    They are all encoder parameters but the adapters, or the adapters alone. It raises
    ``BackboneError`` if there are none, such as adapters before `Backbone.add_adapters`.
    """
    adapters = {ModuleKind.FULL: False, ModuleKind.ADAPTER: True}.get(kind)
    named = [
        (name, tuple(parameter.shape))
        for name, parameter in backbone.named_parameters()
        if name.startswith(_ADAPTERS) == adapters
    ]
    if not named:
        raise BackboneError(
            f"backbone {backbone.name!r} has no parameters of kind {kind.value!r}; "
            "for adapters, call add_adapters first"
        )
    names, shapes = zip(*named, strict=True)
    return ParameterManifest(names=names, shapes=shapes)


def to_vector(backbone: Backbone, manifest: ParameterManifest) -> ParameterVector:
    """Copy parameters of a backbone into one vector, shape ``(manifest.size,)``.

    Raises ``BackboneError`` if the manifest is not that of its parameters of either kind.
    """
    parameters = _matching(backbone, manifest)
    flat = [parameters[name].detach().reshape(-1).cpu() for name in manifest.names]
    vector: ParameterVector = torch.cat(flat).to(torch.float32).numpy()
    return vector


def rounded(vector: ParameterVector, base: ParameterVector, bits: int) -> ParameterVector:
    """Round trained parameters to steps from those they started from, so that they store small.

    The place of a float is its number in the order of all floats. Parameters are stored losslessly
    as the difference of their places from those of the base. The last bits of this difference are
    noise of the training: a step of ``2**8`` places is a relative change of 3e-5, and makes a
    quarter of the stored bytes zero.

    Parameters
    ----------
    vector
        Trained parameters, finite, shape ``(n_parameters,)``.
    base
        The parameters they started from, same shape.
    bits
        Logarithm of the step to base 2; with 0 nothing is rounded.

    Returns
    -------
    ParameterVector
        Rounded parameters, same shape. A parameter that did not change is still that of the base.
    """
    step = 1 << bits
    start = to_ordered(base).astype(np.int64)
    moved = to_ordered(vector).astype(np.int64) - start
    places = start + (moved + step // 2) // step * step
    nearest = from_ordered(places.astype(np.uint32))
    return np.where(np.isfinite(nearest), nearest, vector)


def load_vector(backbone: Backbone, vector: ParameterVector, manifest: ParameterManifest) -> None:
    """Copy a vector, shape ``(manifest.size,)``, into the parameters that the manifest names.

    Raises ``BackboneError`` if the manifest is not that of the backbone's parameters of either
    kind, or the vector is not a float32 vector of its size.
    """
    parameters = _matching(backbone, manifest)
    if vector.dtype != np.float32 or vector.shape != (manifest.size,):
        raise BackboneError(
            f"backbone {backbone.name!r} takes a float32 vector of {manifest.size} parameters, "
            f"got {vector.dtype} of shape {vector.shape}; the module belongs to another backbone"
        )
    # a copy, because torch warns of arrays that are read-only, as those of a store may be
    values = torch.from_numpy(vector.copy()).to(backbone.device)
    pieces = torch.split(values, list(manifest.sizes))
    with torch.no_grad():
        for name, shape, piece in zip(manifest.names, manifest.shapes, pieces, strict=True):
            parameters[name].copy_(piece.view(shape))


def _matching(backbone: Backbone, manifest: ParameterManifest) -> dict[str, nn.Parameter]:
    """Give the backbone's parameters by name, after comparing the manifest with them."""
    adapter = bool(manifest.names) and manifest.names[0].startswith(_ADAPTERS)
    kind = ModuleKind.ADAPTER if adapter else ModuleKind.FULL
    expected = manifest_of(backbone, kind)
    if manifest != expected:
        raise BackboneError(
            f"parameters do not fit backbone {backbone.name!r} {backbone.version}: "
            f"{_first_difference(manifest, expected)}; use the backbone they were made with"
        )
    return dict(backbone.named_parameters())


def _first_difference(got: ParameterManifest, expected: ParameterManifest) -> str:
    pairs = zip_longest(
        zip(got.names, got.shapes, strict=True), zip(expected.names, expected.shapes, strict=True)
    )
    for mine, theirs in pairs:
        if mine != theirs:
            return f"got {_describe(mine)}, expected {_describe(theirs)}"
    return "no difference"


def _describe(entry: tuple[str, tuple[int, ...]] | None) -> str:
    return "nothing" if entry is None else f"{entry[0]} {entry[1]}"
