"""A process that builds graphs; see `moma_cl.graphs.build` for its owner.

Messages are a length (eight bytes, big-endian) and as many bytes: crystals in, as `encode` writes
their four arrays, and one message per graph out, the entry that goes into the cache.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import warnings
from collections.abc import Sequence
from typing import IO

import torch

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.registry import backbone_class
from moma_cl.graphs.codec import decode, encode
from moma_cl.structures.crystals import Crystal, PackedCrystals

_LENGTH = struct.Struct(">Q")


def main(name: str) -> None:
    """Answer requests from standard input until it ends.

    Parameters
    ----------
    name
        Name of the backbone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then ends us
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the replies
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    backbone = backbone_class(name)
    while (request := receive(sys.stdin.buffer)) is not None:
        (tensors,) = decode([request])
        arrays = {key: tensor.numpy() for key, tensor in (tensors or {}).items()}
        for entry in entries_of(list(PackedCrystals(**arrays)), backbone):
            send(replies, entry)
        replies.flush()


def entries_of(crystals: Sequence[Crystal], backbone: type[Backbone]) -> list[bytes]:
    """Build graphs as they are kept in the cache.

    Parameters
    ----------
    crystals
        The structures.
    backbone
        The backbone's class.

    Returns
    -------
    list[bytes]
        The entry of each.
    """
    return [encode(graph.to_dict()) for graph in backbone.to_graphs(crystals)]


def request_of(crystals: Sequence[Crystal]) -> bytes:
    """Write crystals as a request.

    Parameters
    ----------
    crystals
        The structures.

    Returns
    -------
    bytes
        The body of the message.
    """
    packed = PackedCrystals.pack(crystals)
    names = ("lattices", "atomic_numbers", "frac_coords", "offsets")
    return encode({name: torch.from_numpy(getattr(packed, name)) for name in names})


def send(stream: IO[bytes], body: bytes) -> None:
    """Write one message, without flushing.

    Parameters
    ----------
    stream
        The pipe.
    body
        What to send.
    """
    stream.write(_LENGTH.pack(len(body)))
    stream.write(body)


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message.

    Parameters
    ----------
    stream
        The pipe.

    Returns
    -------
    bytes | None
        Its body, or none if the other end has closed the pipe.
    """
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    body = stream.read(length)
    return body if len(body) == length else None
