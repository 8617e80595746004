"""The paths of a tensor product: which degrees of the features couple to which, and where they lie.

A message along an edge is, for each path (l₁, l_f, l₂), the source's features of degree l₁ coupled
by the edge's harmonics of degree l_f to degree l₂, times one weight for each channel. What depends
on geometry alone is the *edge tensor*, one block for each path that the harmonics allow, in the
order of `coupled_degrees`, with a row for each row of the target's features of degree l₂ and a
column for each of the source's of degree l₁.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from moma_cl.arraytypes import IntArray


class Path(NamedTuple):
    """One path of a layer. Columns of weights and messages are those of its first channel."""

    source: int  # degree l₁ of the features
    target: int  # degree l₂ of the message
    n_channels: int  # zero if the layer has no such path
    weight_column: int  # among the weights of all paths
    message_column: int  # among the messages of degree l₂
    factor: int  # degree l_f of the harmonics


@dataclass(frozen=True, slots=True, eq=False)
class LayerPaths:
    """The paths of one convolution."""

    blocks: tuple[Path, ...]  # the path of each block of the edge tensor
    n_weights: int  # of one edge
    widths: tuple[int, ...]  # channels of the messages of each degree l₂
    table: IntArray  # the blocks as rows, shape (n_blocks, 6)

    @property
    def paths(self) -> list[Path]:
        """The paths that the layer has, in the order of their weights."""
        present = [path for path in self.blocks if path.n_channels]
        return sorted(present, key=lambda path: path.weight_column)


@cache
def coupled_degrees(degree: int) -> tuple[tuple[int, int, int], ...]:
    """List all (l₁, l_f, l₂) up to a degree, in the order of their blocks in the edge tensor."""
    every = product(range(degree + 1), repeat=3)
    return tuple((a, f, b) for a, f, b in every if abs(a - f) <= b <= a + f)


@cache
def n_values(degree: int) -> int:
    """Count the numbers of an edge tensor between nodes with all their rows."""
    return sum((2 * a + 1) * (2 * b + 1) for a, _, b in coupled_degrees(degree))


def layer_paths(channels: Sequence[int], degree: int, target_degree: int) -> LayerPaths:
    """List the paths of one convolution, with weights in the order of the degree of the message.

    Parameters
    ----------
    channels
        Channels of the features of each degree l₁, from 0.
    degree
        Largest degree l_f of the harmonics.
    target_degree
        Largest degree l₂ of the messages.

    Returns
    -------
    LayerPaths
        The paths.
    """
    every = coupled_degrees(degree)
    found: dict[tuple[int, int, int], Path] = {}
    widths = [0] * (target_degree + 1)
    n_weights = 0
    for degrees in sorted(every, key=lambda one: one[2]):
        source, factor, target = degrees
        present = source < len(channels) and target <= target_degree
        n_channels = channels[source] if present else 0
        column = widths[target] if present else 0
        found[degrees] = Path(source, target, n_channels, n_weights, column, factor)
        if present:
            n_weights += n_channels
            widths[target] += n_channels
    blocks = tuple(found[degrees] for degrees in every)
    return LayerPaths(blocks, n_weights, tuple(widths), np.array(blocks, dtype=np.int64))
