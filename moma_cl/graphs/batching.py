"""Graphs of many crystals: made once, kept in a cache, collated into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moma_cl.arraytypes import IntArray
from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.core.pyg import Batch, Data
from moma_cl.graphs.build import built
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.codec import decode
from moma_cl.structures.crystals import Crystal, PackedCrystals

# Few enough that a killed run loses seconds, many enough that commits cost nothing.
_AT_ONCE = 256


class GraphCache:
    """Graphs by backbone and structure, in a cache of bytes.

    Parameters
    ----------
    folder
        Where the cache lies; see `moma_cl.graphs.cache.ByteCache`.
    """

    def __init__(self, folder: Path) -> None:
        self._bytes = ByteCache(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the cache."""
        self._bytes.close()

    def get_many(self, keys: Sequence[bytes]) -> list[dict[str, Tensor] | None]:
        """Read the tensors of graphs by `graph_key`, none where one is missing or damaged."""
        return decode(self._bytes.get_many(keys))

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Write what `moma_cl.graphs.codec.encode` makes of each graph, by `graph_key`."""
        self._bytes.put_many(entries)


def graph_key(crystal: Crystal, backbone: type[Backbone]) -> bytes:
    """Name the graph of a structure: backbone, version of its graphs, digest of the structure."""
    digest = hashlib.sha256(np.ascontiguousarray(crystal.lattice, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(crystal.atomic_numbers, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(crystal.frac_coords, dtype="<f8").tobytes())
    return f"{backbone.name}/{backbone.graph_version}/".encode() + digest.digest()


def graphs_of(
    crystals: PackedCrystals | Sequence[Crystal],
    backbone: type[Backbone],
    cache: GraphCache | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Data]:
    """Give the graph of every structure, from the cache where it has it.

    What is built is written every few hundred structures, so that a killed run resumes. With a
    cache, much work is divided among processes, as many as there are cores to run on.

    Parameters
    ----------
    crystals
        The structures.
    backbone
        The backbone's class.
    cache
        Where graphs are looked up and kept.
    progress
        Called with the number of structures done.

    Returns
    -------
    list[Data]
        Graphs in the order of the structures.
    """
    listed = list(crystals)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(listed), _AT_ONCE)]
    if cache is None:
        return [graph for part in parts for graph in backbone.to_graphs(listed[part])]
    keys = [graph_key(crystal, backbone) for crystal in listed]
    graphs = [tensors for part in parts for tensors in cache.get_many(keys[part])]
    missing = [index for index, tensors in enumerate(graphs) if tensors is None]
    chunks = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
    done = len(listed) - len(missing)
    with closing(built([[listed[index] for index in c] for c in chunks], backbone)) as answers:
        for chunk, entries in zip(chunks, answers, strict=True):
            cache.put_many({keys[i]: entry for i, entry in zip(chunk, entries, strict=True)})
            for index, tensors in zip(chunk, decode(entries), strict=True):
                graphs[index] = tensors
            done += len(chunk)
            if progress is not None:
                progress(done)
    return [_graph(backbone.graph_class, tensors) for tensors in graphs if tensors is not None]


def graphs_from(entries: Sequence[bytes], backbone: type[Backbone]) -> list[Data]:
    """Make the graphs of entries of the cache, in their order."""
    decoded = decode(entries)
    return [_graph(backbone.graph_class, tensors) for tensors in decoded if tensors is not None]


def collate(graphs: Sequence[Data]) -> Batch:
    """Join graphs of one backbone, at least one, into one batch.

    The same as ``Batch.from_data_list``, without taking graphs out of the batch again, and several
    times faster for a `CrystalGraph`.
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


def batches_by_size(sizes: Sequence[int] | NDArray[np.integer], most: int) -> list[IntArray]:
    """Divide structures into batches of similar sizes within a budget.

    Depends on the sizes alone, so that the same data gives the same batches everywhere.

    Parameters
    ----------
    sizes
        Nodes or edges of each structure, shape ``(n_structures,)``.
    most
        Of them in a batch; a structure with more is a batch by itself.

    Returns
    -------
    list[IntArray]
        Indices of the structures of each batch; every structure is in one.
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


def _graph(graph_class: type[Data], tensors: dict[str, Tensor]) -> Data:
    if issubclass(graph_class, CrystalGraph):
        return graph_class.of(tensors)
    return graph_class(**tensors)


def _lengths(column: Sequence[Tensor]) -> Tensor:
    return torch.tensor([len(tensor) for tensor in column])


def _shift(column: Sequence[Tensor], counted: Tensor) -> Tensor:
    """How far each index moves in a batch, shape ``(n_indices,)``."""
    starts = counted.cumsum(0) - counted
    repeats = torch.tensor([tensor.shape[-1] for tensor in column])
    return torch.repeat_interleave(starts, repeats)
