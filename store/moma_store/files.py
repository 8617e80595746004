"""The file system as the store uses it: every blob file passes through `Files`.

A blob becomes visible in three steps, each durable before the next: the bytes are written to a new
file and forced to disk, the file is renamed to its final name, and the folders that gained a name
are forced to disk. Fault injection overrides the primitives, one method per system call.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path
from typing import BinaryIO

from moma_store.errors import StorageError

_HASHED_AT_ONCE = 1 << 18  # bytes
_NO_ROOM = 1 << 20  # bytes left on a disk that is as good as full

# As /proc/mounts names them. A FUSE type is listed only where its data lies on another machine.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.cephfs", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip


class Files:
    """Durable file operations; whatever the operating system refuses becomes a `StorageError`."""

    # Primitives, which raise OSError.

    def create(self, path: Path) -> BinaryIO:
        """Open a file for writing that must not exist yet."""
        return path.open("xb")

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading."""
        return path.open("rb")

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read from an open file; fewer bytes at its end."""
        return os.pread(descriptor, size, offset)

    def read_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Fill a buffer from an open file, and tell how far; not to the end at the file's end."""
        return os.preadv(descriptor, [buffer], offset)

    def fsync(self, descriptor: int) -> None:
        """Force an open file or folder to the medium."""
        if sys.platform == "darwin":
            # fsync on macOS stops at the drive's own cache.
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)

    def make_folder(self, path: Path) -> None:
        """Make a folder unless it is there; its parent must be."""
        path.mkdir(exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, atomically replacing what had it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file unless it is absent."""
        path.unlink(missing_ok=True)

    def listing(self, folder: Path) -> list[os.DirEntry[str]]:
        """List a folder, by name."""
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    # What the store calls.

    @contextmanager
    def write_new(self, path: Path) -> Iterator[BinaryIO]:
        """Write a new file which is on disk when the block ends, and gone if the block fails.

        Parameters
        ----------
        path
            Where; nothing may be there.

        Yields
        ------
        BinaryIO
            The file, open for writing.

        Raises
        ------
        StorageError
            If the file cannot be written, or not forced to disk.
        """
        with reported("write", path):
            stream = self.create(path)  # whatever is there already is not ours to discard
        try:
            with reported("write", path), stream:
                yield stream
                stream.flush()
                self.fsync(stream.fileno())
        except BaseException:
            self._discard(path)
            raise

    def publish(self, source: Path, target: Path) -> None:
        """Move a finished file of the same file system to its final name, durably.

        Parameters
        ----------
        source
            A file that `write_new` has finished.
        target
            The final name. Its folder is made where needed; the folder above must exist.

        Raises
        ------
        StorageError
            If any step fails; `target` is then as before, or complete but perhaps not durable.
        """
        with reported("publish", target):
            self.make_folder(target.parent)
            self.rename(source, target)
        self.settle(target)

    @contextmanager
    def write_published(self, temporary: Path, target: Path) -> Iterator[BinaryIO]:
        """Write a file that appears under its final name, complete and durable, or not at all.

        Parameters
        ----------
        temporary
            Where it is written first; nothing is left there.
        target
            The final name, as in `publish`.

        Yields
        ------
        BinaryIO
            The file, open for writing.

        Raises
        ------
        StorageError
            If any step fails.
        """
        with self.write_new(temporary) as stream:
            yield stream
        try:
            self.publish(temporary, target)
        except BaseException:
            self._discard(temporary)
            raise

    def settle(self, path: Path) -> None:
        """Make the name of a published file durable.

        The folder above is forced as well, since whoever made the file's folder may have been
        killed before its name was durable.

        Parameters
        ----------
        path
            The published file.

        Raises
        ------
        StorageError
            If a folder cannot be forced to disk.
        """
        for folder in (path.parent, path.parent.parent):
            self.sync_path(folder)

    def sync_path(self, path: Path) -> None:
        """Force one file or folder to disk.

        Parameters
        ----------
        path
            The file or folder.

        Raises
        ------
        StorageError
            If that fails.
        """
        with reported("force to disk", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file unless it is absent.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        StorageError
            If it cannot be removed.
        """
        with reported("remove", path):
            self.unlink(path)

    def sha256(self, path: Path) -> str:
        """Hash a file.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        str
            SHA-256 of its bytes, hexadecimal.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        with reported("read", path), self.open(path) as stream:
            state = hashlib.sha256()
            while piece := stream.read(_HASHED_AT_ONCE):
                state.update(piece)
            return state.hexdigest()

    def _discard(self, path: Path) -> None:
        # The failure under way matters more than a leftover, which the next writer removes.
        with suppress(OSError):
            self.unlink(path)


@contextmanager
def reported(action: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError`.

    Parameters
    ----------
    action
        What was attempted, for the message.
    path
        On which file or folder.

    Yields
    ------
    None
        Nothing; the block is run once.

    Raises
    ------
    StorageError
        If the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot {action} {path}: {error.strerror or error}", errno=error.errno
        ) from error


def is_full(path: Path, error: StorageError) -> bool:
    """Tell whether a write failed since the disk of a path is full.

    Where a part of what it writes has room, LMDB reports an input/output error; then the room that
    is left decides.
    """
    if error.errno != EIO:
        return error.errno in {ENOSPC, EDQUOT}
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM


def network_file_system(path: Path, *, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Tell whether a path lies on a network file system.

    Parameters
    ----------
    path
        A path, which need not exist.
    mounts
        The mount table, in the format of Linux.

    Returns
    -------
    str | None
        Type of the network file system; None on a local one, or where there is no mount table.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    best, found = -1, ""
    for line in lines:
        _, mount_point, kind = line.split(" ")[:3]
        folder = Path(_unescaped(mount_point))
        # A later line hides an earlier one at the same point, hence >=.
        if resolved.is_relative_to(folder) and len(folder.parts) >= best:
            best, found = len(folder.parts), kind
    return found if found in _NETWORK_FILE_SYSTEMS else None


def _unescaped(mount_point: str) -> str:
    """Undo the octal escapes of the mount table."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mount_point = mount_point.replace(escape, character)
    return mount_point
