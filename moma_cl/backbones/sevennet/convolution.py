"""The tensor product of a convolution: all paths of a layer, summed over the edges, in one pass.

For each edge, path and channel u, with the edge tensor K, the weight w of the edge's length and the
source's features h::

    message[target, m₂, u] += Σ_m₁ K[m₂, m₁] w[u] h[source, m₁, u]

`plain_convolve` is this formula in torch, for other devices: a batched product for each path, with
zeros in the place of rows that nodes lack. On a CPU `convolve` runs a compiled kernel instead. It
passes over arrays once, where torch makes a dozen passes. One thread walks through the edges in
their order, so that equal input gives equal bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moma_cl.backbones.sevennet.kernel import Arrays, Geometry, backward, forward
from moma_cl.backbones.sevennet.paths import LayerPaths, Path

_N_DEGREES = 4  # arrays that the kernel is given, whatever the layer has


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rows:
    """Where the rows of each node lie among the features of each degree."""

    counts: Tensor  # shape (n_nodes, n_degrees)
    starts: Tensor  # shape (n_nodes, n_degrees)
    owners: tuple[Tensor, ...]  # the node of each row, for each degree

    @classmethod
    def of(cls, counts: Tensor) -> Rows:
        """Lay out the rows of nodes one after another."""
        nodes = torch.arange(len(counts), device=counts.device)
        totals = counts.sum(0).cpu().tolist()
        owners = [
            torch.repeat_interleave(nodes, column, output_size=total)
            for column, total in zip(counts.unbind(1), totals, strict=True)
        ]
        return cls(counts=counts, starts=counts.cumsum(0) - counts, owners=tuple(owners))

    def places(self, degree: int) -> Tensor:
        """Say which of its node's rows each row of a degree is, shape ``(n_rows,)``."""
        owners = self.owners[degree]
        return torch.arange(len(owners), device=owners.device) - self.starts[owners, degree]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Edges:
    """The classes of edges of a batch."""

    index: Tensor  # source, target and length of each, shape (3, n_edges)
    tensors: Tensor  # their edge tensors one after another, shape (n_values,)


def convolve(
    paths: LayerPaths, rows: Rows, edges: Edges, weights: Tensor, features: Sequence[Tensor]
) -> list[Tensor]:
    """Compute the messages that every node receives.

    Parameters
    ----------
    paths
        The paths of the layer.
    rows
        Where the rows of nodes are.
    edges
        The edges and their tensors.
    weights
        Weights of each distinct length, shape ``(n_lengths, paths.n_weights)``.
    features
        Features of each degree, shape ``(n_rows, n_channels)``.

    Returns
    -------
    list[Tensor]
        Messages of each degree, shape ``(n_rows, paths.widths[degree])``.
    """
    if weights.device.type != "cpu":
        return plain_convolve(paths, rows, edges, weights, features)
    weights, *features = (tensor.contiguous() for tensor in (weights, *features))
    if not torch.is_grad_enabled():
        return _messages(paths, rows, edges, weights, features)
    arguments = (paths, rows, edges, weights, *features)
    return list(_Convolution.apply(*arguments))  # type: ignore[no-untyped-call]  # torch's


def plain_convolve(
    paths: LayerPaths, rows: Rows, edges: Edges, weights: Tensor, features: Sequence[Tensor]
) -> list[Tensor]:
    """Compute `convolve` by its formula."""
    source, target, length = edges.index
    first = torch.stack([rows.counts[source, path.source] for path in paths.blocks], dim=1)
    second = torch.stack([rows.counts[target, path.target] for path in paths.blocks], dim=1)
    sizes = first * second
    starts = (sizes.flatten().cumsum(0) - sizes.flatten()).view_as(sizes)
    values = torch.cat([edges.tensors, edges.tensors.new_zeros(1)])
    nodes = [_by_node(rows, degree, one) for degree, one in enumerate(features)]
    messages: list[list[Tensor]] = [[] for _ in paths.widths]
    for block, path in sorted(enumerate(paths.blocks), key=lambda item: item[1].weight_column):
        if not path.n_channels:
            continue
        numbers = (first[:, block], second[:, block])
        tensor = values[_places(starts[:, block], *numbers, path, len(edges.tensors))]
        channels = slice(path.weight_column, path.weight_column + path.n_channels)
        sent = tensor @ (nodes[path.source][source] * weights[length, channels][:, None])
        nothing = sent.new_zeros(len(rows.counts), *sent.shape[1:])
        messages[path.target].append(nothing.index_add(0, target, sent))
    return [
        torch.cat(parts, dim=2)[rows.owners[degree], rows.places(degree)]
        for degree, parts in enumerate(messages)
    ]


def _by_node(rows: Rows, degree: int, features: Tensor) -> Tensor:
    """Give each node 2l + 1 rows, zero where it has fewer; ``(n_nodes, 2l + 1, n_channels)``."""
    place = torch.arange(2 * degree + 1, device=features.device)
    index = rows.starts[:, degree, None] + place
    present = place < rows.counts[:, degree, None]
    filled = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return filled[torch.where(present, index, len(features))]


def _places(starts: Tensor, n_sources: Tensor, n_targets: Tensor, path: Path, none: int) -> Tensor:
    """Say where the numbers of each edge's block are, and ``none`` for rows that it lacks."""
    row = torch.arange(2 * path.target + 1, device=starts.device)[None, :, None]
    column = torch.arange(2 * path.source + 1, device=starts.device)
    sources, targets = n_sources[:, None, None], n_targets[:, None, None]
    index = starts[:, None, None] + row * sources + column
    return torch.where((row < targets) & (column < sources), index, none)


def _messages(
    paths: LayerPaths, rows: Rows, edges: Edges, weights: Tensor, features: Sequence[Tensor]
) -> list[Tensor]:
    messages = [
        weights.new_zeros(len(rows.owners[degree]), width)
        for degree, width in enumerate(paths.widths)
    ]
    forward(
        _geometry(paths, rows, edges),
        weights.detach().numpy(),
        _arrays(features),
        _arrays(messages),
    )
    return messages


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, paths: LayerPaths, rows: Rows, edges: Edges, weights: Tensor, *features: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weights, *features)
        ctx.geometry = (paths, rows, edges)
        return tuple(_messages(paths, rows, edges, weights, features))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights, *features = ctx.saved_tensors
        to_weights = torch.zeros_like(weights)
        to_features = [torch.zeros_like(rows) for rows in features]
        backward(
            _geometry(*ctx.geometry),
            weights.numpy(),
            _arrays(features),
            _arrays([gradient.contiguous() for gradient in gradients]),
            to_weights.numpy(),
            _arrays(to_features),
        )
        return (None, None, None, to_weights, *to_features)


def _geometry(paths: LayerPaths, rows: Rows, edges: Edges) -> Geometry:
    return (
        paths.table,
        rows.counts.numpy(),
        rows.starts.numpy(),
        edges.index.numpy(),
        edges.tensors.numpy(),
    )


def _arrays(parts: Sequence[Tensor]) -> Arrays:
    """Give tensors as arrays, always as many, so that the kernel is compiled once."""
    arrays = [part.detach().numpy() for part in parts]
    nothing = np.zeros((0, 0), dtype=arrays[0].dtype)
    return (*arrays, *[nothing] * (_N_DEGREES - len(arrays)))
