"""Bases: blobs from which others are stored as differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from moma_store.codecs import Float32Array
from moma_store.manifest import Manifest
from moma_store.zarr_layout import DIFFERENCE_CHUNK

if TYPE_CHECKING:
    from moma_store.blobs import BlobReader


class Base(Protocol):
    """A blob from which others are stored as differences."""

    digest: str
    manifest: Manifest

    def piece(self, name: str, number: int) -> Float32Array:
        """Give one chunk of a one-dimensional array, in the chunks of a difference."""

    def chunks(self, name: str) -> Iterator[Float32Array]:
        """Give them all, verified by the end."""

    def verify(self) -> None:
        """Raise `IntegrityError` if anything in it is damaged."""


OpenBase = Callable[[str], AbstractContextManager[Base]]
"""Opens a base by its digest."""


class MemoryBase:
    """A base that was read and verified before.

    Parameters
    ----------
    reader
        The base; not used afterwards.

    Raises
    ------
    IntegrityError
        If it is damaged.
    """

    def __init__(self, reader: BlobReader) -> None:
        self.digest = reader.digest
        self.manifest = reader.manifest
        self._arrays = reader.read().arrays

    def piece(self, name: str, number: int) -> Float32Array:
        """See `Base.piece`."""
        start = number * DIFFERENCE_CHUNK
        return self._arrays[name][start : start + DIFFERENCE_CHUNK]

    def chunks(self, name: str) -> Iterator[Float32Array]:
        """See `Base.chunks`."""
        count = -(-len(self._arrays[name]) // DIFFERENCE_CHUNK)
        return (self.piece(name, number) for number in range(count))

    def verify(self) -> None:
        """Do nothing: it was verified when it was read."""
