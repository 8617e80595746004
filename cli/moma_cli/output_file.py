"""Files that a command writes: each appears under its name when it is whole, written by one run.

What is no plain file, such as a device or a pipe, is written into and never replaced.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moma_store.errors import BusyError, InvalidInputError

_DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")
"""How the names of what a process has open begin: standard output, wherever it goes."""


def unfinished_path(file: Path) -> Path:
    """Name the file that is written to before it is complete."""
    return file.with_name(f"{file.name}.unfinished")


def final_path(file: Path) -> Path:
    """Follow links to where a file is or will be: a new file must not take a link's place."""
    return file if is_special(file) else Path(os.path.realpath(file))


@contextmanager
def published(file: Path, *, keep: bool) -> Iterator[Path]:
    """Give a path to write to, which gets the name `file` once it is complete.

    Parameters
    ----------
    file
        The name of the complete file, as `final_path` gives it.
    keep
        Whether what an interrupted run has written is kept.

    Yields
    ------
    Path
        The path to write to; `file` itself where `is_special`, to be opened for appending, since
        what it stands for may hold more than this run writes.

    Raises
    ------
    BusyError
        If another run is writing this file.
    InvalidInputError
        If there is a folder of this name.
    """
    if is_special(file):
        yield file
        return
    path = unfinished_path(file)
    descriptor = _locked(path, file)
    try:
        yield path
        # A name that survives a power cut must not name an empty file.
        os.fsync(descriptor)
        path.replace(file)
    except BaseException:
        with suppress(OSError):
            if not (keep and path.stat().st_size):
                path.unlink()
        raise
    finally:
        os.close(descriptor)


def write_file(file: Path, text: str) -> None:
    """Write a text file, whole or not at all; a device or a pipe is written into."""
    target = final_path(file)
    mode = "a" if is_special(target) else "w"
    with published(target, keep=False) as path, path.open(mode, encoding="utf-8") as stream:
        stream.write(text)


def is_special(file: Path) -> bool:
    """Tell whether a name stands for anything but a plain file; refuse a folder."""
    if str(file.absolute()).startswith(_DESCRIPTORS):
        return True
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise InvalidInputError(f"{file} is a folder; name a file in it")
    return not stat.S_ISREG(mode)


def _locked(path: Path, file: Path) -> int:
    """Open the unfinished file and lock it against other runs, whose rows would mix with ours."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BusyError(
                f"another run is writing {file}; wait for it, or write to another file"
            ) from error
        except OSError:
            return descriptor  # a file system without locks
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # the other run has just finished, and taken its file along
