"""Output files that appear when they are complete, and that an interrupted run can resume.

Rows are written to ``FILE.unfinished``, which is renamed to ``FILE`` at the end. An interrupted run
leaves it behind; ``--resume`` reads which rows it answers, cuts off an incomplete last line and
writes the rest.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cli.output_file import unfinished_path
from moma_cli.prediction_formats import from_csv_cell
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    from moma_cl.commands.predict import Earlier

RESUMABLE = ("jsonl", "csv")
CODE = "invalid-input.cannot-resume"

Rows = Iterator[tuple[dict[str, Any], int]]
"""Rows, each with the number of bytes up to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedFile:
    """An output file that an interrupted run has left.

    Attributes
    ----------
    earlier
        The rows that it answers.
    n_bytes
        Its length up to the end of the last complete row.
    """

    earlier: Earlier
    n_bytes: int


def unfinished_file(file: Path, layout: str, names: tuple[str, ...]) -> UnfinishedFile | None:
    """Read which rows an interrupted run has answered, and cut off an incomplete last one.

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
    UnfinishedFile | None
        The rows; none where there is no such file.

    Raises
    ------
    InvalidInputError
        If its rows have other fields, or are not all of one predictor.
    """
    path = unfinished_path(file)
    if file.exists() and not (path.exists() and path.stat().st_size):
        shutil.copyfile(file, path)
    if not path.exists():
        return None
    from moma_cl.commands.predict import SHARED, Earlier, row_key

    answered: Counter[bytes] = Counter()
    shared: dict[str, Any] = {}
    n_bytes = 0
    with path.open("rb") as stream:
        rows = _json_rows(stream, path) if layout == "jsonl" else _csv_rows(stream)
        for row, end in rows:
            if tuple(row) != names:
                raise _refusal(path, "its rows have other fields, for other options")
            shared_here = {name: row[name] for name in SHARED}
            if shared and shared_here != shared:
                raise _refusal(path, "its rows are not all of one predictor and level")
            shared = shared_here
            answered[row_key(row["id"], row["source"])] += 1
            n_bytes = end
    with path.open("r+b") as stream:
        stream.truncate(n_bytes)
    return UnfinishedFile(earlier=Earlier(answered=answered, shared=shared), n_bytes=n_bytes)


def _json_rows(lines: Iterable[bytes], path: Path) -> Rows:
    for number, (line, end) in enumerate(_complete_lines(lines), start=1):
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
        for line, place in _complete_lines(lines):
            end = place
            yield line

    reader = csv.reader(text())
    names = next(reader, None)
    for values in reader:
        if names is None or len(values) != len(names):
            return  # cut off inside a quoted field, which the reader took to the end of the file
        row: dict[str, Any] = dict(zip(names, map(from_csv_cell, values), strict=True))
        yield {**row, "level": float(row["level"])} if "level" in row else row, end


def _complete_lines(lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
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
