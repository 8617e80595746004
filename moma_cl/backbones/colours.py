"""Colour refinement: members of a graph get equal colours if they look alike from any distance.

A colour is a hash of 64 bits. It begins as a hash of a member's codes and values; in each round it
is hashed with the colours of the members that it refers to, and with the sum of the colours of the
members that refer to it. Rounds end when the number of colours stays the same.

References
----------
Grohe et al., *Dimension Reduction via Colour Refinement*, arXiv 1307.5697, section 2.

"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.graph_arrays import Graphs, Kind

TOLERANCE = 1e-5
"""Values of one class lie within this of each other, Å or rad."""

Hashes = NDArray[np.uint64]

# Odd constants with bits in no order; one for each place a colour can stand in.
_PLACES = tuple(
    np.uint64(place)
    for place in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
)
_SHIFT = np.uint64(32)


class Members:
    """The members of one kind, with the colour of each, shape ``(n_members,)``."""

    def __init__(self, graphs: Graphs, kinds: Mapping[str, Kind], name: str) -> None:
        kind, arrays = kinds[name], graphs.arrays
        self.owners = graphs.owners(name)
        self.colours = _mixed(self.owners.astype(np.uint64))
        codes = [arrays[code] for code in kind.codes]
        for code in (*codes, *(value_classes(arrays[v], self.owners) for v in kind.values)):
            self.colours = _mixed(self.colours * _PLACES[0] + code.astype(np.uint64))
        self.references = [
            (target, row)
            for attribute, target in kind.references.items()
            for row in np.atleast_2d(arrays[attribute])
        ]
        self.receiver: str | None = None
        if kind.summed is not None:
            self.receiver = kind.references[kind.summed]
            receivers = np.atleast_2d(arrays[kind.summed])[-1]
            self.order = np.argsort(receivers)
            n_receivers = int(graphs.counts[self.receiver].sum())
            self.ends = np.concatenate(
                [[0], np.cumsum(np.bincount(receivers, minlength=n_receivers))]
            )

    def mix_in_references(self, members: Mapping[str, Members]) -> None:
        """Hash each colour with the colours of the members that it refers to."""
        if not self.references:
            return
        mixture = self.colours * _PLACES[0]
        for (target, row), place in zip(self.references, _PLACES[1:], strict=False):
            mixture += (members[target].colours * place).take(row)
        self.colours = _mixed(mixture)

    def mix_into_receivers(self, members: Mapping[str, Members]) -> None:
        """Hash the colour of each receiver of messages with the sum of the colours that it gets."""
        if self.receiver is None:
            return
        running = np.zeros(len(self.colours) + 1, dtype=np.uint64)
        np.cumsum(self.colours.take(self.order), out=running[1:])
        receiver = members[self.receiver]
        # differences of sums modulo 2**64 are sums modulo 2**64
        receiver.colours = _mixed(
            receiver.colours * _PLACES[0] + (running[self.ends[1:]] - running[self.ends[:-1]])
        )

    def separate(self, graphs: NDArray[np.bool_]) -> None:
        """Give each member of some graphs, shape ``(n_graphs,)``, a colour of its own."""
        chosen = np.flatnonzero(graphs[self.owners])
        self.colours[chosen] = _mixed(chosen.astype(np.uint64))


def refine(members: Mapping[str, Members]) -> None:
    """Refine colours until their number stays the same."""
    before, n_colours = 0, 1
    while n_colours > before:
        before = n_colours
        for part in members.values():
            part.mix_in_references(members)
            part.mix_into_receivers(members)
        n_colours = sum(_n_distinct(part.colours) for part in members.values())


def value_classes(values: FloatArray, owners: IntArray) -> IntArray:
    """Divide values into classes within the tolerance, and number them, shape ``(n_values,)``.

    A gap wider than the tolerance begins a new class, and so does a new graph. A chain of close
    values that is longer than the tolerance is cut at gaps wider than half the tolerance, then a
    quarter, until no part is too long.
    """
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((values, owners))
    ordered = values[order]
    steps = ordered[1:] - ordered[:-1]
    steps[owners[1:] > owners[:-1]] = np.inf
    gap = TOLERANCE
    cuts = steps > gap
    while True:
        starts, numbers = _cut(cuts, len(values))
        long = ordered[np.append(starts[1:], len(values)) - 1] - ordered[starts] > TOLERANCE
        if not long.any():
            break
        gap *= 0.5
        cuts |= (steps > gap) & long[numbers[1:]]
    classes = np.empty_like(numbers)
    classes[order] = numbers
    return classes


def runs(ordered: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Give the start of each run of equal elements, and the number of each element's run."""
    return _cut(ordered[1:] != ordered[:-1], len(ordered))


def _cut(cuts: NDArray[np.bool_], length: int) -> tuple[IntArray, IntArray]:
    """Give the start of each part of a sequence, and the number of each element's part."""
    numbers = np.zeros(length, dtype=np.int64)
    np.cumsum(cuts, out=numbers[1:])
    starts = np.zeros(int(numbers[-1]) + 1 if length else 0, dtype=np.int64)
    starts[1:] = np.flatnonzero(cuts) + 1
    return starts, numbers


def _n_distinct(colours: Hashes) -> int:
    ordered = np.sort(colours)
    return int((ordered[1:] != ordered[:-1]).sum()) + min(1, len(ordered))


def _mixed(hashes: Hashes) -> Hashes:
    """Mix the bits of fresh hashes, in place."""
    hashes ^= hashes >> _SHIFT
    hashes *= _PLACES[1]
    hashes ^= hashes >> _SHIFT
    return hashes
