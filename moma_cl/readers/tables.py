"""Tables: comma-, semicolon- or tab-separated values as RFC 4180 has them.

A quoted cell may hold line breaks, which is how the text of a CIF file gets into one. The standard
library's reader is not used: a quote that is never closed would make it swallow the whole file,
and the length of its cells is a setting of the process. No line is copied once for each of its
cells: a line may have many megabytes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from moma_store.errors import InvalidInputError

_PATH = re.compile(
    r"([^\n]{1,400})\.(?:cif|vasp|poscar|contcar|xyz|extxyz|json)(?:\.gz)?"
    r"|(?:([^\n]{1,400})/)?(?:(?:POSCAR|CONTCAR)(?:\.gz)?|((?:POSCAR|CONTCAR)[^\n/]{1,100}))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a table.

    Attributes
    ----------
    line
        Number of its first line, from one.
    cells
        What is in it.
    error
        Why it cannot be read.
    """

    line: int
    cells: tuple[str, ...] = ()
    error: InvalidInputError | None = None


class _Unfinished:
    """A record that is being read.

    Parameters
    ----------
    line
        Number of its first line.
    delimiter
        What is between cells.
    """

    def __init__(self, line: int, delimiter: str) -> None:
        self.line = line
        self.size = 0
        self._delimiter = delimiter
        self._cells: list[str] = []
        self._quoted: list[str] | None = None  # parts of a cell whose quote is open

    def finished(self, line: str) -> tuple[str, ...] | None:
        """Take one more line; the cells, if the record ends with it."""
        self.size += len(line)
        bare = line.rstrip("\r\n")
        place, ended = 0, False
        while not ended:
            if self._quoted is None:
                place, ended = self._open(bare, place)
            if self._quoted is not None:
                closed = self._close(line, bare, place)
                if closed is None:
                    return None
                place, ended = closed
        return tuple(self._cells)

    def _open(self, bare: str, place: int) -> tuple[int, bool]:
        """Read a cell without quotes, or the quote of one with them."""
        start = _after_spaces(bare, place)
        if bare[start : start + 1] == '"':
            self._quoted = []
            return start + 1, False
        stop = bare.find(self._delimiter, place)
        self._cells.append(bare[place : len(bare) if stop < 0 else stop].strip(" "))
        return stop + 1, stop < 0

    def _close(self, line: str, bare: str, place: int) -> tuple[int, bool] | None:
        """Read on in a quoted cell; none if it goes on in the next line."""
        quoted = self._quoted = self._quoted if self._quoted is not None else []
        while True:
            stop = line.find('"', place)
            if stop < 0:
                quoted.append(line[place:])
                return None
            doubled = line[stop + 1 : stop + 2] == '"'
            quoted.append(line[place : stop + doubled])
            place = stop + 1 + doubled
            if not doubled:
                break
        self._cells.append("".join(quoted))
        self._quoted = None
        after = _after_spaces(line, place)
        if after >= len(bare):
            return len(line), True
        if not bare.startswith(self._delimiter, after):
            raise InvalidInputError(
                f"{line[after : after + 20]!r} follows a closing quote; expected "
                f"{self._delimiter!r} or the end of the line: double the quotes inside cells",
                code="invalid-input.malformed-table",
            )
        return after + 1, False


def _after_spaces(text: str, place: int) -> int:
    while text.startswith(" ", place):
        place += 1
    return place


def records(stream: BinaryIO, limit: int, *, tabs: bool = False) -> Iterator[Record]:
    """Divide a table into records; a malformed one costs no other.

    Parameters
    ----------
    stream
        The table, UTF-8; lines that are not are taken for Latin-1.
    limit
        Bytes that one record may have.
    tabs
        Whether cells are separated by tabs, whatever the first line suggests.

    Yields
    ------
    Record
        Records that are not empty.
    """
    lines = _Lines(stream, limit)
    delimiter = "\t" if tabs else ""
    while (line := lines.take()) is not None:
        delimiter = delimiter or max(",;\t", key=line.count)
        if line.strip("\r\n"):
            record = _record(lines, line, delimiter, limit)
            if record.error is not None or any(record.cells):
                yield record


def _record(lines: _Lines, line: str, delimiter: str, limit: int) -> Record:
    """Read one record; after an error, go on where the next one may begin."""
    unfinished = _Unfinished(lines.number, delimiter)
    lines_read: list[str] = []
    while True:
        try:
            _check_text(line, limit - unfinished.size)
            cells = unfinished.finished(line)
        except InvalidInputError as error:
            # A quote that was never closed is noticed where the next one opens: begin there.
            lines.give_back([line] if lines_read else [])
            return Record(line=unfinished.line, error=error)
        if cells is not None:
            return Record(line=unfinished.line, cells=cells)
        lines_read.append(line)
        following = lines.take()
        if following is None:
            lines.give_back(lines_read[1:])
            unclosed = InvalidInputError(
                "a quote is opened but never closed: double the quotes inside cells",
                code="invalid-input.malformed-table",
            )
            return Record(line=unfinished.line, error=unclosed)
        line = following


def _check_text(line: str, limit: int) -> None:
    if "\0" in line:
        raise InvalidInputError("the line is binary, not text", code="invalid-input.not-text")
    if len(line) > limit:
        raise InvalidInputError(
            "the record is too long, or a quote is never closed", code="invalid-input.too-long"
        )


class _Lines:
    """Lines of a table, some of which were given back."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.number = 0
        self._stream = stream
        self._limit = limit
        self._back: deque[str] = deque()

    def take(self) -> str | None:
        """Give the next line, with its end; none after the last."""
        if self._back:
            self.number += 1
            return self._back.popleft()
        data = self._stream.readline(self._limit + 2)
        if not data:
            return None
        self.number += 1
        try:
            return data.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def give_back(self, lines: Sequence[str]) -> None:
        """Let lines be taken again."""
        self.number -= len(lines)
        self._back.extendleft(reversed(lines))


def cell_value(text: str) -> object:
    """Read a cell: a number, a text, or ``None`` if it is empty."""
    text = text.strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def path_stem(text: str) -> str | None:
    """Take ``.cif`` and the like off the path of a structure file; none if it is no such path.

    Files that VASP names are called by their folder.
    """
    match = _PATH.fullmatch(text.strip())
    if match is None:
        return None
    plain, folder, name = match.groups()
    return plain or "/".join(filter(None, (folder, name))) or text.strip()
