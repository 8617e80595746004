"""What can be read of a hub: by its own store, an archive, or the part of it that a job carries."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from moma_store.records import BlobLink

if TYPE_CHECKING:
    from moma_store.blob_reader import Blob


class Readable(Protocol):
    """A store that can be read: the hub's, or the part of it that a job carries."""

    @property
    def cache_dir(self) -> Path:
        """Folder whose contents may be deleted at any time."""

    def record(self, digest: str) -> dict[str, Any]:
        """Look up a record."""

    def ref(self, name: str) -> str | None:
        """Look up a ref."""

    def blob(self, link: BlobLink, names: Collection[str] | None = None) -> Blob:
        """Read a blob, verified."""

    def blob_pieces(self, link: BlobLink, name: str) -> Iterator[NDArray[Any]]:
        """Read one array of a blob piece by piece."""
