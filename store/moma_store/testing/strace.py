"""Traces of system calls, since LMDB writes from C: recorded, injected, and read as events.

Needs ``strace``; Linux only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from moma_store.testing.power import Event, EventKind

CALLS = (
    "openat,close,lseek,write,pwrite64,writev,pwritev,fsync,fdatasync,"
    "rename,renameat,mkdir,mkdirat,unlink,unlinkat,ftruncate"
)

_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)>")


def available() -> bool:
    """Tell whether system calls can be traced here."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode == 0
    )


def record(command: Sequence[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run a program and record what it does to files.

    Parameters
    ----------
    command
        The program with its arguments.
    log
        Where the trace goes.

    Returns
    -------
    subprocess.CompletedProcess[str]
        How the program ended.
    """
    options = ["-f", "-qq", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-o", str(log)]
    return subprocess.run(
        ["strace", *options, *command], capture_output=True, text=True, check=False
    )


def inject(
    command: Sequence[str], *, call: str, when: int, error: str, path: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program of which one system call fails.

    Parameters
    ----------
    command
        The program with its arguments.
    call
        Name of the call.
    when
        Which one of those on the file fails, from 1.
    error
        Name of the error, such as ``EIO``.
    path
        The file.

    Returns
    -------
    subprocess.CompletedProcess[str]
        How the program ended.
    """
    what = f"inject={call}:error={error}:when={when}"
    options = ["-f", "-qq", "-P", str(path), "-e", f"trace={call}", "-e", what, "-o", "/dev/null"]
    return subprocess.run(
        ["strace", *options, *command], capture_output=True, text=True, check=False
    )


def events(log: Path, root: Path) -> list[Event]:
    """Read a trace as what happened below a folder.

    Parameters
    ----------
    log
        The trace that `record` made.
    root
        The folder.

    Returns
    -------
    list[Event]
        What happened, in order; what the program wrote to its standard output is an
        acknowledgement.
    """
    reader = _Reader(root=root.resolve())
    for line in log.read_text(encoding="ascii").splitlines():
        match = _LINE.match(line)
        if match is not None and int(match[3]) >= 0:
            reader.take(match[1], match[2], int(match[3]))
    return reader.events


@dataclass(slots=True, kw_only=True)
class _Reader:
    root: Path
    events: list[Event] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    at_once: set[int] = field(default_factory=set)  # descriptors whose writes are durable

    def take(self, call: str, arguments: str, result: int) -> None:
        """Take one call that succeeded."""
        if call == "openat":
            self._opened(arguments, result)
        elif call == "lseek":
            self.positions[int(arguments.split("<", 1)[0])] = result
        elif call in ("write", "writev", "pwrite64", "pwritev"):
            self._written(call, arguments, result)
        elif call in ("fsync", "fdatasync"):
            _, path = self._descriptor(arguments)
            self._add(EventKind.SYNC, path)
        elif call in ("rename", "renameat"):
            source, target = map(_unhexed, _TEXT.findall(arguments))
            below = self._below(source.decode()), self._below(target.decode())
            if below[0] and below[1]:
                self.events.append(Event(kind=EventKind.RENAME, path=below[0], target=below[1]))
        elif call in ("mkdir", "mkdirat", "unlink", "unlinkat"):
            kind = EventKind.FOLDER if call.startswith("mkdir") else EventKind.REMOVE
            self._add(kind, _unhexed(_TEXT.findall(arguments)[-1]).decode())

    def _opened(self, arguments: str, descriptor: int) -> None:
        self.positions[descriptor] = 0
        self.at_once.discard(descriptor)
        if "O_DSYNC" in arguments or "O_SYNC" in arguments:
            self.at_once.add(descriptor)
        if "O_CREAT" in arguments and "O_EXCL" in arguments:
            self._add(EventKind.CREATE, _unhexed(_TEXT.findall(arguments)[-1]).decode())

    def _written(self, call: str, arguments: str, size: int) -> None:
        descriptor, path = self._descriptor(arguments)
        data = b"".join(_pieces(arguments))[:size]
        if descriptor == 1:
            self.events.append(Event(kind=EventKind.ACKNOWLEDGE, data=data))
            return
        if call.startswith("pwrite"):
            offset = int(arguments.rsplit(", ", 1)[1])
        else:
            offset = self.positions.get(descriptor, 0)
            self.positions[descriptor] = offset + size
        self._add(EventKind.WRITE, path, offset=offset, data=data)
        if descriptor in self.at_once:
            self._add(EventKind.SYNC, path)

    def _add(self, kind: EventKind, path: str, *, offset: int = 0, data: bytes = b"") -> None:
        below = self._below(path)
        if below is not None:
            self.events.append(Event(kind=kind, path=below, offset=offset, data=data))

    def _below(self, path: str) -> str | None:
        pure = PurePosixPath(path)
        if not pure.is_relative_to(self.root):
            return None
        return pure.relative_to(self.root).as_posix()

    @staticmethod
    def _descriptor(arguments: str) -> tuple[int, str]:
        match = _DESCRIPTOR.match(arguments)
        if match is None:
            raise ValueError(f"no descriptor in {arguments[:80]!r}")
        return int(match[1]), _unhexed(match[2]).decode()


def _pieces(arguments: str) -> Iterator[bytes]:
    return map(_unhexed, _TEXT.findall(arguments))


def _unhexed(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
