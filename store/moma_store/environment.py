"""One LMDB environment: opened as the store needs it, shared within a process, its errors sorted.

LMDB must not open an environment twice in a process, so whatever opens the same file shares one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path
from typing import Any, ClassVar

import lmdb

from moma_store.errors import FormatError, IntegrityError, MomaError, StorageError
from moma_store.standard_descriptors import open_closed_descriptors

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
DATABASES = ("meta", "records", "refs", "history", "memo")

_MAX_READERS = 1024


class Environment:
    """One LMDB environment of this process.

    Parameters
    ----------
    path
        Its folder.
    map_size
        Bytes of address space to reserve.
    create
        Whether to make it; it is opened otherwise.

    Raises
    ------
    IntegrityError
        If the file is no LMDB environment.
    StorageError
        If LMDB cannot open it.
    """

    # By device and inode of the data file: links and bind mounts give one file several paths.
    _shared: ClassVar[dict[tuple[int, int], Environment]] = {}
    _shared_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, *, map_size: int, create: bool = False) -> None:
        self.path = path
        self._map_size = map_size
        self._pid = os.getpid()
        self._users = 1
        self._env: Any = None
        self._databases: dict[str, Any] = {}
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._open(create=create)

    @classmethod
    def share(cls, path: Path, *, map_size: int) -> Environment:
        """Open an environment, or join those who have it open in this process.

        Parameters
        ----------
        path
            Its folder.
        map_size
            Bytes of address space to reserve, if it is not open yet.

        Returns
        -------
        Environment
            The environment; `leave` it.

        Raises
        ------
        IntegrityError
            If it is missing or damaged.
        StorageError
            If it cannot be opened.
        """
        identity = _identity(path / DATA_FILE)
        with cls._shared_lock:
            environment = cls._shared.get(identity)
            if environment is None:
                environment = cls(path, map_size=map_size)
                cls._shared[identity] = environment
            else:
                environment._users += 1
        return environment

    def leave(self) -> None:
        """Undo one `share`, or the making; the last to leave closes the environment."""
        with self._shared_lock:
            self._users -= 1
            # A fork must leave the parent's reader slots and locks alone.
            if self._users > 0 or self._pid != os.getpid():
                return
            for identity, environment in list(self._shared.items()):
                if environment is self:
                    del self._shared[identity]
            self._close()

    @contextmanager
    def begin(self, *, write: bool) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Run a transaction: committed when the block ends, aborted if it fails.

        Parameters
        ----------
        write
            Whether it may write.

        Yields
        ------
        tuple[Any, dict[str, Any]]
            The LMDB transaction, and the LMDB databases by name.

        Raises
        ------
        IntegrityError
            If LMDB finds damage.
        StorageError
            If LMDB fails otherwise; a write transaction then wrote nothing.
        """
        env, databases = self._opened()
        txn = None
        try:
            txn = env.begin(write=write)
            yield txn, databases
            if write:
                txn.commit()
        except lmdb.Error as error:
            if write:
                self._drop(env, txn)
            raise _translated(error, self.path) from error
        finally:
            if txn is not None:
                txn.abort()

    def is_in_place(self) -> bool:
        """Tell whether the file that is open still has its path.

        Returns
        -------
        bool
            Whether it has.
        """
        try:
            return _identity(self.path / DATA_FILE) == self._file
        except MomaError:
            return False

    def copy(self, descriptor: int) -> None:
        """Write a compact copy.

        Parameters
        ----------
        descriptor
            An open, empty file.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        env, _ = self._opened()
        try:
            env.copyfd(descriptor, compact=True)
        except lmdb.Error as error:
            raise _translated(error, self.path) from error

    def readers(self) -> list[int]:
        """List the commits that living snapshots see, of this process and of others.

        Returns
        -------
        list[int]
            Numbers of transactions.

        Raises
        ------
        StorageError
            If LMDB fails.
        """
        env, _ = self._opened()
        try:
            env.reader_check()
            table = env.readers()
        except lmdb.Error as error:
            raise _translated(error, self.path) from error
        # A heading, then a line of process, thread and transaction each; "-" if it is between two.
        lines = [line.split() for line in table.splitlines()[1:]]
        return [int(line[2]) for line in lines if len(line) == 3 and line[2].isdigit()]

    def _opened(self) -> tuple[Any, dict[str, Any]]:
        if self._pid != os.getpid():
            raise StorageError(
                f"the catalogue {self.path} was opened in process {self._pid} and is used in its"
                f" fork {os.getpid()}; start processes with the method 'spawn'"
            )
        with self._lock:
            if self._env is None:
                self._open(create=False)
            return self._env, self._databases

    def _open(self, *, create: bool) -> None:
        open_closed_descriptors()  # the data file must not get the number of standard error
        # On-disk format 1, that of LMDB 0.9, is pinned: bindings from 3.0 on can write another,
        # older ones cannot and lack the argument.
        pinned: Any = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
        writable = create or os.access(self.path / DATA_FILE, os.W_OK)
        try:
            self._env = lmdb.open(
                str(self.path),
                map_size=self._map_size,
                max_dbs=len(DATABASES),
                max_readers=_MAX_READERS,
                create=create,
                readonly=not writable,
                **pinned,
            )
            self._env.reader_check()
            self._databases = {
                name: self._env.open_db(name.encode(), create=create) for name in DATABASES
            }
            self._file = _identity(self.path / DATA_FILE)
        except lmdb.Error as error:
            self._close()
            raise _translated(error, self.path) from error

    def _drop(self, env: Any, txn: Any) -> None:
        """Close the environment, to be opened afresh at the next use.

        LMDB may refuse every later transaction of an environment whose commit failed.
        """
        if txn is not None:
            txn.abort()
        with self._lock:
            if self._env is env:
                self._close()

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()


def _identity(data_file: Path) -> tuple[int, int]:
    try:
        status = data_file.stat()
    except FileNotFoundError as error:
        raise IntegrityError(
            f"the hub's catalogue is missing: no {data_file}; run `moma-cl verify --repair`"
        ) from error
    except OSError as error:
        raise StorageError(
            f"cannot read {data_file}: {error.strerror}", errno=error.errno
        ) from error
    if status.st_size == 0:
        # LMDB would take an empty file for a new environment.
        raise IntegrityError(
            f"the hub's catalogue {data_file} is empty; run `moma-cl verify --repair`"
        )
    return status.st_dev, status.st_ino


def _translated(error: lmdb.Error, path: Path) -> MomaError:
    """Sort an LMDB error into the project's tree."""
    damaged = (
        lmdb.CorruptedError,
        lmdb.InvalidError,
        lmdb.NotFoundError,
        lmdb.PageNotFoundError,
    )
    if isinstance(error, damaged):
        return IntegrityError(
            f"the catalogue {path} is damaged: {error}; run `moma-cl verify --repair`"
        )
    if isinstance(error, lmdb.VersionMismatchError):
        return FormatError(f"the catalogue {path} is in a format this LMDB does not know: {error}")
    number = getattr(error, "code", 0)
    if number == EACCES:
        # LMDB keeps a table of readers there, so that a writer spares what they see.
        return StorageError(
            f"the catalogue {path} cannot be opened: reading, too, needs the right to write to"
            f" {path / LOCK_FILE}; ask for it, or copy the hub",
            errno=EACCES,
        )
    return StorageError(
        f"the catalogue {path} cannot be read or written: {error}",
        errno=number if number > 0 else None,
    )
