"""Rows of the files that ASE writes: frames of XYZ files, and databases."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain

from moma_cl.readers.byte_sources import FilePlace, unreadable
from moma_cl.readers.rows import InputFile, RawRow, take_id
from moma_cl.readers.text_parser import StructureParser
from moma_cl.readers.xyz import frames, read_frame
from moma_store.errors import InvalidInputError

_DATABASE_BATCH = 100


def xyz_frames(file: InputFile) -> Iterator[RawRow]:
    """Read the frames of an XYZ file; a file of one frame gives it its name."""
    limit, stem = file.limits.text_bytes, file.place.stem
    with file.place.stream() as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="\n")
        all_frames = frames(iter(partial(text.readline, limit), ""), limit)
        first, second = next(all_frames, None), next(all_frames, None)
        if first is None:
            yield RawRow(
                error=InvalidInputError(
                    "the file has no frame", code="invalid-input.missing-structure"
                )
            )
        for frame in chain(filter(None, (first, second)), all_frames):
            file.number += 1
            name = stem if second is None else f"{stem}:{file.number}"
            row = RawRow(line=str(frame.line), default_id=name)
            try:
                structure, values = read_frame(frame)
                given_id = take_id(values, file.reading)
            except InvalidInputError as error:
                yield replace(row, error=error)
            else:
                yield replace(row, given_id=given_id, structure=structure, values=values)


def database(file: InputFile, parser: StructureParser) -> Iterator[RawRow]:
    """Read a database of ASE in the process of the parser."""
    place = file.place
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
            yield RawRow(line=str(after + 1), default_id=f"{place.stem}:rest", error=error)
            return
        for row in rows:
            yield _database_row(file, row)
        if not rows or rows[-1]["row"] <= after:
            return
        after = rows[-1]["row"]


def _database_row(file: InputFile, row: Mapping[str, object]) -> RawRow:
    line = str(row["row"])
    if "code" in row:
        error = InvalidInputError(str(row["message"]), code=f"invalid-input.{row['code']}")
        return RawRow(line=line, error=error)
    pairs = row["values"]
    values = dict(pairs) if isinstance(pairs, Mapping) else {}
    try:
        given_id = take_id(values, file.reading)
    except InvalidInputError as error:
        return RawRow(line=line, values=values, error=error)
    return RawRow(line=line, given_id=given_id, structure=row["structure"], values=values)
