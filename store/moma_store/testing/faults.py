"""A file system that refuses calls, or stops the process at one."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any, BinaryIO

from moma_store.files import Files

READS = frozenset({"open", "read", "list"})
"""Names of the operations that change nothing."""


class FaultyFiles(Files):
    """A file system that counts its calls and refuses some.

    Parameters
    ----------
    errno
        With which error a call is refused; None kills the process instead, as ``kill -9`` does.
    at
        Numbers of the calls to refuse, as in `arm`.

    Attributes
    ----------
    trace
        Name of the operation and file name of each call since `arm`, or ever.
    """

    def __init__(self, *, errno: int | None, at: tuple[int, ...] = ()) -> None:
        self.trace: list[tuple[str, str]] = []
        self._errno = errno
        self._fail_at: frozenset[int] = frozenset(at)

    @property
    def changes(self) -> list[str]:
        """The operations in the trace that change something, in order."""
        return [operation for operation, _ in self.trace if operation not in READS]

    def arm(self, *calls: int) -> None:
        """Begin to count afresh and choose which calls to refuse.

        Parameters
        ----------
        *calls
            Their numbers, the next call being 0; none lets all pass.
        """
        self.trace.clear()
        self._fail_at = frozenset(calls)

    def create(self, path: Path) -> BinaryIO:
        """Count or fail, then open a file whose every write does the same."""
        self.step("create", path)
        return io.BufferedWriter(_CountedFile(path, self))

    def open(self, path: Path) -> BinaryIO:
        """Count or fail, then open a file for reading."""
        self.step("open", path)
        return super().open(path)

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """Count or fail, then read."""
        self.step("read", Path(str(descriptor)))
        return super().read_at(descriptor, size, offset)

    def read_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Count or fail, then read."""
        self.step("read", Path(str(descriptor)))
        return super().read_into(descriptor, buffer, offset)

    def listing(self, folder: Path) -> list[os.DirEntry[str]]:
        """Count or fail, then list a folder."""
        self.step("list", folder)
        return super().listing(folder)

    def fsync(self, descriptor: int) -> None:
        """Count or fail, then force to disk."""
        self.step("fsync", Path(str(descriptor)))
        super().fsync(descriptor)

    def make_folder(self, path: Path) -> None:
        """Count or fail, then make a folder."""
        self.step("make_folder", path)
        super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        """Count or fail, then rename."""
        self.step("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Count or fail, then remove."""
        self.step("unlink", path)
        super().unlink(path)

    def step(self, operation: str, path: Path) -> None:
        """Count one call, and fail if it is one that should.

        Parameters
        ----------
        operation
            Its name.
        path
            What it is applied to.

        Raises
        ------
        OSError
            If this call should fail.
        """
        self.trace.append((operation, path.name))
        if len(self.trace) - 1 not in self._fail_at:
            return
        if self._errno is None:
            os.kill(os.getpid(), signal.SIGKILL)
            return
        raise OSError(self._errno, os.strerror(self._errno), str(path))


class _CountedFile(io.FileIO):
    def __init__(self, path: Path, files: FaultyFiles) -> None:
        super().__init__(path, "xb")
        self._path = path
        self._files = files

    def write(self, data: Any, /) -> int:
        self._files.step("write", self._path)
        return super().write(data)
