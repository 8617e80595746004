"""Output files that appear when they are whole, and go on where an interrupted run stopped.

Rows go to ``FILE.unfinished``, which takes the name ``FILE`` at the end. An interrupted run leaves
it behind; ``--resume`` reads what it answered, cuts a torn last line off and goes on.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    from moma_cl.commands.predict import Earlier

RESUMABLE = ("jsonl", "csv")
CODE = "invalid-input.cannot-resume"

Rows = Iterator[tuple[dict[str, Any], int]]
"""Rows, each with the number of bytes up to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An output file that was begun.

    Attributes
    ----------
    earlier
        What it answers.
    n_bytes
        Up to the end of its last whole row.
    """

    earlier: Earlier
    n_bytes: int


def unfinished(file: Path) -> Path:
    """Name the file that rows go to first."""
    return file.with_name(f"{file.name}.unfinished")


@contextmanager
def published(file: Path, *, keep: bool) -> Iterator[Path]:
    """Let a file appear under its name only when it is whole.

    Parameters
    ----------
    file
        Its name.
    keep
        Whether to leave behind what an interrupted run has written.

    Yields
    ------
    Path
        Where to write.
    """
    path = unfinished(file)
    try:
        yield path
        path.replace(file)
    except BaseException:
        if path.exists() and not (keep and path.stat().st_size):
            path.unlink()
        raise


def begun(file: Path, layout: str, names: tuple[str, ...]) -> Begun | None:
    """Read what an interrupted run has answered.

    Parameters
    ----------
    file
        The output file.
    layout
        ``jsonl`` or ``csv``.
    names
        Fields that its rows must have.

    Returns
    -------
    Begun | None
        What it answers; none where there is no such file.

    Raises
    ------
    InvalidInputError
        If its rows are of another kind, or not all of one predictor.
    """
    path = unfinished(file)
    if not path.exists():
        if not file.exists():
            return None
        shutil.copyfile(file, path)
    from moma_cl.commands.predict import SHARED, Earlier, row_key

    answered: set[bytes] = set()
    asked: dict[str, Any] = {}
    n_bytes = 0
    with path.open("rb") as stream:
        found = _json_rows(stream, path) if layout == "jsonl" else _csv_rows(stream)
        for row, end in found:
            if tuple(row) != names:
                raise _refusal(path, "its rows have other fields, for other options")
            shared = {name: row[name] for name in SHARED}
            if asked and shared != asked:
                raise _refusal(path, "its rows are not all of one predictor and level")
            asked = shared
            answered.add(row_key(row["id"], row["source"]))
            n_bytes = end
    with path.open("r+b") as stream:
        stream.truncate(n_bytes)
    return Begun(earlier=Earlier(answered=frozenset(answered), asked=asked), n_bytes=n_bytes)


def _json_rows(lines: Iterable[bytes], path: Path) -> Rows:
    for number, (line, end) in enumerate(_whole_lines(lines), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _refusal(path, f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise _refusal(path, f"line {number} is not a row")
        yield row, end


def _csv_rows(lines: Iterable[bytes]) -> Rows:
    end = 0

    def text() -> Iterator[str]:
        nonlocal end
        for line, place in _whole_lines(lines):
            end = place
            yield line

    reader = csv.reader(text())
    names = next(reader, None)
    for values in reader:
        if names is None or len(values) != len(names):
            return  # torn inside a quoted field: the reader has come to the end of the file
        row: dict[str, Any] = dict(zip(names, values, strict=True))
        yield {**row, "level": float(row["level"])} if "level" in row else row, end


def _whole_lines(lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
    end = 0
    for line in lines:
        end += len(line)
        if line.endswith(b"\n"):
            yield line.decode("utf-8"), end


def _refusal(path: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} cannot be resumed: {reason}; ask the same again, or write to another file",
        code=CODE,
    )
