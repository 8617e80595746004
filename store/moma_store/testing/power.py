"""Power cuts: everything that was written is recorded, then replayed with parts of it lost.

A disk may keep what was not forced to it, lose it, or keep any part of it, in any order: each page
of a write by itself, and each new, changed or removed name in a folder by itself. What was forced
stays. `Disk.cut` draws one such outcome.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, BinaryIO

from moma_store.files import Files

_PAGE = 4096


class EventKind(StrEnum):
    """What happened to a file or folder."""

    CREATE = "create"
    WRITE = "write"
    SYNC = "sync"  # a file's content, or the names in a folder, are forced to disk
    FOLDER = "folder"  # a folder is made
    RENAME = "rename"
    REMOVE = "remove"
    ACKNOWLEDGE = "acknowledge"  # the program told someone that it was done


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One call that changed something.

    Attributes
    ----------
    kind
        What happened.
    path
        To what, relative to the recorded folder.
    target
        New name, for a rename.
    offset
        Where a write began, bytes.
    data
        What was written, or acknowledged.
    """

    kind: EventKind
    path: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""


class RecordingFiles(Files):
    """A file system that records what is done below one folder.

    Parameters
    ----------
    root
        The folder.

    Attributes
    ----------
    events
        What was done, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.events: list[Event] = []

    def acknowledge(self, data: bytes = b"") -> None:
        """Note that what was done so far is promised to survive."""
        self.events.append(Event(kind=EventKind.ACKNOWLEDGE, data=data))

    def note_content(self, path: Path) -> None:
        """Note the whole content of a file that was written by other means and forced to disk."""
        name = self._name(path)
        self.events.append(Event(kind=EventKind.WRITE, path=name, data=path.read_bytes()))
        self.events.append(Event(kind=EventKind.SYNC, path=name))

    def create(self, path: Path) -> BinaryIO:
        """Record the creation, then open a file whose every write is recorded."""
        stream = io.BufferedWriter(_RecordedFile(path, self))
        self.events.append(Event(kind=EventKind.CREATE, path=self._name(path)))
        return stream

    def fsync(self, descriptor: int) -> None:
        """Force to disk, and record it."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        name = self._name(path)
        if path.is_file():
            # LMDB copies itself into a file past Python.
            whole = Event(kind=EventKind.WRITE, path=name, data=path.read_bytes())
            self.events.append(whole)
        super().fsync(descriptor)
        self.events.append(Event(kind=EventKind.SYNC, path=name))

    def make_folder(self, path: Path) -> None:
        """Make a folder, and record it."""
        new = not path.exists()
        super().make_folder(path)
        if new:
            self.events.append(Event(kind=EventKind.FOLDER, path=self._name(path)))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and record it."""
        super().rename(source, target)
        path, name = self._name(source), self._name(target)
        self.events.append(Event(kind=EventKind.RENAME, path=path, target=name))

    def unlink(self, path: Path) -> None:
        """Remove, and record it."""
        was_there = path.exists()
        super().unlink(path)
        if was_there:
            self.events.append(Event(kind=EventKind.REMOVE, path=self._name(path)))

    def written(self, path: Path, offset: int, data: bytes) -> None:
        """Record a write."""
        event = Event(kind=EventKind.WRITE, path=self._name(path), offset=offset, data=data)
        self.events.append(event)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class _RecordedFile(io.FileIO):
    def __init__(self, path: Path, files: RecordingFiles) -> None:
        super().__init__(path, "xb")
        self._path = path
        self._files = files

    def write(self, data: Any, /) -> int:
        offset = self.tell()
        written = super().write(data)
        self._files.written(self._path, offset, bytes(data)[:written])
        return written


@dataclass(slots=True, eq=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[tuple[str, _File | _Folder | None]] = field(default_factory=list)

    def now(self) -> dict[str, _File | _Folder]:
        """Give the names as programs see them."""
        return _after(self.names, self.pending)


class Disk:
    """What a disk holds, and what of it is not yet sure to survive.

    Parameters
    ----------
    start
        A folder whose present content is durable.
    """

    def __init__(self, start: Path) -> None:
        self._root = _loaded(start)

    def apply(self, event: Event) -> None:
        """Take one event in.

        Parameters
        ----------
        event
            The event.
        """
        if event.kind == EventKind.ACKNOWLEDGE:
            return
        path = PurePosixPath(event.path)
        if event.kind == EventKind.SYNC:
            self._sync(path)
            return
        if event.kind == EventKind.WRITE:
            file = self._find(path)
            if isinstance(file, _File):
                file.pending.append((event.offset, event.data))
            return
        folder = self._folder(path.parent)
        if event.kind == EventKind.RENAME:
            target = PurePosixPath(event.target)
            self._folder(target.parent).pending.append((target.name, folder.now()[path.name]))
        made = {EventKind.CREATE: _File, EventKind.FOLDER: _Folder}.get(event.kind)
        folder.pending.append((path.name, made() if made else None))

    def cut(self, random: Random, target: Path) -> None:
        """Lay out what might be left if the power went now; the disk itself does not change.

        Parameters
        ----------
        random
            Draws what is lost.
        target
            A folder to be made.
        """
        _lay_out(self._root, random, target)

    def _sync(self, path: PurePosixPath) -> None:
        found = self._find(path)
        if isinstance(found, _File):
            for offset, data in found.pending:
                _write(found.content, offset, data)
        elif found is not None:
            found.names = found.now()
        if found is not None:
            found.pending.clear()

    def _find(self, path: PurePosixPath) -> _File | _Folder | None:
        found: _File | _Folder | None = self._root
        for part in path.parts:
            found = found.now().get(part) if isinstance(found, _Folder) else None
        return found

    def _folder(self, path: PurePosixPath) -> _Folder:
        found = self._find(path)
        if not isinstance(found, _Folder):
            raise TypeError(f"{path} is no folder")
        return found


def _after(
    names: dict[str, _File | _Folder], changes: list[tuple[str, _File | _Folder | None]]
) -> dict[str, _File | _Folder]:
    result = dict(names)
    for name, node in changes:
        if node is None:
            result.pop(name, None)
        else:
            result[name] = node
    return result


def _loaded(path: Path) -> _File | _Folder:
    if path.is_file():
        return _File(content=bytearray(path.read_bytes()))
    return _Folder(names={entry.name: _loaded(entry) for entry in path.iterdir()})


def _lay_out(node: _File | _Folder, random: Random, target: Path) -> None:
    # Now and then everything survives, or nothing that was not forced.
    keep = random.choice((0.0, 0.5, 0.9, 1.0))
    if isinstance(node, _File):
        content = bytearray(node.content)
        for offset, data in node.pending:
            for start, page in _pages(offset, data):
                if random.random() < keep:
                    _write(content, start, page)
        target.write_bytes(content)
        return
    target.mkdir()
    kept = [change for change in node.pending if random.random() < keep]
    for name, inner in _after(node.names, kept).items():
        _lay_out(inner, random, target / name)


def _pages(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        stop = min(len(data), start + _PAGE - (offset + start) % _PAGE)
        yield offset + start, data[start:stop]
        start = stop


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
