"""What can be read of an open hub: records, refs, memos, history and blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moma_store import hub_layout
from moma_store.catalogue import Snapshot
from moma_store.entries import HistoryEntry, Memo
from moma_store.files import Files
from moma_store.hub_file import HubFile
from moma_store.objects import Objects
from moma_store.open_catalogue import Catalogue
from moma_store.records import BlobLink, JsonObject

if TYPE_CHECKING:
    import zarr

    from moma_store.bases import AnyArray
    from moma_store.blob_reader import Blob


class Reads:
    """The reads of `moma_store.store.Store`.

    Every read is one snapshot of the catalogue; `snapshot` holds one for several reads.

    Parameters
    ----------
    path
        The hub's folder.
    hub
        Its ``hub.toml``.
    catalogue
        Its catalogue.
    files
        The file system.

    Attributes
    ----------
    path
        The hub's folder.
    hub_id
        Random name of the hub, given when it was made.
    objects
        The folder of its blobs.
    files
        The file system.
    """

    def __init__(self, path: Path, hub: HubFile, catalogue: Catalogue, files: Files) -> None:
        self.path = path
        self.hub_id = hub.hub_id
        self.objects = Objects(path / hub_layout.OBJECTS, self.tmp_dir, files)
        self.files = files
        self._catalogue = catalogue
        # Caches are LMDB environments too: like the catalogue they must be on a local disk.
        self._cache = (hub.catalogue or path) / hub_layout.CACHE

    @property
    def cache_dir(self) -> Path:
        """Local folder, beside the catalogue, whose contents may be deleted at any time."""
        return self._cache

    @property
    def tmp_dir(self) -> Path:
        """Folder that the next writer empties."""
        return self.path / hub_layout.TMP

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Hold the catalogue as it is now for several reads.

        Yields
        ------
        Snapshot
            The reads; valid inside the block.
        """
        with self._catalogue.snapshot() as view:
            yield view

    def record(self, digest: str) -> JsonObject:
        """Read a record, verified; see `Snapshot.record`."""
        with self.snapshot() as view:
            return view.record(digest)

    def ref(self, name: str) -> str | None:
        """Read a ref; see `Snapshot.ref`."""
        with self.snapshot() as view:
            return view.ref(name)

    def refs(self, prefix: str = "") -> dict[str, str]:
        """Read the refs whose names begin alike; see `Snapshot.refs`."""
        with self.snapshot() as view:
            return view.refs(prefix)

    def memo(self, key: str) -> Memo | None:
        """Look a derivation up; see `Snapshot.memo`."""
        with self.snapshot() as view:
            return view.memo(key)

    def memos(self, prefix: str = "") -> dict[str, Memo]:
        """Read the memos whose keys begin alike; see `Snapshot.memos`."""
        with self.snapshot() as view:
            return view.memos(prefix)

    def history(
        self, *, limit: int | None = None, ref_prefix: str | None = None
    ) -> list[HistoryEntry]:
        """Read the history, newest first; see `Snapshot.history`."""
        with self.snapshot() as view:
            return view.history(limit=limit, ref_prefix=ref_prefix)

    def blob(self, link: BlobLink, names: Collection[str] | None = None) -> Blob:
        """Read a blob, verified.

        Parameters
        ----------
        link
            The blob.
        names
            Which arrays; all if None.

        Returns
        -------
        Blob
            Its header and arrays.

        Raises
        ------
        NotFoundError
            If the blob has no array of a name.
        IntegrityError
            If the file, or that of its base, is missing or damaged.
        StorageError
            If a file cannot be read.
        """
        return self.objects.read(link, names)

    def blob_pieces(self, link: BlobLink, name: str) -> Iterator[AnyArray]:
        """Read one array of a blob piece by piece, so that it need not fit into memory.

        Parameters
        ----------
        link
            The blob.
        name
            The array.

        Yields
        ------
        AnyArray
            The next elements along the first axis, a few MB.

        Raises
        ------
        IntegrityError
            If a file is damaged. That the array is what was stored shows after its last piece only.
        """
        with self.objects.open(link.digest) as reader:
            yield from reader.pieces(name)

    def open_group(self, digest: str) -> zarr.Group:
        """Open a blob's file with zarr-python, to be read only.

        Every array reads as `blob` gives it, differences from a base included, but zarr verifies
        no digests. The file stays open until ``group.store.close()``.

        Parameters
        ----------
        digest
            Logical digest of the blob.

        Returns
        -------
        zarr.Group
            The arrays by name; the header is in the attributes. Reading an array raises
            `IntegrityError` if the base's file is missing.

        Raises
        ------
        IntegrityError
            If the file is missing, or its metadata damaged.
        FormatError
            If its differences are in a layout that zarr cannot decode.
        StorageError
            If the file cannot be read.
        """
        from moma_store import zarr_codec

        return zarr_codec.open_group(self.objects.path(digest), digest)

    def blob_path(self, link: BlobLink) -> Path:
        """Give the path of a blob's file, whether or not it is there.

        Parameters
        ----------
        link
            The blob.

        Returns
        -------
        Path
            The file.
        """
        return self.objects.path(link.digest)
