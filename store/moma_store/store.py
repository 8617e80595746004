"""The store: a hub's blobs, records, refs, memos and history behind one class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from moma_store import hub_layout
from moma_store.backups import list_backups, write_backup
from moma_store.catalogue import Writer
from moma_store.clock import Clock, utc_now
from moma_store.errors import BusyError, InvalidInputError, StorageError
from moma_store.files import Files, is_full
from moma_store.hub_file import HubFile
from moma_store.hub_layout import make_hub
from moma_store.locking import FileLock, writer_lock
from moma_store.open_catalogue import MAP_SIZE, Catalogue
from moma_store.reads import Reads
from moma_store.records import BlobLink
from moma_store.transactions import Transaction

if TYPE_CHECKING:
    from moma_store.bases import AnyArray

logger = logging.getLogger(__name__)

COMMIT_WAIT = 3600.0
"""Time for which what took long to compute waits for the writer lock, s."""


class Store(Reads):
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
        The writer lock, which the store releases; None to hold it only in `writing`.
    files
        The file system.
    clock
        Gives the times shown in history.
    """

    def __init__(
        self,
        path: Path,
        hub: HubFile,
        catalogue: Catalogue,
        *,
        lock: FileLock | None,
        files: Files,
        clock: Clock,
    ) -> None:
        super().__init__(path, hub, catalogue, files)
        self._lock = lock
        self._clock = clock
        self._wrote = False

    @classmethod
    def create(
        cls,
        path: Path,
        *,
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
        make_hub(path, catalogue=home, files=files, map_size=map_size)
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
            Whether to be its writer until it is closed, which one process may be at a time; who
            writes for a moment only does so in `writing`. Readers never wait.
        wait
            How long to wait for another writer, s; for a moment in any case.
        files
            The file system.
        clock
            As in `create`.
        map_size
            As in `create`.

        Returns
        -------
        Store
            The hub.

        Raises
        ------
        NotFoundError, BusyError
            If there is no hub, or another writer is still there when the time is up.
        FormatError
            If a newer version made the hub; nothing was read or written.
        IntegrityError, StorageError
            If ``hub.toml`` or the catalogue is damaged, or the disk refuses.
        """
        path, files = Path(path).absolute(), files or Files()
        hub = HubFile.read(path)
        home = hub.catalogue or path / hub_layout.CATALOGUE
        lock = writer_lock(path, wait=wait, now=clock()) if write else None
        try:
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
        self._close(backup=kind is None)  # whose error would only hide another on its way up

    def close(self) -> None:
        """Let go of the hub, after a backup of the catalogue if anything was written to it."""
        self._close(backup=True)

    # Writes

    @contextmanager
    def writing(self, *, wait: float = COMMIT_WAIT) -> Iterator[None]:
        """Be the hub's writer for as long as the block lasts: for a moment, nothing long in it.

        Whoever is the writer already goes on being it.

        Parameters
        ----------
        wait
            How long to wait for another writer, s; for a moment in any case.

        Yields
        ------
        None
            In the block, the store can be written to.

        Raises
        ------
        BusyError
            If another writer is still there when the time is up.
        IntegrityError
            If the catalogue is damaged.
        StorageError
            If the catalogue was replaced since it was opened, or the disk refuses.
        """
        if self._lock is not None:
            yield
            return
        self._lock = writer_lock(self.path, wait=wait, now=self._clock())
        try:
            self._catalogue.check_for_writing()
            self._clear_tmp()
            yield
        finally:
            lock, self._lock = self._lock, None
            lock.release()

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

    def _back_up_at_the_end(self) -> None:
        """Back up what a session wrote; without a copy its commits have succeeded all the same.

        An error would make whoever makes room, or has just stored something, do it again.
        """
        try:
            with self.writing(wait=0.0):
                self.backup()
        except BusyError:
            logger.info("%s is not copied: another process is writing to it", self.path)
        except StorageError as error:
            if not is_full(self.path, error):
                raise
            logger.warning(
                "what was done is stored, but the disk of %s has no room for a new copy of the"
                " catalogue in %s; free some space",
                self.path,
                hub_layout.BACKUPS,
            )

    def _clear_tmp(self) -> None:
        for leftover in self.tmp_dir.iterdir():  # of who held the lock that is now held
            self.files.remove(leftover)

    def _require_writer(self) -> None:
        if self._lock is None:
            raise InvalidInputError(
                f"the hub {self.path} is open for reading; open it with write=True or use `writing`"
            )

    def _close(self, *, backup: bool) -> None:
        try:
            if backup and self._wrote:
                self._back_up_at_the_end()
        finally:
            self._catalogue.close()
            self.objects.close()
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()
