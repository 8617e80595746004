"""Batches: structures divided into batches of similar sizes, and graphs joined into one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moma_cl.arraytypes import IntArray
from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.core.pyg import Batch, Data


def collate(graphs: Sequence[Data]) -> Batch:
    """Join graphs of one backbone, at least one, as ``Batch.from_data_list`` does.

    For a `CrystalGraph` this is several times faster, but the batch cannot be taken apart again. It
    has ``batch``, ``ptr`` and ``num_graphs``.
    """
    first = graphs[0]
    if not isinstance(first, CrystalGraph):
        return Batch.from_data_list(list(graphs))
    stores = [graph._store._mapping for graph in graphs]
    columns = {key: [store[key] for store in stores] for key in stores[0]}
    lengths = {key: _lengths(columns[key]) for key in {*first.counted_by.values(), "node_weight"}}
    batch = Batch(_base_cls=type(first))
    for key, column in columns.items():
        counted = first.counted_by.get(key)
        batch[key] = torch.cat(column, dim=-1 if counted else 0)
        if counted is not None:
            batch[key] += _shift(column, lengths[counted])
    n_nodes = lengths["node_weight"]
    batch.batch = torch.repeat_interleave(torch.arange(len(graphs)), n_nodes)
    batch.ptr = torch.cat([n_nodes.new_zeros(1), n_nodes.cumsum(0)])
    batch._num_graphs = len(graphs)
    return batch


def collate_for(encoder: Backbone, graphs: Sequence[Data]) -> Batch:
    """Join graphs on the CPU, at least one, and move the batch to the device of an encoder.

    Off the CPU real numbers get the encoder's precision before they are moved: lengths and angles
    are kept in float64, which Apple's GPUs do not have, and encoders round them first in any case.
    """
    batch = collate(graphs)
    device = encoder.device
    if device.type == "cpu":
        return batch
    dtype = next(encoder.parameters()).dtype
    return batch.apply(lambda t: (t.to(dtype) if t.is_floating_point() else t).to(device))


def batches_by_size(sizes: Sequence[int] | NDArray[np.integer], most: int) -> list[IntArray]:
    """Divide structures into batches of similar sizes, with at most so many nodes or edges in each.

    The result depends on the sizes alone, shape ``(n_structures,)``, so that the same data gives
    the same batches everywhere. Every structure is in one batch, by itself if it is larger.
    """
    counts = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(counts, kind="stable")
    starts, filled = [], most + 1
    for position, size in enumerate(counts[order].tolist()):
        if filled + size > most:
            starts.append(position)
            filled = 0
        filled += size
    return np.split(order, starts[1:]) if starts else []


def load_of(graph: Data) -> int:
    """Count the edges of a graph, or what fills the memory like so many where the graph says so."""
    return graph.load if isinstance(graph, CrystalGraph) else int(graph.num_edges)


def _lengths(column: Sequence[Tensor]) -> Tensor:
    return torch.tensor([len(tensor) for tensor in column])


def _shift(column: Sequence[Tensor], counted: Tensor) -> Tensor:
    """Give what is added to each index in a batch, shape ``(n_indices,)``."""
    starts = counted.cumsum(0) - counted
    repeats = torch.tensor([tensor.shape[-1] for tensor in column])
    return torch.repeat_interleave(starts, repeats)
