"""Locks of a hub: held by the kernel, so that a dead holder holds nothing.

They are never broken by age or by process id. What a lock file contains is for people only.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from moma_store import hub_layout
from moma_store.errors import BusyError
from moma_store.files import reported

PATIENCE = 5.0
"""Time that everybody waits for the writer lock, s: most hold it for a moment only."""

_POLL_SECONDS = 0.02


class FileLock:
    """A right that one process has at a time, such as to write to a hub, until `release`.

    Parameters
    ----------
    descriptor
        The open lock file, on which the lock is held.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._pid = os.getpid()

    @classmethod
    def acquire(
        cls, path: Path, *, wait: float, now: datetime, doing: str = "is being written by"
    ) -> FileLock:
        """Take the lock.

        Parameters
        ----------
        path
            The lock file, made where needed and never removed.
        wait
            How long to try, s.
        now
            Time to show to others.
        doing
            What the holder does to the hub, for the message.

        Returns
        -------
        FileLock
            The lock, held.

        Raises
        ------
        BusyError
            If someone, perhaps this process, still holds it when the time is up.
        StorageError
            If the file cannot be made or locked.
        """
        deadline = time.monotonic() + wait
        with reported("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                while not _locked(descriptor):
                    if time.monotonic() >= deadline:
                        raise BusyError(
                            f"the hub {path.parent} {doing} {_holder(path)};"
                            " try again when it is done"
                        )
                    time.sleep(_POLL_SECONDS)
                _sign(descriptor, now)
            except BaseException:
                os.close(descriptor)
                raise
        return cls(descriptor)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Tell whether somebody holds a lock now.

        Parameters
        ----------
        path
            The lock file.

        Returns
        -------
        bool
            Whether it is held. A holder that comes at the very moment of asking has to try twice.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system that has no locks has no holders
            return False
        finally:
            os.close(descriptor)
        return False

    def is_in_place(self, path: Path) -> bool:
        """Tell whether the file that is locked still has this path.

        The lock goes with the file when the hub is moved, and says nothing of another hub that has
        come to its place.
        """
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Let go; doing so twice does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # Closing without LOCK_UN: in a forked child that would take the lock from the parent.
        if self._pid == os.getpid():
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def writer_lock(hub: Path, *, wait: float, now: datetime) -> FileLock:
    """Take the writer lock of a hub; parameters and errors as in `FileLock.acquire`.

    Parameters
    ----------
    hub
        The hub's folder.
    wait
        How long to try, s; at least `PATIENCE` in any case.
    now
        Time to show to others.

    Returns
    -------
    FileLock
        The lock, held.
    """
    return FileLock.acquire(hub / hub_layout.WRITER_LOCK, wait=max(wait, PATIENCE), now=now)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int, now: datetime) -> None:
    holder = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "command": " ".join(sys.argv)[:200],
        "since": now.isoformat(timespec="seconds"),
    }
    # A full disk must not keep the one out who would make room.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        return (
            f"process {holder['pid']} on {holder['host']} since {holder['since']}"
            f" ({holder['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        # Read between taking the lock and signing, or on a full disk.
        return "another process"
