"""The symmetry quotient: a crystal graph in which what cannot be told apart is merged.

In most crystals many atoms, bonds and angles have identical surroundings, by symmetry or because
the cell repeats. A network that computes features from the graph alone gives them identical
features, so it is enough to compute each once.

**Definition.** A graph has several *kinds* of members (atoms, bonds, directed edges, angles). A
member has *codes* (integers, such as the element), *values* (real numbers, such as a length),
and *references* to members of other kinds (an edge to its two atoms and its bond). One reference
of a kind may be *summed*: messages of its members are added up at the member they refer to.
A division of all members into classes is *equitable* if members of a class

1. have equal codes, and values within `TOLERANCE` of each other,
2. refer, by each reference, to members of one and the same class,
3. receive, by each summed reference, equally many messages from every class.

The quotient has one member per class, with the codes of the class, the mean of its values, and
references between classes. Its *weight* at a summed reference is the number in 3.

**Why nothing changes.** Take any network whose features of a member after layer t + 1 are a
function of its codes and values, and, after layer t, its own features, those of what it refers
to, and the sums of messages over what is summed at it. Let members of a class have equal features
after layer t (before the first layer they have none). By 2, messages of one class are equal; by 3,
equal sums arrive at members of one class, and each is the sum over classes of weight times
message, which is what the quotient computes. So members of a class have equal features after
layer t + 1, those of the class in the quotient, and the same holds by induction for all layers.
Any sum or mean over atoms is that over classes weighted by their sizes; smallest and largest are
unchanged; gradients with respect to parameters are equal because the functions of them are. What
remains is rounding, and the spread of values, at most the tolerance and usually rounding too.

**Construction.** Colour refinement: colours begin as codes and classes of values, and are hashed
together with the colours of what is referred to and the sum of the colours of what refers, until
their number stays the same. The result is the coarsest equitable division, up to collisions of
64-bit hashes; conditions 1 to 3 are checked afterwards, member by member, so that a collision
costs the quotient and never the exactness.

References
----------
Grohe et al., *Dimension Reduction via Colour Refinement*, arXiv 1307.5697, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moma_cl.arraytypes import FloatArray, IntArray

TOLERANCE = 1e-5
"""Values of one class lie within this of each other, Å or rad."""

# A quotient that saves less than this share of the members is not worth its weights.
_WORTHWHILE = 0.1

Arrays = Mapping[str, NDArray[Any]]
_Hashes = NDArray[np.uint64]

# Odd constants with bits in no order; one for each place a colour can stand in.
_PLACES = tuple(
    np.uint64(place)
    for place in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
)
_SHIFT = np.uint64(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of members of a graph, by the names of the attributes that describe them.

    Attributes
    ----------
    codes
        Integers that members of a class share.
    values
        Real numbers that members of a class share to within the tolerance, Å or rad.
    references
        For each attribute of indices, shape ``(n,)`` or ``(2, n)``, the kind it points at.
    summed
        The attribute of indices at whose (last) target messages are summed.
    weight
        Where the weight of each class goes: how often its message counts at the target of
        ``summed``, or without one its size.
    """

    codes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    summed: str | None = None
    weight: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Graphs:
    """One graph, or several end to end, of which each refers to itself only.

    Attributes
    ----------
    arrays
        Codes and values of shape ``(n,)``, indices of shape ``(n,)`` or ``(2, n)`` over all
        members, weights of shape ``(n,)``.
    counts
        For each kind the number of members in each graph, shape ``(n_graphs,)``.
    """

    arrays: Arrays
    counts: Mapping[str, IntArray]

    def owners(self, kind: str) -> IntArray:
        """Give the graph of each member of a kind, shape ``(n_members,)``."""
        counts = self.counts[kind]
        return np.repeat(np.arange(len(counts)), counts)

    def split(self, kinds: Mapping[str, Kind]) -> list[dict[str, Tensor]]:
        """Take the graphs apart.

        Parameters
        ----------
        kinds
            What they consist of.

        Returns
        -------
        list[dict[str, Tensor]]
            The attributes of each graph, views of the whole.
        """
        columns: dict[str, Sequence[Tensor]] = {}
        for name, kind in kinds.items():
            sizes = self.counts[name].tolist()
            owners = self.owners(name)
            for attribute, target in kind.references.items():
                starts = np.cumsum(self.counts[target]) - self.counts[target]
                index = torch.from_numpy(self.arrays[attribute] - starts[owners])
                columns[attribute] = torch.split(index, sizes, dim=-1)
            weights = () if kind.weight is None else (kind.weight,)
            for attribute in (*kind.codes, *kind.values, *weights):
                columns[attribute] = torch.split(torch.from_numpy(self.arrays[attribute]), sizes)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quotient(Graphs):
    """The quotient of graphs, and which class everything went into.

    Attributes
    ----------
    classes
        For each kind the class of each member of the graphs, shape ``(n_members,)``.
    """

    classes: dict[str, IntArray]

    def to_members(self, kind: str, features: Tensor) -> Tensor:
        """Give every member of the graphs the features of its class, the quotient's inverse.

        Parameters
        ----------
        kind
            The kind of members, such as the atoms.
        features
            Features of the classes, shape ``(n_classes, n_features)``.

        Returns
        -------
        Tensor
            Features of the members, shape ``(n_members, n_features)``.
        """
        return features.index_select(0, torch.from_numpy(self.classes[kind]))


def merge(graphs: Graphs, kinds: Mapping[str, Kind]) -> Quotient:
    """Merge the members of each graph that no network can tell apart.

    A graph's quotient does not depend on the graphs beside it: many at once are only faster.

    Parameters
    ----------
    graphs
        The graphs.
    kinds
        What they consist of, in an order in which messages pass: a kind that sums follows those
        that send.

    Returns
    -------
    Quotient
        The quotients; a graph of which little can be merged stays as it is, with weights of one.
    """
    members = {name: _Members(graphs, kinds, name) for name in kinds}
    _refine(members)
    classes = {name: _Classes(part.colours) for name, part in members.items()}
    if _keep_apart(members, classes, graphs):
        classes = {name: _Classes(part.colours) for name, part in members.items()}
    merged: dict[str, NDArray[Any]] = {}
    for name in kinds:
        attributes = _attributes(graphs.arrays, kinds, name, classes)
        if attributes is None:
            return unmerged(graphs, kinds)
        merged |= attributes
    return Quotient(
        arrays=merged,
        counts=_class_counts(members, classes, graphs),
        classes={name: part.of for name, part in classes.items()},
    )


def unmerged(graphs: Graphs, kinds: Mapping[str, Kind]) -> Quotient:
    """Give graphs the form of a quotient without merging anything.

    Parameters
    ----------
    graphs
        The graphs.
    kinds
        What they consist of.

    Returns
    -------
    Quotient
        Every member in a class of its own.
    """
    sizes = {name: int(graphs.counts[name].sum()) for name in kinds}
    weights = {
        kind.weight: np.ones(sizes[name], dtype=np.float32)
        for name, kind in kinds.items()
        if kind.weight is not None
    }
    return Quotient(
        arrays={**graphs.arrays, **weights},
        counts=graphs.counts,
        classes={name: np.arange(size) for name, size in sizes.items()},
    )


class _Members:
    """One kind's members while their colours are refined."""

    def __init__(self, graphs: Graphs, kinds: Mapping[str, Kind], name: str) -> None:
        kind, arrays = kinds[name], graphs.arrays
        self.owners = graphs.owners(name)
        self.colours = _mixed(self.owners.astype(np.uint64))
        codes = [arrays[code] for code in kind.codes]
        for code in (*codes, *(_value_classes(arrays[v], self.owners) for v in kind.values)):
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

    def look(self, members: Mapping[str, _Members]) -> None:
        """Make the colours depend on the colours of what is referred to."""
        if not self.references:
            return
        seen = self.colours * _PLACES[0]
        for (target, row), place in zip(self.references, _PLACES[1:], strict=False):
            seen += (members[target].colours * place).take(row)
        self.colours = _mixed(seen)

    def send(self, members: Mapping[str, _Members]) -> None:
        """Make the colours of what is summed at depend on the sums of these colours."""
        if self.receiver is None:
            return
        running = np.zeros(len(self.colours) + 1, dtype=np.uint64)
        np.cumsum(self.colours.take(self.order), out=running[1:])
        receiver = members[self.receiver]
        # differences of sums modulo 2**64 are sums modulo 2**64
        receiver.colours = _mixed(
            receiver.colours * _PLACES[0] + (running[self.ends[1:]] - running[self.ends[:-1]])
        )


class _Classes:
    """The members of one kind divided by colour, classes in the order of their first members."""

    def __init__(self, colours: _Hashes) -> None:
        order = np.argsort(colours)
        starts, numbers = _runs(colours[order])
        first = np.minimum.reduceat(order, starts) if len(order) else order
        by_first = np.argsort(first)
        rank = np.empty_like(by_first)
        rank[by_first] = np.arange(len(by_first))
        self.first: IntArray = first[by_first]
        self.of: IntArray = np.empty_like(order)
        self.of[order] = rank[numbers]
        self.counts: IntArray = np.bincount(self.of, minlength=len(first))

    def shared(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Give each class the value all its members have, or nothing if some differ."""
        own = values[self.first]
        return own if np.array_equal(own[self.of], values) else None

    def mean(self, values: FloatArray) -> FloatArray | None:
        """Give each class the mean of its members, or nothing if they are too far apart."""
        own = values[self.first]
        if (np.abs(own[self.of] - values) > TOLERANCE).any():
            return None
        # from the first member, so that a class of one keeps its value to the last bit
        excess = np.bincount(self.of, weights=values - own[self.of], minlength=len(own))
        mean: FloatArray = own + excess / self.counts
        return mean

    def repeats(self, receivers: IntArray, receiver_classes: _Classes) -> IntArray | None:
        """Count how many members of each class every receiver gets, or nothing if that varies.

        If each receiver that gets any gets the class's size divided by the number of receivers of
        that class, then none of them gets nothing.
        """
        n_receivers = receiver_classes.counts[receiver_classes.of[receivers[self.first]]]
        groups = np.sort(receivers * len(self.first) + self.of)
        starts, _ = _runs(groups)
        counts = np.append(starts[1:], len(groups)) - starts
        of = groups[starts] % max(1, len(self.first))
        if not np.array_equal(counts * n_receivers[of], self.counts[of]):
            return None
        return self.counts // n_receivers


def _refine(members: Mapping[str, _Members]) -> None:
    """Refine colours until they are stable."""
    before, n_colours = 0, 1
    while n_colours > before:
        before = n_colours
        for part in members.values():
            part.look(members)
            part.send(members)
        n_colours = sum(_n_distinct(part.colours) for part in members.values())


def _class_counts(
    members: Mapping[str, _Members], classes: Mapping[str, _Classes], graphs: Graphs
) -> dict[str, IntArray]:
    return {
        name: np.bincount(part.owners[classes[name].first], minlength=len(graphs.counts[name]))
        for name, part in members.items()
    }


def _keep_apart(
    members: Mapping[str, _Members], classes: Mapping[str, _Classes], graphs: Graphs
) -> bool:
    """Give members of graphs of which little can be merged different colours; say if any are."""
    n_classes = np.sum([*_class_counts(members, classes, graphs).values()], axis=0)
    n_members = np.sum([*graphs.counts.values()], axis=0)
    apart: NDArray[np.bool_] = n_classes > (1.0 - _WORTHWHILE) * n_members
    for part in members.values():
        chosen = np.flatnonzero(apart[part.owners])
        part.colours[chosen] = _mixed(chosen.astype(np.uint64))
    return bool(apart.any())


def _attributes(
    arrays: Arrays, kinds: Mapping[str, Kind], name: str, classes: Mapping[str, _Classes]
) -> dict[str, NDArray[Any]] | None:
    """Describe the classes of one kind, or give nothing if the division is not equitable."""
    kind, own = kinds[name], classes[name]
    found: dict[str, NDArray[Any] | None] = {}
    found |= {code: own.shared(arrays[code]) for code in kind.codes}
    found |= {value: own.mean(arrays[value]) for value in kind.values}
    for reference, target in kind.references.items():
        rows = [own.shared(row) for row in np.atleast_2d(classes[target].of[arrays[reference]])]
        complete = [row for row in rows if row is not None]
        if len(complete) < len(rows):
            return None
        found[reference] = np.stack(complete).reshape(*arrays[reference].shape[:-1], -1)
    weights: IntArray | None = own.counts
    if kind.summed is not None:
        receivers = np.atleast_2d(arrays[kind.summed])[-1]
        weights = own.repeats(receivers, classes[kind.references[kind.summed]])
    if weights is not None and kind.weight is not None:
        found[kind.weight] = weights.astype(np.float32)
    elif weights is None or (kind.summed is not None and (weights != 1).any()):
        return None
    whole = {attribute: values for attribute, values in found.items() if values is not None}
    return whole if len(whole) == len(found) else None


def _value_classes(values: FloatArray, owners: IntArray) -> IntArray:
    """Give values of a graph that may share a class equal numbers, shape ``(n_values,)``.

    A gap wider than the tolerance begins a new class. A chain of close values that is longer than
    the tolerance is cut at gaps wider than half of it, then a quarter, until its parts are not.
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


def _runs(ordered: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Find where runs of equal elements start, and number each element's run."""
    return _cut(ordered[1:] != ordered[:-1], len(ordered))


def _cut(cuts: NDArray[np.bool_], length: int) -> tuple[IntArray, IntArray]:
    """Divide a sequence wherever a cut lies between two elements."""
    numbers = np.zeros(length, dtype=np.int64)
    np.cumsum(cuts, out=numbers[1:])
    starts = np.zeros(int(numbers[-1]) + 1 if length else 0, dtype=np.int64)
    starts[1:] = np.flatnonzero(cuts) + 1
    return starts, numbers


def _n_distinct(colours: _Hashes) -> int:
    ordered = np.sort(colours)
    return int((ordered[1:] != ordered[:-1]).sum()) + min(1, len(ordered))


def _mixed(hashes: _Hashes) -> _Hashes:
    """Mix the bits of fresh hashes, in place."""
    hashes ^= hashes >> _SHIFT
    hashes *= _PLACES[1]
    hashes ^= hashes >> _SHIFT
    return hashes
