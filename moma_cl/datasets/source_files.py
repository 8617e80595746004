"""Files and folders that rows are read from: the digest of their content, and whether it changes.

Nothing heavy is imported, since every check of the inbox uses this.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from moma_cl.core.printable import printable

Signature = tuple[tuple[str, int, int, int], ...]
"""Of each file: name within the folder, size in bytes, time of change in ns, and inode."""


def source_of(path: Path) -> dict[str, str]:
    """Give the name of a file or folder and, if it can be read, the SHA-256 of its content."""
    with suppress(OSError):  # reading the rows says what is wrong
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # others may have no end, or nobody to write
            return {"name": printable(path.name), "sha256": content_digest(path)}
    return {"name": printable(path.name)}


def content_digest(path: Path) -> str:
    """Hash the bytes of a file, or the names and digests of a folder's files.

    Gives a hexadecimal SHA-256. Raises `OSError` if something cannot be read.
    """
    if path.is_dir():
        lines = (f"{_name(file, path)}\0{content_digest(file)}\n" for file in _files(path))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def signature(path: Path) -> Signature:
    """Give name, size, time of change and inode of a file, or of each file of a folder.

    Equal signatures mean that nothing was written in between. Each file is opened, since that makes
    the client of a network file system ask the server rather than its cache. Raises `OSError` if
    something is gone or cannot be opened.
    """
    facts = _facts(path)
    if not stat.S_ISDIR(facts.st_mode):
        return (_signed(".", facts),)
    return tuple(_signed(_name(file, path), _facts(file)) for file in _files(path))


def _signed(name: str, facts: os.stat_result) -> tuple[str, int, int, int]:
    return name, facts.st_size, facts.st_mtime_ns, facts.st_ino


def _facts(path: Path) -> os.stat_result:
    # Opening a named pipe would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> Iterator[Path]:
    """List the files of a folder and below, in a fixed order; links to folders are not followed."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        elif entry.is_file():
            yield entry


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
