"""Rows of the files that ASE writes: frames of XYZ files, and databases."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np

from moma_cl.readers.byte_sources import READ_ERRORS, FilePlace, Place, unreadable
from moma_cl.readers.rows import Found, Reading, cut_off, take_id
from moma_cl.readers.text_parser import Limits, StructureParser
from moma_cl.readers.xyz import Frame, frames, read_frame
from moma_cl.structures.molecules import structure_of
from moma_store.errors import InvalidInputError

_DATABASE_BATCH = 100


def xyz_frames(place: Place, limits: Limits, reading: Reading) -> Iterator[Found]:
    """Read the frames of an XYZ file.

    Parameters
    ----------
    place
        The file.
    limits
        What one row may cost.
    reading
        What the user says of it.

    Yields
    ------
    Found
        A row for each frame.
    """
    number = 0
    try:
        with place.stream() as stream:
            found = frames(_text_lines(stream, limits), limits.text_bytes)
            first, second = next(found, None), next(found, None)
            if first is None:
                nothing = InvalidInputError(
                    "the file has no frame", code="invalid-input.missing-structure"
                )
                yield Found(source=place.label, fallback=place.stem, error=nothing)
            only = second is None
            for number, frame in enumerate(chain(filter(None, (first, second)), found), start=1):
                name = place.stem if only else f"{place.stem}:{number}"
                yield _frame(frame, f"{place.label}:{frame.line}", name, reading)
    except READ_ERRORS as error:
        yield cut_off(place, number, error)


def _text_lines(stream: io.BufferedReader, limits: Limits) -> Iterator[str]:
    first = True
    while line := stream.readline(limits.text_bytes):
        yield line.decode("utf-8-sig" if first else "utf-8", errors="replace")
        first = False


def _frame(frame: Frame, source: str, fallback: str, reading: Reading) -> Found:
    try:
        structure, values = read_frame(frame)
        given_id = take_id(values, reading)
    except InvalidInputError as error:
        return Found(source=source, fallback=fallback, error=error)
    return Found(
        source=source, fallback=fallback, given_id=given_id, structure=structure, values=values
    )


def database(place: Place, parser: StructureParser, reading: Reading) -> Iterator[Found]:
    """Read a database of ASE.

    Parameters
    ----------
    place
        The database, a file.
    parser
        Owner of the process that reads it.
    reading
        What the user says of it.

    Yields
    ------
    Found
        A row for each of the database.

    Raises
    ------
    InvalidInputError
        It is no file, or no row can be read.
    """
    if not isinstance(place, FilePlace):
        raise unreadable(place.label, "a database must be a file of its own")
    after, count = -1, _DATABASE_BATCH
    while True:
        try:
            rows = parser.database_rows(place.path, after, count)
        except InvalidInputError as error:
            if count > 1:  # one of them may be to blame
                count = 1
                continue
            if after < 0:
                raise
            yield Found(
                source=f"{place.label}:{after + 1}", fallback=f"{place.stem}:rest", error=error
            )
            return
        for row in rows:
            yield _database_row(place, row, reading)
        if not rows or rows[-1]["row"] <= after:
            return
        after = rows[-1]["row"]


def _database_row(place: Place, row: Mapping[str, object], reading: Reading) -> Found:
    number = row["row"]
    source, fallback = f"{place.label}:{number}", f"{place.stem}:{number}"
    if "code" in row:
        error = InvalidInputError(str(row["message"]), code=f"invalid-input.{row['code']}")
        return Found(source=source, fallback=fallback, error=error)
    numbers = np.array(row["atomic_numbers"], dtype=np.int64)
    positions = np.array(row["positions"], dtype=np.float64).reshape(-1, 3)
    given = row["values"]
    values = dict(given) if isinstance(given, Mapping) else {}
    given_id = None
    try:
        given_id = take_id(values, reading)
        structure = structure_of(numbers, positions, np.array(row["cell"], dtype=np.float64))
    except InvalidInputError as error:
        return Found(
            source=source, fallback=fallback, given_id=given_id, values=values, error=error
        )
    return Found(
        source=source, fallback=fallback, given_id=given_id, structure=structure, values=values
    )
