"""Graphs as bytes, and many of them back at once.

An entry is a line that names the format, the sizes of what follows, a layout (JSON: for each
number type the names and dimensions of its tensors), the shapes of all tensors, and per number
type one run of their elements, each run beginning at a multiple of eight bytes. All graphs of a
backbone have one layout, so that a thousand entries are taken apart a column at a time.

safetensors reads each entry by itself, which takes four times as long, and its entries are a
fifth larger even with indices in four bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from moma_cl.arraytypes import IntArray

_MAGIC = b"moma-cl graph 2\n"
_SIZES = struct.Struct("<II")  # bytes of the layout, padding included, and number of extents
_START = len(_MAGIC) + _SIZES.size
_ALIGNMENT = 8
_NARROWED = "int64 in four bytes"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """The tensors of one number type: their names, and the columns of extents each one has."""

    kind: str
    names: tuple[str, ...]
    extents: tuple[slice, ...]


def encode(tensors: Tensors) -> bytes:
    """Write tensors by name as bytes that `decode` reads; equal tensors give equal bytes."""
    sections: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        sections.setdefault(_section_of(tensor), []).append((name, tensor))
    listed = [[kind, [(name, t.dim()) for name, t in ms]] for kind, ms in sections.items()]
    layout = _aligned(json.dumps(listed, separators=(",", ":")).encode(), fill=b" ")
    extents = [extent for ms in sections.values() for _, t in ms for extent in t.shape]
    runs = (
        b"".join(t.to(_stored(kind)).numpy().tobytes() for _, t in ms)
        for kind, ms in sections.items()
    )
    return b"".join(
        [
            _MAGIC + _SIZES.pack(len(layout), len(extents)) + layout,
            np.array(extents, dtype="<i8").tobytes(),
            *map(_aligned, runs),
        ]
    )


def decode(entries: Sequence[bytes | None]) -> list[dict[str, Tensor] | None]:
    """Read the tensors of many entries, none where there is no entry of this format.

    They may be written to; those of all entries share memory.
    """
    by_layout: dict[bytes, list[int]] = {}
    for position, entry in enumerate(entries):
        if entry is not None and entry.startswith(_MAGIC):
            end = _START + _SIZES.unpack_from(entry, len(_MAGIC))[0]
            by_layout.setdefault(entry[:end], []).append(position)
    decoded: list[dict[str, Tensor] | None] = [None] * len(entries)
    for head, positions in by_layout.items():
        alike = [entry for p in positions if (entry := entries[p]) is not None]
        for position, tensors in zip(positions, _decoded(head, alike), strict=True):
            decoded[position] = tensors
    return decoded


def _decoded(head: bytes, entries: Sequence[bytes]) -> Iterator[dict[str, Tensor]]:
    """Read entries of one layout."""
    sections = _sections(head[_START:])
    n_extents = _SIZES.unpack_from(head, len(_MAGIC))[1]
    start = len(head) + n_extents * 8
    written = b"".join([entry[len(head) : start] for entry in entries])
    shapes = np.frombuffer(written, dtype="<i8").reshape(len(entries), n_extents)
    starts = np.full(len(entries), start)
    columns: dict[str, Sequence[Tensor]] = {}
    for section in sections:
        sizes = np.stack([shapes[:, own].prod(axis=1) for own in section.extents], axis=1)
        n_bytes = sizes.sum(axis=1) * _stored(section.kind).itemsize
        ends = starts + n_bytes
        spans = zip(entries, starts.tolist(), ends.tolist(), strict=True)
        run = bytearray().join([entry[start:end] for entry, start, end in spans])
        parts = torch.split(_elements(section.kind, run), sizes.ravel().tolist())
        for column, (name, own) in enumerate(zip(section.names, section.extents, strict=True)):
            members = parts[column :: len(section.names)]
            columns[name] = members if own.stop - own.start == 1 else _shaped(members, shapes, own)
        starts = ends + -ends % _ALIGNMENT
    names = tuple(columns)
    return (dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))


@lru_cache(maxsize=16)
def _sections(layout: bytes) -> tuple[_Section, ...]:
    sections, column = [], 0
    for kind, members in json.loads(layout):
        extents = []
        for _, n_dimensions in members:
            extents.append(slice(column, column + n_dimensions))
            column += n_dimensions
        names = tuple(name for name, _ in members)
        sections.append(_Section(kind=kind, names=names, extents=tuple(extents)))
    return tuple(sections)


def _elements(kind: str, run: bytearray) -> Tensor:
    """Take elements out of a buffer of their own, so that they can be written to."""
    flat = (
        torch.frombuffer(run, dtype=_stored(kind)) if run else torch.zeros(0, dtype=_stored(kind))
    )
    return flat.to(torch.int64) if kind == _NARROWED else flat


def _shaped(members: Sequence[Tensor], shapes: IntArray, own: slice) -> list[Tensor]:
    rows = shapes[:, own].tolist()
    return [tensor.view(row) for tensor, row in zip(members, rows, strict=True)]


def _aligned(run: bytes, fill: bytes = b"\0") -> bytes:
    return run + fill * (-len(run) % _ALIGNMENT)


def _section_of(tensor: Tensor) -> str:
    """Name the number type of a tensor; indices that fit are kept in four bytes."""
    if tensor.dtype == torch.int64 and tensor.numel() and int(tensor.abs().max()) >= 1 << 31:
        return "int64"
    return _NARROWED if tensor.dtype == torch.int64 else str(tensor.dtype).removeprefix("torch.")


def _stored(section: str) -> torch.dtype:
    dtype: torch.dtype = torch.int32 if section == _NARROWED else getattr(torch, section)
    return dtype
