"""Graphs of many crystals: made once, kept in a cache, collated into batches."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data

from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.cache import ByteCache
from moma_cl.structures.crystals import Crystal, IntArray, PackedCrystals

# Few enough that a killed run loses seconds, many enough that commits cost nothing.
_WRITE_BATCH = 256
_MAGIC = b"moma-cl graph 1\n"
_NARROWED = "int64 in four bytes"


class GraphCache:
    """Graphs by backbone and structure, in a cache of bytes.

    Parameters
    ----------
    folder
        Where the cache lies; see `moma_cl.cache.ByteCache`.
    """

    def __init__(self, folder: Path) -> None:
        self._bytes = ByteCache(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the cache."""
        self._bytes.close()

    def get_many(self, keys: Sequence[bytes]) -> list[dict[str, Tensor] | None]:
        """Read graphs in one transaction.

        Parameters
        ----------
        keys
            Keys made by `graph_key`.

        Returns
        -------
        list[dict[str, Tensor] | None]
            The tensors of each graph, or none where it is missing or damaged.
        """
        return [_decode(value) for value in self._bytes.get_many(keys)]

    def put_many(self, graphs: Mapping[bytes, Mapping[str, Tensor]]) -> None:
        """Write graphs in one transaction.

        Parameters
        ----------
        graphs
            The tensors of each graph by its key.
        """
        self._bytes.put_many({key: _encode(tensors) for key, tensors in graphs.items()})


def graph_key(crystal: Crystal, backbone: type[Backbone]) -> bytes:
    """Name the graph that a backbone makes of a structure.

    Parameters
    ----------
    crystal
        The structure.
    backbone
        The backbone's class.

    Returns
    -------
    bytes
        Backbone, version of its graphs and digest of the structure's arrays.
    """
    digest = hashlib.sha256(np.ascontiguousarray(crystal.lattice, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(crystal.atomic_numbers, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(crystal.frac_coords, dtype="<f8").tobytes())
    return f"{backbone.name}/{backbone.graph_version}/".encode() + digest.digest()


def graphs_of(
    crystals: PackedCrystals | Sequence[Crystal],
    backbone: type[Backbone],
    cache: GraphCache | None = None,
) -> list[Data]:
    """Give the graph of every structure, from the cache where it is known.

    What is built is written every few hundred structures, so that a killed run resumes.

    Parameters
    ----------
    crystals
        The structures.
    backbone
        The backbone's class.
    cache
        Where graphs are looked up and kept.

    Returns
    -------
    list[Data]
        Graphs in the order of the structures.
    """
    if cache is None:
        return [
            graph
            for chunk in _chunks(crystals, _WRITE_BATCH)
            for graph in backbone.to_graphs(chunk)
        ]
    graphs: list[Data] = []
    for chunk in _chunks(crystals, _WRITE_BATCH):
        graphs.extend(_cached_graphs(chunk, backbone, cache))
    return graphs


def collate(graphs: Sequence[Data]) -> Batch:
    """Join graphs into one batch.

    The same as ``Batch.from_data_list``, without taking graphs out of the batch again, and
    several times faster for a `CrystalGraph`.

    Parameters
    ----------
    graphs
        Graphs of one backbone, at least one.

    Returns
    -------
    Batch
        The batch, with ``batch``, ``ptr`` and ``num_graphs``.
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


def batches_by_nodes(sizes: Sequence[int] | NDArray[np.integer], max_nodes: int) -> list[IntArray]:
    """Divide structures into batches of similar sizes within a budget.

    Depends on the sizes alone, so that the same data gives the same batches everywhere.

    Parameters
    ----------
    sizes
        Nodes (or edges) of each structure, shape ``(n_structures,)``.
    max_nodes
        Most nodes (or edges) of a batch; a structure larger than that is a batch by itself.

    Returns
    -------
    list[IntArray]
        Indices of the structures of each batch; every structure is in one.
    """
    counts = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(counts, kind="stable")
    starts, filled = [], max_nodes + 1
    for position, size in enumerate(counts[order].tolist()):
        if filled + size > max_nodes:
            starts.append(position)
            filled = 0
        filled += size
    return np.split(order, starts[1:]) if starts else []


def _cached_graphs(
    crystals: Sequence[Crystal], backbone: type[Backbone], cache: GraphCache
) -> Iterator[Data]:
    keys = [graph_key(crystal, backbone) for crystal in crystals]
    found = cache.get_many(keys)
    missing = [index for index, tensors in enumerate(found) if tensors is None]
    graphs = backbone.to_graphs([crystals[index] for index in missing]) if missing else []
    built = dict(zip(missing, graphs, strict=True))
    if built:
        cache.put_many({keys[index]: graph.to_dict() for index, graph in built.items()})
    for index, tensors in enumerate(found):
        yield built[index] if tensors is None else _graph(backbone.graph_class, tensors)


def _graph(graph_class: type[Data], tensors: dict[str, Tensor]) -> Data:
    if issubclass(graph_class, CrystalGraph):
        return graph_class.of(tensors)
    return graph_class(**tensors)


def _chunks(crystals: Iterable[Crystal], size: int) -> Iterator[list[Crystal]]:
    chunk: list[Crystal] = []
    for crystal in crystals:
        chunk.append(crystal)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _lengths(column: Sequence[Tensor]) -> Tensor:
    return torch.tensor([len(tensor) for tensor in column])


def _shift(column: Sequence[Tensor], counted: Tensor) -> Tensor:
    """How far each index moves in a batch, shape ``(n_indices,)``."""
    starts = counted.cumsum(0) - counted
    repeats = torch.tensor([tensor.shape[-1] for tensor in column])
    return torch.repeat_interleave(starts, repeats)


def _encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Join tensors of a kind end to end, after a header of names and shapes by kind.

    Tensors taken apart again one kind at a time cost a third of what they cost one by one.
    """
    sections: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        sections.setdefault(_section(tensor), []).append((name, tensor))
    # the widest first, so that every section is aligned
    ordered = sorted(sections.items(), key=lambda item: -_stored(item[0]).itemsize)
    header = {key: [(name, [*t.shape]) for name, t in members] for key, members in ordered}
    written = json.dumps(header, separators=(",", ":")).encode()
    flat = [t.to(_stored(key)).reshape(-1) for key, members in ordered for _, t in members]
    body = b"".join(part.numpy().tobytes() for part in flat)
    start = _MAGIC + len(written).to_bytes(4, "little")
    return start + written + bytes(-len(start + written) % 8) + body


def _decode(value: bytes | None) -> dict[str, Tensor] | None:
    if value is None or not value.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + 4
    end = start + int.from_bytes(value[len(_MAGIC) : start], "little")
    offset = end + -end % 8
    buffer = bytearray(value)  # tensors must be writable
    tensors: dict[str, Tensor] = {}
    for key, members in json.loads(value[start:end]).items():
        sizes = [math.prod(shape) for _, shape in members]
        count, stored = sum(sizes), _stored(key)
        flat = torch.zeros(0, dtype=stored)
        if count:
            flat = torch.frombuffer(buffer, dtype=stored, count=count, offset=offset)
        if key == _NARROWED:
            flat = flat.to(torch.int64)
        for (name, shape), part in zip(members, torch.split(flat, sizes), strict=True):
            tensors[name] = part if len(shape) == 1 else part.view(shape)
        offset += count * stored.itemsize
    return tensors


def _section(tensor: Tensor) -> str:
    """Name the kind of a tensor; indices that fit are kept in four bytes."""
    if tensor.dtype == torch.int64 and tensor.numel() and int(tensor.abs().max()) >= 1 << 31:
        return "int64"
    return _NARROWED if tensor.dtype == torch.int64 else str(tensor.dtype).removeprefix("torch.")


def _stored(section: str) -> torch.dtype:
    dtype: torch.dtype = torch.int32 if section == _NARROWED else getattr(torch, section)
    return dtype
