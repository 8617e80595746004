"""The inbox: where deliveries of rows lie, and when one is complete.

A delivery is a file or folder in ``hub/inbox/TASK/``, or in ``hub/inbox/TASK/replace/`` where its
rows may replace stored ones. It counts as complete when

- its name neither begins with a dot nor ends as unfinished files do (`UNFINISHED`),
- nothing about it changed between two looks, by size, time of change and inode, which are only
  compared with themselves, so that no clock need be right; and
- it is not empty, and no last line or compressed stream is cut off.

Whoever writes elsewhere on the same file system and renames the finished file into the inbox is
always safe; folders should come in no other way. Light: a look imports nothing heavy.
"""

from __future__ import annotations

import io
import json
import os
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moma_cl.core.suggestions import did_you_mean
from moma_cl.datasets.source_files import Signature, signature
from moma_cl.readers.byte_sources import Inflated
from moma_store.files import reported

INBOX = "inbox"
DONE, REFUSED, REPLACE = "done", "refused", "replace"
REPORT = ".report.json"
"""How the name of the report ends that lies beside what was put away."""

_OWN_FOLDERS = frozenset({DONE, REFUSED, REPLACE})
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".swp", "~")
"""How the names of files end that are still being written."""

SETTLE_SECONDS = 2.0
"""Time between two looks, s."""

_PIECE = 1 << 20  # bytes read at once
_LONGEST_TAIL = 1 << 24  # bytes of a last line that are looked at

AT_A_GLANCE = 1 << 26
"""Bytes that a glance unpacks of a compressed delivery; a pass, which reads it, unpacks all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A file or folder in the inbox.

    Attributes
    ----------
    task
        Name of the folder it lies in; empty for what lies beside those folders.
    path
        Where it lies.
    replaces
        Whether its rows may replace stored ones.
    signature
        How it looked; none if it could not be looked at.
    unlisted
        Why nobody can tell what is in the folder, where this stands for a whole folder of the
        inbox; otherwise empty.
    """

    task: str
    path: Path
    replaces: bool
    signature: Signature | None
    unlisted: str = ""

    @property
    def shown(self) -> str:
        """Its place below the inbox, for messages."""
        name = "" if self.unlisted else self.path.name
        parts = (self.task, REPLACE if self.replaces else "", name)
        return "/".join(part for part in parts if part)


def folder_of(hub: Path, task: str) -> Path:
    """Give the folder that a task's deliveries go to, whether or not it is there."""
    return hub / INBOX / task


def open_for(hub: Path, tasks: Collection[str]) -> None:
    """Make the folders of tasks, so that nobody has to guess their names."""
    for task in tasks:
        # A hub that cannot have them needs none: whoever delivers can make them as well.
        with suppress(OSError):
            folder_of(hub, task).mkdir(parents=True, exist_ok=True)


def look(hub: Path) -> list[Delivery]:
    """List the deliveries in the inbox, complete or not, in the order in which they are added.

    A folder in it that cannot be read is listed as one delivery, which nobody can open. An inbox
    that cannot be read raises ``StorageError``.
    """
    inbox = hub / INBOX
    deliveries = []
    with reported("look into", inbox):
        for entry in _entries(inbox):
            if not entry.is_dir():
                deliveries.append(_delivery("", entry, replaces=False))
                continue
            deliveries += _in_folder(entry.name, entry, replaces=False)
            deliveries += _in_folder(entry.name, entry / REPLACE, replaces=True)
    return sorted(deliveries, key=lambda delivery: (delivery.task, delivery.path.name))


def _in_folder(task: str, folder: Path, *, replaces: bool) -> list[Delivery]:
    """List the deliveries in one folder of a task; one that cannot be read stops no other."""
    try:
        paths = [path for path in _entries(folder) if replaces or path.name not in _OWN_FOLDERS]
    except OSError as error:
        if replaces and not os.access(folder.parent, os.X_OK):
            return []  # the folder around it has been listed for the same reason
        reason = f"the folder cannot be read ({error.strerror or error})"
        closed = Delivery(
            task=task, path=folder, replaces=replaces, signature=None, unlisted=reason
        )
        return [closed]
    return [_delivery(task, path, replaces=replaces) for path in paths]


def settled(
    hub: Path, tasks: Collection[str], *, seconds: float = SETTLE_SECONDS
) -> list[Delivery]:
    """List the complete deliveries of some tasks; waits only where there may be some.

    Parameters
    ----------
    hub
        The hub.
    tasks
        Names of tasks.
    seconds
        Time between two looks, s.

    Returns
    -------
    list[Delivery]
        In the order in which they are added.

    Raises
    ------
    StorageError
        If the inbox cannot be read.
    """
    before = {d for d in look(hub) if d.task in tasks and why_incomplete(d) is None}
    if not before:
        return []
    time.sleep(seconds)
    return [delivery for delivery in look(hub) if delivery in before]


def why_incomplete(delivery: Delivery, *, most: int | None = None) -> str | None:
    """Say why a delivery cannot be complete even if it keeps still; none if it can.

    Of a compressed one, at most so many bytes are unpacked where ``most`` is given: its end is
    not looked at if it has more.
    """
    if delivery.unlisted:
        return delivery.unlisted
    if delivery.signature is None:
        return "it cannot be opened"
    if not any(size for _, size, _, _ in delivery.signature):
        return "it is empty"
    try:
        cut_off = delivery.path.is_file() and _cut_off(delivery.path, most)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    return "its end is cut off" if cut_off else None


def unclaimed(deliveries: Sequence[Delivery], tasks: Collection[str]) -> dict[str, str]:
    """List the folders of no task with a message for each; "" stands for the inbox itself."""
    messages: dict[str, str] = {}
    for folder in sorted({delivery.task for delivery in deliveries} - set(tasks)):
        names = [delivery.path.name for delivery in deliveries if delivery.task == folder]
        what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        if not folder:
            messages[folder] = f"{what} in {INBOX}/: move it to {INBOX}/TASK/"
            continue
        hint = did_you_mean(folder, tasks, otherwise="`moma-cl add-task` brings one")
        messages[folder] = f"{what} in {INBOX}/{folder}/, but there is no task {folder!r}{hint}"
    return messages


def _delivery(task: str, path: Path, *, replaces: bool) -> Delivery:
    seen: Signature | None = None
    with suppress(OSError):
        seen = signature(path)
    return Delivery(task=task, path=path, replaces=replaces, signature=seen)


def _entries(folder: Path) -> Iterator[Path]:
    """List what a folder holds, but for unfinished files."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        unfinished = entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED)
        if not unfinished:
            yield entry


def _cut_off(file: Path, most: int | None) -> bool:
    """Tell whether JSON lines end in the middle of one, or a compressed stream before its end."""
    name = file.name.lower()
    compressed, lines = name.endswith(".gz"), name.removesuffix(".gz").endswith(".jsonl")
    if not (compressed or lines):
        return False
    try:
        line = _last_line(file, compressed=compressed, most=most)
    except EOFError:
        return True
    except zlib.error:
        return False  # damaged rather than unfinished: whoever reads the rows will say so
    except OSError as error:
        if error.errno is not None:
            raise
        return False  # damaged as well, or it unpacks to far more than its size
    whole = line is None or line.endswith(b"\n") or len(line) >= _LONGEST_TAIL
    return lines and not whole and _is_part(line or b"")


def _is_part(line: bytes) -> bool:
    """Tell whether a line is only the beginning of a JSON document."""
    try:
        json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    except (ValueError, RecursionError):
        return False  # a number or nesting beyond reason, finished or not: its reader will say so
    return False


def _last_line(file: Path, *, compressed: bool, most: int | None) -> bytes | None:
    """Read the last line, with its end if it has one; none where it is beyond the most bytes."""
    kept, n_bytes = bytearray(), 0
    with file.open("rb") as file_stream:
        if not compressed:
            file_stream.seek(max(0, file.stat().st_size - _LONGEST_TAIL))
        stream = io.BufferedReader(Inflated(file_stream)) if compressed else file_stream
        while piece := stream.read(_PIECE):
            n_bytes += len(piece)
            if compressed and most is not None and n_bytes > most:
                return None
            kept += piece
            if len(kept) > 2 * _LONGEST_TAIL:
                del kept[:-_LONGEST_TAIL]
    tail = bytes(kept[-_LONGEST_TAIL:])
    ended = tail.endswith(b"\n")
    return tail.removesuffix(b"\n").rpartition(b"\n")[2] + (b"\n" if ended else b"")
