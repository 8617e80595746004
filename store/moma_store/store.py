"""The store: a hub's blobs, records, refs, memos and history behind one class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from moma_store import hub_layout
from moma_store.backups import list_backups, write_backup
from moma_store.catalogue import MAP_SIZE, Catalogue, Snapshot, Writer
from moma_store.entries import HistoryEntry, Memo
from moma_store.errors import InvalidInputError
from moma_store.files import Files
from moma_store.hub_file import HubFile
from moma_store.hub_layout import make_hub
from moma_store.locking import WriterLock
from moma_store.objects import Objects
from moma_store.records import BlobLink, JsonObject
from moma_store.transactions import Transaction

if TYPE_CHECKING:
    import zarr

    from moma_store.bases import AnyArray
    from moma_store.blob_reader import Blob

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Give the time, for the store to show to people."""
    return datetime.now(UTC)


class Store:
    """An open hub; a context manager. Call `create` or `open` rather than the class.

    Every read is one snapshot of the catalogue; `snapshot` holds one for several reads.

    Parameters
    ----------
    path
        The hub's folder.
    hub
        Its ``hub.toml``.
    catalogue
        Its catalogue, which the store closes.
    lock
        The writer lock, which the store releases; None to read only.
    files
        The file system.
    clock
        Gives the times shown in history.

    Attributes
    ----------
    path
        The hub's folder.
    hub_id
        Random name of the hub, given when it was made.
    backbone
        Name and digest of the backbone the hub is bound to.
    objects
        The folder of its blobs.
    files
        The file system.
    """

    def __init__(
        self,
        path: Path,
        hub: HubFile,
        catalogue: Catalogue,
        *,
        lock: WriterLock | None,
        files: Files,
        clock: Clock,
    ) -> None:
        self.path = path
        self.hub_id = hub.hub_id
        self.backbone = dict(hub.backbone)
        self.objects = Objects(path / hub_layout.OBJECTS, self.tmp_dir, files)
        self._catalogue = catalogue
        self._lock = lock
        self.files = files
        self._clock = clock
        self._wrote = False
        # Caches are LMDB environments too: like the catalogue they must be on a local disk.
        self._cache = (hub.catalogue or path) / hub_layout.CACHE

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        backbone: Mapping[str, str],
        catalogue: Path | None = None,
        files: Files | None = None,
        clock: Clock = utc_now,
        map_size: int = MAP_SIZE,
    ) -> Store:
        """Make a hub and open it for writing.

        Parameters
        ----------
        path
            Where; an empty folder or none, or one where an earlier attempt was interrupted.
        backbone
            Name and digest of the backbone.
        catalogue
            Folder for the catalogue, if it is not to be in the hub; empty or absent.
        files
            The file system.
        clock
            Gives the times shown in history.
        map_size
            Bytes of address space for the catalogue, the most it can hold.

        Returns
        -------
        Store
            The hub.

        Raises
        ------
        AlreadyExistsError
            If a folder holds something already.
        InvalidInputError
            If the catalogue would be on a network file system.
        StorageError
            If the disk refuses.
        """
        files = files or Files()
        path = Path(path).absolute()
        home = None if catalogue is None else Path(catalogue).absolute()
        make_hub(path, backbone=backbone, catalogue=home, files=files, map_size=map_size)
        return cls.open(path, write=True, files=files, clock=clock, map_size=map_size)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        write: bool = False,
        wait: float = 0.0,
        files: Files | None = None,
        clock: Clock = utc_now,
        map_size: int = MAP_SIZE,
    ) -> Store:
        """Open a hub.

        Parameters
        ----------
        path
            Its folder.
        write
            Whether to write to it, which one process may do at a time; readers never wait.
        wait
            How long to wait for another writer, s.
        files
            The file system.
        clock
            Gives the times shown in history.
        map_size
            As in `create`.

        Returns
        -------
        Store
            The hub.

        Raises
        ------
        NotFoundError
            If there is no hub.
        BusyError
            If another writer is still there when the time is up.
        FormatError
            If a newer version made the hub; nothing was read or written.
        IntegrityError
            If ``hub.toml`` or the catalogue is damaged.
        StorageError
            If the disk refuses.
        """
        files = files or Files()
        path = Path(path).absolute()
        hub = HubFile.read(path)
        lock = (
            WriterLock.acquire(path / hub_layout.WRITER_LOCK, wait=wait, now=clock())
            if write
            else None
        )
        try:
            home = hub.catalogue or path / hub_layout.CATALOGUE
            catalogue = Catalogue.open(home, hub, writing=write, map_size=map_size)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        store = cls(path, hub, catalogue, lock=lock, files=files, clock=clock)
        if write:
            store._clear_tmp()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # While another error is on its way up, one from the backup would only hide it.
        self._close(backup=kind is None)

    def close(self) -> None:
        """Let go of the hub, after a backup of the catalogue if anything was written to it."""
        self._close(backup=True)

    @property
    def cache_dir(self) -> Path:
        """Local folder, beside the catalogue, whose contents may be deleted at any time."""
        return self._cache

    @property
    def tmp_dir(self) -> Path:
        """Folder that the next writer empties."""
        return self.path / hub_layout.TMP

    # Reads

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

    # Writes

    def put_blob(
        self,
        arrays: Mapping[str, AnyArray],
        header: Mapping[str, Any],
        *,
        base: BlobLink | None = None,
    ) -> BlobLink:
        """Store arrays; they are on disk when this returns, and stored once if they were before.

        A stored copy that turns out to be damaged is replaced.

        Parameters
        ----------
        arrays
            The arrays by name, of numbers or booleans.
        header
            A small JSON object.
        base
            A blob stored whole, from whose arrays one-dimensional float32 arrays of the same name
            and shape are stored as the difference.

        Returns
        -------
        BlobLink
            What a record needs to refer to the blob.

        Raises
        ------
        InvalidInputError
            If something cannot be stored, or the hub is not open for writing.
        IntegrityError
            If the base is damaged.
        StorageError
            If the disk refuses; nothing is left behind.
        """
        self._require_writer()
        return self.objects.put(arrays, header, base)

    @contextmanager
    def transaction(
        self, action: str, detail: Mapping[str, Any] | None = None
    ) -> Iterator[Transaction]:
        """Change the catalogue: when the block ends, all at once and durably, or not at all.

        Parameters
        ----------
        action
            What is being done, for the history, such as ``add-task``.
        detail
            What else the history should remember; JSON.

        Yields
        ------
        Transaction
            The changes. If refs moved, they make one entry in the history.

        Raises
        ------
        ConflictError
            If a ref is not where the caller expected it.
        InvalidInputError
            If something cannot be stored, or the hub is not open for writing.
        StorageError
            If the disk refuses; nothing was changed.
        """
        self._require_writer()
        pending = Transaction(
            self._catalogue,
            action=action,
            detail=dict(detail or {}),
            at=self._clock().astimezone(UTC).isoformat(timespec="milliseconds"),
            has_blob=self.objects.has,
        )
        try:
            yield pending
            self._wrote |= pending.commit()
        finally:
            pending.end()

    def backup(self) -> Path:
        """Write a compact copy of the catalogue to ``backups/``, of which two are kept.

        Returns
        -------
        Path
            The copy: an LMDB data file.

        Raises
        ------
        StorageError
            If it cannot be written; earlier ones are then kept.
        """
        self._require_writer()
        copy = write_backup(self.path, self._catalogue, self.objects.draft(), files=self.files)
        self._wrote = False
        return copy

    def backups(self) -> list[Path]:
        """List the copies of the catalogue, oldest first."""
        return list_backups(self.path)

    # Upkeep

    def has_old_readers(self) -> bool:
        """Tell whether a living snapshot of any process is older than the last commit."""
        with self.snapshot() as view:
            newest = view.transaction
            oldest = self._catalogue.oldest_reader()
        return oldest is not None and oldest < newest

    @contextmanager
    def maintain(self) -> Iterator[Writer]:
        """Change the catalogue past `transaction`: for what removes, or copies a whole hub.

        Yields
        ------
        Writer
            The writes, made together when the block ends.

        Raises
        ------
        StorageError
            If the disk refuses; nothing was changed.
        """
        self._require_writer()
        with self._catalogue.write() as writer:
            yield writer
        self._wrote = True

    def _clear_tmp(self) -> None:
        # Whoever left something here is gone: it held the lock that is now held.
        for leftover in self.tmp_dir.iterdir():
            self.files.remove(leftover)

    def _require_writer(self) -> None:
        if self._lock is None:
            raise InvalidInputError(
                f"the hub {self.path} is open for reading; open it with write=True to change it"
            )

    def _close(self, *, backup: bool) -> None:
        try:
            if backup and self._wrote and self._lock is not None:
                self.backup()
        finally:
            self._catalogue.close()
            self.objects.close()
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()
