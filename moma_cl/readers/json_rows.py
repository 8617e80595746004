"""Rows of JSON files: one a line, or many in one document."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace

from moma_cl.readers.json_stream import JsonStream, load_object, not_json, repeated_key
from moma_cl.readers.rows import (
    STRUCTURE_NAMES,
    InputFile,
    RawRow,
    Reading,
    check_unique,
    first_of,
    from_document,
)
from moma_cl.readers.structure_json import is_structure
from moma_store.errors import InvalidInputError

# Members of an object whose list holds rows: OPTIMADE, pandas' "table", interfaces of databases.
_LISTS = ("data", "response", "results", "structures", "entries", "rows")
_COUNTERS = ("ids", "nextid")  # what a JSON database of ASE holds besides its rows
_SKIPPED = 8  # how many times the longest line is read on in search of the next line


def lines(file: InputFile) -> Iterator[RawRow]:
    """Read JSON lines: a row for each line that is not empty."""
    with file.place.stream() as stream:
        for number, line in enumerate(_split(stream, file.limits.text_bytes), start=1):
            file.number = number
            if line is None or line.strip():
                try:
                    document = load_object(_decoded(line, file))
                except InvalidInputError as error:
                    yield RawRow(line=str(number), error=error)
                else:
                    yield from_document(document, file.reading, str(number))


def _split(stream: io.BufferedReader, limit: int) -> Iterator[bytes | None]:
    """Split into lines; one that is too long is skipped and given as ``None``."""
    while line := stream.readline(limit + 1):
        if len(line) <= limit or line.endswith(b"\n"):
            yield line
            continue
        yield None
        for _ in range(_SKIPPED):
            rest = stream.readline(limit)
            if not rest or rest.endswith(b"\n"):
                break
        else:
            raise OSError(f"a line of more than {_SKIPPED * limit:,} bytes")


def _decoded(line: bytes | None, file: InputFile) -> str:
    limit = min(file.limits.text_bytes, file.limits.document_bytes)
    if line is None or len(line) > limit:
        raise InvalidInputError(
            f"the line has more than {limit:,} bytes", code="invalid-input.too-long"
        )
    try:
        return line.decode("utf-8-sig" if file.number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the line is not UTF-8 ({error.reason} at byte {error.start})",
            code="invalid-input.not-text",
        ) from error


def documents(file: InputFile) -> Iterator[RawRow]:
    """Read a JSON file: one structure or row, many in a list or by id, or a matminer data set."""
    try:
        with file.place.stream() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig")
            for row in _rows(JsonStream(text, file.limits.document_bytes), file.reading):
                file.number += 1
                yield row
    except InvalidInputError as error:
        # without a row before it, the file itself is meant
        name = f"{file.place.stem}:{file.number + 1}" if file.number else None
        yield RawRow(default_id=name, error=error)
    except UnicodeError as error:
        raise OSError(str(error)) from error


def _rows(stream: JsonStream, reading: Reading) -> Iterator[RawRow]:
    if stream.peek() == "[":
        yield from _elements(stream, reading)
    else:
        yield from _members(stream, reading)
    if stream.peek():
        raise not_json("there is something after the end")


def _members(stream: JsonStream, reading: Reading) -> Iterator[RawRow]:
    """Read an object: one row, rows by their ids or in a list, or a table in a form of pandas."""
    document: dict[str, object] = {}
    first_problem = None
    by_id = listed = False
    for key in stream.members():
        if key == "data" and isinstance(document.get("columns"), list):
            yield from _table(stream, document, reading)
            continue
        if key in _LISTS and not by_id and stream.begins_list_of_objects():
            listed = True
            yield from _elements(stream, reading)
            continue
        value, problem = stream.value()
        first_problem = first_problem or problem
        by_id = by_id or (not document and not listed and _is_row(key, value))
        if not by_id:
            first_problem = first_problem or (repeated_key(key) if key in document else None)
            document[key] = value
        elif key not in _COUNTERS:
            yield _row(value, problem, reading, key, given_id=key)
    if by_id or listed:
        return
    if "columns" in document:
        if "data" in document:
            raise not_json("the columns come after the data; write them first")
    elif first_problem is not None:
        yield RawRow(error=first_problem)
    else:
        yield from _by_columns(document, reading) or [from_document(document, reading, "")]


def _elements(stream: JsonStream, reading: Reading) -> Iterator[RawRow]:
    for number, (value, problem) in enumerate(stream.elements(), start=1):
        yield _row(value, problem, reading, str(number))


def _by_columns(document: Mapping[str, object], reading: Reading) -> list[RawRow]:
    """Read a table of columns, each an object by row, as pandas writes it unless told otherwise.

    Nothing comes back for a document that is no such table.
    """
    columns = {name: cells for name, cells in document.items() if isinstance(cells, Mapping)}
    named = reading.structure_column or first_of(STRUCTURE_NAMES, document)
    column = named or next((name for name, cells in columns.items() if _has_structure(cells)), None)
    if column not in columns or len(columns) < len(document):
        return []
    labels = columns[column].keys()
    alike = all(cells.keys() == labels for cells in columns.values())
    if is_structure(columns[column]) or not alike or not _has_structure(columns[column]):
        return []
    reading = replace(reading, structure_column=column)
    counted = [str(place) for place in range(len(labels))] == list(labels)
    return [
        from_document(
            {name: cells[label] for name, cells in columns.items()},
            reading,
            str(label)[:80],
            default_id=None if counted else str(label),
        )
        for label in labels
    ]


def _has_structure(cells: Mapping[str, object]) -> bool:
    return any(
        is_structure(cell) if isinstance(cell, Mapping) else isinstance(cell, str) and "\n" in cell
        for cell in cells.values()
    )


def _table(
    stream: JsonStream, document: Mapping[str, object], reading: Reading
) -> Iterator[RawRow]:
    """Read the rows of a table whose columns were read before, as matminer caches it."""
    columns, index = document["columns"], document.get("index")
    names = [str(name) for name in columns] if isinstance(columns, list) else []
    check_unique(names, "the table")
    labels = index if isinstance(index, list) else []
    for place, (cells, problem) in enumerate(stream.elements()):
        label = labels[place] if place < len(labels) else place
        value = dict(zip(names, cells, strict=False)) if isinstance(cells, list) else cells
        given_id = label if isinstance(label, str) else None
        yield _row(value, problem, reading, str(label)[:80], given_id=given_id)


def _row(
    value: object,
    problem: InvalidInputError | None,
    reading: Reading,
    line: str,
    *,
    given_id: str | None = None,
) -> RawRow:
    """Make one row of many."""
    if problem is not None:
        return RawRow(line=line, error=problem)
    if not isinstance(value, Mapping):
        # the text of a CIF file by its id; anything else is refused later
        return RawRow(line=line, given_id=given_id, structure=value)
    return from_document(value, reading, line, default_id=given_id)


def _is_row(key: str, value: object) -> bool:
    """Say whether the first member of an object is a row, by its id."""
    if isinstance(value, str):
        return "\n" in value
    if key in {"structure", "lattice", "molecule", "data", "atoms"} or key.startswith("@"):
        return False
    return isinstance(value, Mapping) and (
        is_structure(value) or first_of(STRUCTURE_NAMES, value) is not None
    )
