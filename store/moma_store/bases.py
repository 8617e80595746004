"""Bases: blobs from which others are stored as differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from moma_store.codecs import Float32Array
from moma_store.manifest import ArraySpec, Manifest
from moma_store.zarr_layout import DIFFERENCE_CHUNK

AnyArray = NDArray[Any]
"""An array that a blob may hold."""


class Base(Protocol):
    """A blob from which others are stored as differences."""

    digest: str
    manifest: Manifest

    def piece(self, name: str, number: int) -> Float32Array:
        """Give one chunk of a one-dimensional array, in the chunks of a difference.

        It is valid until the same thread asks for the next one.
        """

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
    digest
        Its logical digest.
    manifest
        Its manifest.
    arrays
        All its arrays by name.
    """

    def __init__(self, digest: str, manifest: Manifest, arrays: Mapping[str, AnyArray]) -> None:
        self.digest = digest
        self.manifest = manifest
        self._arrays = arrays

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


def alike(dtype: str, shape: tuple[int, ...], other: ArraySpec | None) -> bool:
    """Tell whether an array may be stored as the difference from another.

    Parameters
    ----------
    dtype
        Name of the array's dtype.
    shape
        Its shape.
    other
        The array of its name in the base, if there is one.

    Returns
    -------
    bool
        Whether both are one-dimensional float32 arrays of one length, which is not 0.
    """
    return (
        other is not None
        and dtype == other.dtype == "float32"
        and shape == other.shape
        and len(shape) == 1
        and shape[0] > 0
    )
