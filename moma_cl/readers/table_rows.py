"""Rows of tables: a column of CIF text or of paths, or ``id_prop.csv`` beside structure files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from moma_cl.readers import spreadsheets
from moma_cl.readers.byte_sources import Place
from moma_cl.readers.formats import VASP_NAMES, InputFormat
from moma_cl.readers.rows import (
    ID_NAMES,
    PATH_NAMES,
    STRUCTURE_NAMES,
    InputFile,
    RawRow,
    Reading,
    check_unique,
    first_of,
)
from moma_cl.readers.tables import Record, cell_value, path_stem, records
from moma_store.errors import InvalidInputError

_SUFFIXES = ("", ".cif", ".vasp", ".poscar", ".json")  # of a structure named in the table


def table(file: InputFile) -> Iterator[RawRow]:
    """Read a table whose first record names its columns; one of them must hold structures."""
    tabs = file.reading.format is InputFormat.TSV or ".tsv" in file.place.name.lower()
    with file.place.stream() as stream:
        yield from _rows(file, records(stream, file.limits.text_bytes, tabs=tabs))


def sheet(file: InputFile) -> Iterator[RawRow]:
    """Read the sheet of a workbook as a table."""
    return _rows(file, spreadsheets.records(file.place, file.limits.text_bytes))


def _rows(file: InputFile, all_records: Iterator[Record]) -> Iterator[RawRow]:
    place = file.place
    header, second = next(all_records, None), next(all_records, None)
    if header is None:
        return
    file.number = header.line
    names, column = _header(place, header, second, file.reading)
    id_column = _id_column(place, names, file.reading)
    lost = False
    for record in chain(filter(None, (second,)), all_records):
        file.number = record.line
        # What follows a malformed record and has too few cells is the rest of it.
        lost = record.error is not None or (lost and len(record.cells) < len(names))
        if record.error is not None or not lost:
            yield _row(place, record, names, column, id_column)


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
    check_unique(names, place.label)
    if reading.structure_column in names:
        return names, str(reading.structure_column)
    if reading.structure_column is None:
        column = _named_column((*STRUCTURE_NAMES, *PATH_NAMES), names)
        if column is not None:
            return names, column
        for name, cell in zip(names, second.cells if second else (), strict=False):
            if path_stem(cell) is not None or "\n" in cell.strip():
                return names, name
    hint = "--structure-column names the one that holds the text of CIF files, or their paths"
    raise _missing(place, names, reading.structure_column or "structure", hint)


def _named_column(candidates: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """Find the column with the best of several names, whatever its case."""
    lowered = {name.lower(): name for name in reversed(names)}
    best = first_of(candidates, lowered)
    return None if best is None else lowered[best]


def _missing(place: Place, names: tuple[str, ...], name: str, hint: str) -> InvalidInputError:
    columns = ", ".join(name[:40] for name in names[:20])
    return InvalidInputError(
        f"{place.label} has no column {name!r}: its columns are {columns}; {hint}",
        code="invalid-input.missing-column",
    )


def _id_column(place: Place, names: tuple[str, ...], reading: Reading) -> str | None:
    if reading.id_column is None:
        return _named_column(ID_NAMES, names)
    if reading.id_column not in names:
        raise _missing(place, names, reading.id_column, "--id-column names that of the ids")
    return reading.id_column


def _row(
    place: Place, record: Record, names: tuple[str, ...], column: str, id_column: str | None
) -> RawRow:
    error = record.error
    if error is None and len(record.cells) > len(names) and any(record.cells[len(names) :]):
        error = InvalidInputError(
            f"the record has {len(record.cells)} cells; expected {len(names)}: quote cells that "
            "hold the delimiter",
            code="invalid-input.malformed-table",
        )
    if error is not None:
        return RawRow(line=str(record.line), error=error)
    cells = dict(zip(names, record.cells, strict=False))
    text = cells.get(column, "")
    # named after its file: its place in the table may be another's tomorrow
    given_id = path_stem(text) if id_column is None else cells.pop(id_column, "").strip()
    cells.pop(column, None)
    return RawRow(
        line=str(record.line),
        given_id=given_id,
        structure=partial(_named_file, place, text.strip())
        if column.lower() in PATH_NAMES or path_stem(text) is not None
        else text,
        values={name: cell_value(cell) for name, cell in cells.items()},
    )


def listed(file: InputFile) -> Iterator[RawRow]:
    """Read the structures that an ``id_prop.csv`` lists, each an id and values.

    A first record without a number names the columns.
    """
    columns: list[str] | None = None
    stem = file.place.stem
    with file.place.stream() as stream:
        for record in records(stream, file.limits.text_bytes):
            file.number = record.line
            if columns is None:
                columns, is_header = _columns(record.cells)
                check_unique(columns, file.place.label)
                if is_header:
                    continue
            name = record.cells[0].strip() if record.cells else ""
            yield RawRow(
                line=str(record.line),
                given_id=name,
                structure=partial(_beside, file.place, name or f"{stem}:{record.line}"),
                values=dict(zip(columns, map(cell_value, record.cells[1:]), strict=False)),
                error=record.error,
            )


def _columns(cells: tuple[str, ...]) -> tuple[list[str], bool]:
    """Names of the columns after the id, and whether the first record gave them."""
    names = [name.strip() for name in cells[1:]]
    # A header has neither a number nor an empty name.
    if names and all(isinstance(cell_value(name), str) for name in names):
        return names, True
    return ["value", *(f"value_{place}" for place in range(2, len(names) + 1))], False


def _beside(place: Place, name: str) -> Place:
    """Find the file, or the folder of VASP, of a structure whose id is in a table."""
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise InvalidInputError(
            f"the id {name!r} is not the name of a file", code="invalid-input.bad-id"
        )
    files = (_existing(place, f"{name}{suffix}") for suffix in _SUFFIXES)
    found = next(filter(None, files), None) or _in_folder(place, name)
    if found is None:
        raise InvalidInputError(
            f"there is no {name}.cif, {name}.vasp or {name}/POSCAR beside {place.label}",
            code="invalid-input.missing-structure",
        )
    return found


def _named_file(place: Place, path: str) -> Place:
    """Find a file by its path relative to the table; the path may be that of a folder of VASP."""
    return _existing(place, path) or _in_folder(place, path) or place.beside(path)


def _in_folder(place: Place, folder: str) -> Place | None:
    found = [file for name in VASP_NAMES if (file := _existing(place, f"{folder}/{name}"))]
    if len(found) > 1:
        raise InvalidInputError(
            f"the folder {folder[:80]!r} has both POSCAR and CONTCAR: name the one that the values "
            "belong to, in a table with a column 'path'",
            code="invalid-input.many-structures",
        )
    return found[0] if found else None


def _existing(place: Place, name: str) -> Place | None:
    try:
        return place.beside(name)
    except InvalidInputError as error:
        if error.code == "invalid-input.missing-structure":
            return None
        raise
