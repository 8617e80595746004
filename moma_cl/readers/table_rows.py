"""Rows of tables: a column of CIF text or of paths, or ``id_prop.csv`` beside structure files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from moma_cl.readers.byte_sources import READ_ERRORS, Place
from moma_cl.readers.json_stream import load_object
from moma_cl.readers.rows import (
    ID_NAMES,
    PATH_NAMES,
    STRUCTURE_NAMES,
    Found,
    InputFormat,
    Reading,
    cut_off,
    first_of,
    row_id,
)
from moma_cl.readers.tables import Record, cell_value, looks_like_path, path_stem, records
from moma_cl.readers.text_parser import Limits
from moma_store.errors import InvalidInputError

_SUFFIXES = ("", ".cif", ".vasp", ".poscar", ".json")  # of a structure named in the table


def table(place: Place, limits: Limits, reading: Reading) -> Iterator[Found]:
    """Read a table whose first record names its columns.

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
        A row for each record after the first.

    Raises
    ------
    InvalidInputError
        No column holds structures, or none can be read.
    """
    tabs = reading.format is InputFormat.TSV or ".tsv" in place.name.lower()
    number = 0
    names: tuple[str, ...] | None = None
    identity: str | None = None
    column, lost = "", False
    try:
        with place.stream() as stream:
            found = records(stream, limits.text_bytes, tabs=tabs)
            first = next(found, None)
            second = next(found, None)
            for record in chain(filter(None, (first, second)), found):
                number = record.line
                if names is None:
                    names, column = _header(place, record, second, reading)
                    identity = _identity(place, names, reading)
                    continue
                # What follows a malformed record and has too few cells is the rest of it.
                lost = record.error is not None or (lost and len(record.cells) < len(names))
                if record.error is not None or not lost:
                    yield _record(place, record, names, column, identity)
    except READ_ERRORS as error:
        yield cut_off(place, number, error)


def _header(
    place: Place, record: Record, second: Record | None, reading: Reading
) -> tuple[tuple[str, ...], str]:
    """Names of the columns, and the one with the structures."""
    if record.error is not None:
        raise InvalidInputError(
            f"{place.label} has no line with names of columns: {record.error.message}",
            code=record.error.code,
        )
    names = record.cells
    lowered = {name.lower(): name for name in reversed(names)}
    wanted = reading.structure_column
    if wanted is not None:
        if wanted in names:
            return names, wanted
    else:
        known = first_of((*STRUCTURE_NAMES, *PATH_NAMES), lowered)
        cells = dict(zip(names, second.cells if second else (), strict=False))
        for name in (lowered[known],) if known else cells:
            if known or _holds_structure(cells[name]):
                return names, name
    hint = "--structure-column names the one that holds the text of CIF files, or their paths"
    raise _missing(place, names, wanted or "structure", hint)


def _missing(place: Place, names: tuple[str, ...], name: str, hint: str) -> InvalidInputError:
    columns = ", ".join(name[:40] for name in names[:20])
    return InvalidInputError(
        f"{place.label} has no column {name!r}: its columns are {columns}; {hint}",
        code="invalid-input.missing-column",
    )


def _identity(place: Place, names: tuple[str, ...], reading: Reading) -> str | None:
    """Find the column with the ids."""
    if reading.id_column is not None:
        if reading.id_column not in names:
            raise _missing(place, names, reading.id_column, "--id-column names that of the ids")
        return reading.id_column
    lowered = {name.lower(): name for name in reversed(names)}
    known = first_of(ID_NAMES, lowered)
    return None if known is None else lowered[known]


def _holds_structure(cell: str) -> bool:
    return looks_like_path(cell) or "\n" in cell.strip()


def _record(
    place: Place, record: Record, names: tuple[str, ...], column: str, identity: str | None
) -> Found:
    """Read one record."""
    source, fallback = f"{place.label}:{record.line}", f"{place.stem}:{record.line}"
    if record.error is not None:
        return Found(source=source, fallback=fallback, error=record.error)
    if len(record.cells) > len(names) and any(record.cells[len(names) :]):
        error = InvalidInputError(
            f"the record has {len(record.cells)} cells; expected {len(names)}: quote cells that "
            "hold the delimiter",
            code="invalid-input.malformed-table",
        )
        return Found(source=source, fallback=fallback, error=error)
    cells = dict(zip(names, record.cells, strict=False))
    text = cells.get(column, "")
    # named after its file: its place in the table may be another's tomorrow
    given_id = path_stem(text) if identity is None else cells.pop(identity, "").strip()
    cells.pop(column, None)
    values = {name: cell_value(cell) for name, cell in cells.items()}
    try:
        structure = _cell_structure(place, text)
    except InvalidInputError as error:
        return Found(
            source=source, fallback=fallback, given_id=given_id, values=values, error=error
        )
    return Found(
        source=source, fallback=fallback, given_id=given_id, structure=structure, values=values
    )


def _cell_structure(place: Place, text: str) -> object:
    """Tell a path, a JSON document and the text of a file from each other."""
    if looks_like_path(text):
        return place.beside(text.strip())
    return load_object(text) if text.lstrip().startswith("{") else text


def listed(place: Place, limits: Limits) -> Iterator[Found]:
    """Read the structures that an ``id_prop.csv`` lists.

    Parameters
    ----------
    place
        The table: an id, then values. A first record without a number names the columns.
    limits
        What one row may cost.

    Yields
    ------
    Found
        A row for each record.
    """
    number = 0
    columns: list[str] | None = None
    try:
        with place.stream() as stream:
            for record in records(stream, limits.text_bytes):
                number = record.line
                if columns is None:
                    columns, is_header = _columns(record.cells)
                    if is_header:
                        continue
                yield _listed(place, record, columns)
    except READ_ERRORS as error:
        yield cut_off(place, number, error)


def _listed(place: Place, record: Record, columns: list[str]) -> Found:
    source, fallback = f"{place.label}:{record.line}", f"{place.stem}:{record.line}"
    values = dict(zip(columns, map(cell_value, record.cells[1:]), strict=False))
    try:
        if record.error is not None:
            raise record.error
        name = row_id(record.cells[0].strip(), fallback)
        structure = _beside(place, name)
    except InvalidInputError as error:
        return Found(source=source, fallback=fallback, values=values, error=error)
    return Found(source=source, fallback=name, structure=structure, values=values)


def _columns(cells: tuple[str, ...]) -> tuple[list[str], bool]:
    """Names of the columns after the id, and whether the first record gave them."""
    names = [name.strip() for name in cells[1:]]
    # A header has neither a number nor an empty name.
    if names and all(isinstance(cell_value(name), str) for name in names):
        return names, True
    return ["value", *(f"value_{place}" for place in range(2, len(names) + 1))], False


def _beside(place: Place, name: str) -> Place:
    """Find the file of a structure named in a table."""
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise InvalidInputError(
            f"the id {name!r} is not the name of a file", code="invalid-input.bad-id"
        )
    for suffix in _SUFFIXES:
        try:
            return place.beside(f"{name}{suffix}")
        except InvalidInputError as error:
            if error.code != "invalid-input.missing-structure":
                raise
    raise InvalidInputError(
        f"there is no {name}.cif or {name}.vasp beside {place.label}",
        code="invalid-input.missing-structure",
    )
