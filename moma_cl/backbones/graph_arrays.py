"""Graphs as arrays: members of several kinds (atoms, bonds, edges, angles) that refer to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moma_cl.arraytypes import IntArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of members of a graph, by the names of the attributes that describe them.

    The symmetry quotient (`moma_cl.backbones.quotient`) merges members into classes.

    Attributes
    ----------
    codes
        Attributes of integers, such as the element, which members of a class have in common.
    values
        Attributes of real numbers in Å or rad, in which members of a class may differ by the
        tolerance.
    references
        For each attribute of indices, shape ``(n,)`` or ``(2, n)``, the kind that they count.
    summed
        The attribute of indices at which messages are summed; at the last row, if it has two.
    weight
        The attribute for the weight of each class: how often its message counts where it is
        summed, or the size of the class if ``summed`` is not given.
    """

    codes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    summed: str | None = None
    weight: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Graphs:
    """One graph, or several end to end; no index points from one graph into another.

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
        """Give the number of the graph that each member belongs to, shape ``(n_members,)``."""
        counts = self.counts[kind]
        return np.repeat(np.arange(len(counts)), counts)

    def split(self, kinds: Mapping[str, Kind]) -> list[dict[str, Tensor]]:
        """Give the attributes of each graph as tensors that share memory with all of them."""
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
