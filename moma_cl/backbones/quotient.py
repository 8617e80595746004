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

**Construction.** Colour refinement (`moma_cl.backbones.colours`) gives the coarsest equitable
division, unless 64-bit hashes of different things are equal. Conditions 1 to 3 are checked
afterwards, member by member; if one fails, the graphs are not merged. So equal hashes cost time,
and never exactness.

References
----------
Grohe et al., *Dimension Reduction via Colour Refinement*, arXiv 1307.5697, section 2.

"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.colours import TOLERANCE, Hashes, Members, refine, runs
from moma_cl.backbones.graph_arrays import Arrays, Graphs, Kind

# A quotient that merges less than this share of the members is not worth its weights.
_WORTHWHILE = 0.1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quotient(Graphs):
    """The quotient of graphs, and the class of each of their members.

    Attributes
    ----------
    classes
        For each kind the class that each member of the graphs is in, shape ``(n_members,)``.
    """

    classes: dict[str, IntArray]


def merge(graphs: Graphs, kinds: Mapping[str, Kind]) -> Quotient:
    """Merge the members of each graph that no network can tell apart.

    The quotient of a graph does not depend on the graphs beside it: many at once are only faster.

    Parameters
    ----------
    graphs
        The graphs.
    kinds
        The kinds of their members, in the order in which messages pass: a kind that sums messages
        comes after the kinds that send them.

    Returns
    -------
    Quotient
        The quotients. A graph of which little can be merged stays as it is, with weights of one.
    """
    members = {name: Members(graphs, kinds, name) for name in kinds}
    refine(members)
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
    """Give graphs the form of a quotient in which every member is a class of its own."""
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


class _Classes:
    """The members of one kind divided by colour, classes in the order of their first members."""

    def __init__(self, colours: Hashes) -> None:
        order = np.argsort(colours)
        starts, numbers = runs(colours[order])
        first = np.minimum.reduceat(order, starts) if len(order) else order
        by_first = np.argsort(first)
        rank = np.empty_like(by_first)
        rank[by_first] = np.arange(len(by_first))
        # first member of each class, shape (n_classes,)
        self.first: IntArray = first[by_first]
        # class of each member, shape (n_members,)
        self.of: IntArray = np.empty_like(order)
        self.of[order] = rank[numbers]
        # members of each class, shape (n_classes,)
        self.counts: IntArray = np.bincount(self.of, minlength=len(first))

    def shared(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Give the value that all members of each class have, or nothing if some differ."""
        own = values[self.first]
        return own if np.array_equal(own[self.of], values) else None

    def mean(self, values: FloatArray) -> FloatArray | None:
        """Give the mean of each class, or nothing if some members are too far apart."""
        own = values[self.first]
        if (np.abs(own[self.of] - values) > TOLERANCE).any():
            return None
        # relative to the first member, so that a class of one keeps its value to the last bit
        excess = np.bincount(self.of, weights=values - own[self.of], minlength=len(own))
        mean: FloatArray = own + excess / self.counts
        return mean

    def repeats(self, receivers: IntArray, receiver_classes: _Classes) -> IntArray | None:
        """Count the messages of each class at every receiver, or give nothing if that varies.

        Let all messages of a class go to receivers of one class. If each receiver that gets some
        of them gets their number divided by the number of these receivers, all of them get some.
        """
        n_receivers = receiver_classes.counts[receiver_classes.of[receivers[self.first]]]
        groups = np.sort(receivers * len(self.first) + self.of)
        starts, _ = runs(groups)
        counts = np.append(starts[1:], len(groups)) - starts
        of = groups[starts] % max(1, len(self.first))
        if not np.array_equal(counts * n_receivers[of], self.counts[of]):
            return None
        return self.counts // n_receivers


def _class_counts(
    members: Mapping[str, Members], classes: Mapping[str, _Classes], graphs: Graphs
) -> dict[str, IntArray]:
    return {
        name: np.bincount(part.owners[classes[name].first], minlength=len(graphs.counts[name]))
        for name, part in members.items()
    }


def _keep_apart(
    members: Mapping[str, Members], classes: Mapping[str, _Classes], graphs: Graphs
) -> bool:
    """Give all members of graphs of which little can be merged different colours; say if any."""
    n_classes = np.sum([*_class_counts(members, classes, graphs).values()], axis=0)
    n_members = np.sum([*graphs.counts.values()], axis=0)
    apart: NDArray[np.bool_] = n_classes > (1.0 - _WORTHWHILE) * n_members
    for part in members.values():
        part.separate(apart)
    return bool(apart.any())


def _attributes(
    arrays: Arrays, kinds: Mapping[str, Kind], name: str, classes: Mapping[str, _Classes]
) -> dict[str, NDArray[Any]] | None:
    """Describe the classes of one kind, or give nothing if the division is not equitable."""
    kind, own = kinds[name], classes[name]
    described: dict[str, NDArray[Any] | None] = {}
    described |= {code: own.shared(arrays[code]) for code in kind.codes}
    described |= {value: own.mean(arrays[value]) for value in kind.values}
    for reference, target in kind.references.items():
        rows = [own.shared(row) for row in np.atleast_2d(classes[target].of[arrays[reference]])]
        complete = [row for row in rows if row is not None]
        if len(complete) < len(rows):
            return None
        described[reference] = np.stack(complete).reshape(*arrays[reference].shape[:-1], -1)
    weights: IntArray | None = own.counts
    if kind.summed is not None:
        receivers = np.atleast_2d(arrays[kind.summed])[-1]
        weights = own.repeats(receivers, classes[kind.references[kind.summed]])
    if weights is not None and kind.weight is not None:
        described[kind.weight] = weights.astype(np.float32)
    elif weights is None or (kind.summed is not None and (weights != 1).any()):
        return None
    whole = {attribute: values for attribute, values in described.items() if values is not None}
    return whole if len(whole) == len(described) else None
