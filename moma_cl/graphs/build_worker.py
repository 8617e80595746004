"""What a process that builds graphs does; its owner is `moma_cl.graphs.build`.

A request holds crystals, as `encode` writes their four arrays. Each graph is one reply, the entry
that goes into the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.registry import backbone_class
from moma_cl.core.worker_process import Answer
from moma_cl.graphs.codec import decode, encode
from moma_cl.structures.crystals import Crystal, PackedCrystals


def prepare(name: str) -> Answer:
    """Get ready to build the graphs of the backbone with this name."""
    torch.set_num_threads(1)
    backbone = backbone_class(name)

    def answer(request: bytes) -> Iterator[bytes]:
        (tensors,) = decode([request])
        arrays = {key: tensor.numpy() for key, tensor in (tensors or {}).items()}
        yield from entries_of(list(PackedCrystals(**arrays)), backbone)

    return answer


def entries_of(crystals: Sequence[Crystal], backbone: type[Backbone]) -> list[bytes]:
    """Build graphs, each as the entry that is kept in the cache."""
    return [encode(graph.to_dict()) for graph in backbone.to_graphs(crystals)]


def request_of(crystals: Sequence[Crystal]) -> bytes:
    """Write crystals as a request."""
    packed = PackedCrystals.pack(crystals)
    names = ("lattices", "atomic_numbers", "frac_coords", "offsets")
    return encode({name: torch.from_numpy(getattr(packed, name)) for name in names})
