"""Graphs of many structures: read from a cache, and built and kept there where they are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
from torch import Tensor

from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.core.pyg import Data
from moma_cl.graphs.build import built
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.codec import decode
from moma_cl.structures.crystals import Crystal, PackedCrystals

# Few enough that a killed run loses seconds, many enough that commits cost nothing.
_AT_ONCE = 256


def graph_key(crystal: Crystal, backbone: type[Backbone]) -> bytes:
    """Give the key of a structure's graph in the cache.

    It is made of the backbone's name, the version of its graphs, and a digest of the structure's
    arrays.
    """
    digest = hashlib.sha256(np.ascontiguousarray(crystal.lattice, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(crystal.atomic_numbers, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(crystal.frac_coords, dtype="<f8").tobytes())
    return f"{backbone.name}/{backbone.graph_version}/".encode() + digest.digest()


def graphs_of(
    crystals: PackedCrystals | Sequence[Crystal],
    backbone: type[Backbone],
    cache: ByteCache | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Data]:
    """Give the graph of every structure, in order; a cache is read first, and gets what it lacks.

    With a cache, whose entries are by `graph_key`, graphs are written every few hundred structures,
    so that a killed run goes on where it was, and many graphs are built by as many processes as
    there are cores to run on. ``progress`` is told the number of structures done.
    """
    listed = list(crystals)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(listed), _AT_ONCE)]
    if cache is None:
        return [graph for part in parts for graph in backbone.to_graphs(listed[part])]
    keys = [graph_key(crystal, backbone) for crystal in listed]
    graphs = [tensors for part in parts for tensors in decode(cache.get_many(keys[part]))]
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
    return _graphs(graphs, backbone)


def graphs_from(entries: Sequence[bytes], backbone: type[Backbone]) -> list[Data]:
    """Give the graph of each entry of the cache, in order."""
    return _graphs(decode(entries), backbone)


def _graphs(graphs: Sequence[dict[str, Tensor] | None], backbone: type[Backbone]) -> list[Data]:
    make = backbone.graph_class
    if issubclass(make, CrystalGraph):
        return [make.of(tensors) for tensors in graphs if tensors is not None]
    return [make(**tensors) for tensors in graphs if tensors is not None]
