"""Reading rows from files of every kind, folders, archives and standard input.

Everything streams; whatever is wrong with a line or a file becomes the status of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from moma_cl.readers import ase_rows, json_rows, table_rows
from moma_cl.readers.archives import Bundle
from moma_cl.readers.byte_sources import (
    STANDARD_INPUT,
    FilePlace,
    Place,
    StreamPlace,
    check_source,
    expanded,
)
from moma_cl.readers.json_stream import load_object
from moma_cl.readers.memory import MemoryRows, Sources
from moma_cl.readers.rows import BOXED, Found, InputFormat, Reading, Row, refused, row_id
from moma_cl.readers.structure_json import structure_from_document
from moma_cl.readers.text_parser import Limits, StructureParser, TextFormat
from moma_cl.structures.checks import RowError
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.molecules import Molecule, boxed
from moma_store.errors import InvalidInputError, MomaError, NotFoundError

__all__ = ["InputFormat", "Limits", "Reader", "Reading", "Row", "RowError", "read_rows"]

_TABLE = "id_prop.csv"
# Blanks without line breaks: a text of nothing but these would be searched anew from each.
_CIF_MARK = re.compile(r"^[^\S\n]*(data_|_cell_|loop_)", re.IGNORECASE | re.MULTILINE)
_BY_SUFFIX = {
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSON,
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.TSV,
    ".xyz": InputFormat.XYZ,
    ".extxyz": InputFormat.XYZ,
    ".cif": InputFormat.CIF,
    ".vasp": InputFormat.POSCAR,
    ".poscar": InputFormat.POSCAR,
    ".contcar": InputFormat.POSCAR,
    ".db": InputFormat.ASE_DB,
    ".zip": InputFormat.ARCHIVE,
    ".tar": InputFormat.ARCHIVE,
    ".tgz": InputFormat.ARCHIVE,
}

_BY_FORMAT: Mapping[InputFormat, Callable[[Place, Limits, Reading], Iterator[Found]]] = {
    InputFormat.JSONL: json_rows.lines,
    InputFormat.JSON: json_rows.documents,
    InputFormat.CSV: table_rows.table,
    InputFormat.TSV: table_rows.table,
    InputFormat.XYZ: ase_rows.xyz_frames,
}


def format_of(name: str) -> InputFormat | None:
    """Tell the format of a file from its name.

    Parameters
    ----------
    name
        The name, which may end with ``.gz``.

    Returns
    -------
    InputFormat | None
        The format, or none where the name does not tell.
    """
    bare = name.lower().removesuffix(".gz")
    known = _BY_SUFFIX.get(Path(bare).suffix)
    if known is None and ("poscar" in bare or "contcar" in bare):
        return InputFormat.POSCAR
    return known


def read_rows(
    sources: Sources,
    *,
    limits: Limits | None = None,
    reading: Reading | None = None,
    strict: bool = False,
) -> Iterator[Row]:
    """Read rows one by one in input order; a bad row, line or file becomes a row with an error.

    Parameters
    ----------
    sources
        Rows from memory; or files, folders, patterns such as ``data/*.cif``, and ``-``; see
        ``docs/inputs.md`` for the formats. A folder has an ``id_prop.csv``, whose columns without
        a header are called ``value``, ``value_2`` and so on, or all its files are structures.
    limits
        What one row may cost.
    reading
        What the user says of the files.
    strict
        Raise when a source is missing or unreadable, instead of giving a row with an error.

    Yields
    ------
    Row
        The rows; the structure is read, but not checked.

    Raises
    ------
    NotFoundError
        A source does not exist, with ``strict``.
    InvalidInputError
        A source is of no known kind or cannot be opened, with ``strict``.
    StorageError
        The process that parses CIF and POSCAR text could not be started.
    """
    with StructureParser(limits or Limits()) as parser:
        yield from Reader(parser, reading or Reading()).rows(sources, strict=strict)


class Reader:
    """Reads sources of every kind.

    Parameters
    ----------
    parser
        Owner of the process that parses, and the limits of what one row may cost.
    reading
        What the user says of the files.
    """

    def __init__(self, parser: StructureParser, reading: Reading) -> None:
        self._parser = parser
        self._limits = parser.limits
        self._reading = reading

    def rows(self, sources: Sources, *, strict: bool = False) -> Iterator[Row]:
        """Read rows, as `read_rows` says.

        Parameters
        ----------
        sources
            Files, folders, patterns, and ``-``.
        strict
            Raise when a source is missing or unreadable.

        Yields
        ------
        Row
            The rows.

        Raises
        ------
        MomaError
            A source cannot be read, with ``strict``.
        """
        if isinstance(sources, MemoryRows):
            yield from map(self._row, sources.rows(self._reading))
            return
        for source in expanded(sources):
            try:
                yield from self._source(source)
            except (NotFoundError, InvalidInputError) as error:
                if strict:
                    raise
                yield refused(str(source), source.stem or str(source), error)

    def _source(self, source: Path) -> Iterator[Row]:
        """Read a file, folder or standard input."""
        given = self._reading.format
        if source == STANDARD_INPUT:
            yield from self._place(StreamPlace(name="stdin", label="stdin"), given)
            return
        check_source(source, lambda name: (given or format_of(name)) is not None)
        if not source.is_dir():
            yield from self._place(FilePlace.of(source), given)
            return
        table = source / _TABLE
        if table.is_file():
            yield from self._place(FilePlace.of(table), None)
            return
        for path in sorted(source.iterdir()):
            if not path.name.startswith("."):
                yield from self._inside(path)

    def _inside(self, path: Path) -> Iterator[Row]:
        """Read a file of a folder without a table."""
        try:
            if path.is_dir():
                raise InvalidInputError(
                    f"{path} is a folder inside a folder: name it by itself",
                    code="invalid-input.unknown-format",
                )
            check_source(path, lambda name: (format_of(name) or self._reading.format) is not None)
            yield from self._place(FilePlace.of(path), format_of(path.name))
        except (NotFoundError, InvalidInputError) as error:
            yield refused(str(path), path.stem, error)

    def _bundle(self, place: Place) -> Iterator[Row]:
        """Read an archive: the table in it, or every file."""
        with Bundle(place) as bundle:
            places = list(bundle.places())
            tables = [member for member in places if member.name == _TABLE]
            for member in tables or places:
                try:
                    if format_of(member.name) in {None, InputFormat.ARCHIVE}:
                        raise InvalidInputError(
                            f"{member.label} is of no kind that is read inside an archive",
                            code="invalid-input.unknown-format",
                        )
                    yield from self._place(member, None)
                except InvalidInputError as error:
                    yield refused(member.label, member.stem, error)

    def _place(self, place: Place, given: InputFormat | None) -> Iterator[Row]:
        """Read whatever is at a place."""
        known = given or format_of(place.name) or self._reading.format or InputFormat.JSONL
        if known is InputFormat.ARCHIVE:
            yield from self._bundle(place)
        else:
            yield from map(self._row, self._found(place, known))

    def _found(self, place: Place, known: InputFormat) -> Iterator[Found]:
        """Find the rows of a file."""
        reading = self._reading
        if known in {InputFormat.CIF, InputFormat.POSCAR}:
            return iter([self._whole(place, known)])
        if known is InputFormat.ASE_DB:
            return ase_rows.database(place, self._parser, reading)
        if place.name == _TABLE and reading.structure_column is None:
            return table_rows.listed(place, self._limits)
        return _BY_FORMAT[known](place, self._limits, reading)

    def _whole(self, place: Place, known: InputFormat) -> Found:
        """Read the text of a file that holds one structure."""
        error = None
        structure = None
        try:
            structure = self._parse(place.text(self._limits.text_bytes), is_cif=known == "cif")
        except InvalidInputError as problem:
            error = problem
        return Found(source=place.label, fallback=place.stem, structure=structure, error=error)

    def _row(self, found: Found) -> Row:
        """Read the structure of a row."""
        name = found.fallback
        try:
            name = row_id(found.given_id, name)
            if found.error is not None:
                raise found.error
            structure = self._structure(found.structure)
            crystal = boxed(structure) if isinstance(structure, Molecule) else structure
        except MomaError as error:
            if not isinstance(error, (InvalidInputError, NotFoundError)):
                raise
            return refused(found.source, name, error, found.values)
        flags = (BOXED,) if isinstance(structure, Molecule) else ()
        return Row(
            id=name,
            source=found.source,
            crystal=crystal,
            values=found.values,
            error=None,
            flags=flags,
        )

    def _structure(self, structure: object) -> Crystal | Molecule:
        """Read a structure in any of its forms."""
        if isinstance(structure, (Crystal, Molecule)):
            return structure
        if isinstance(structure, Mapping):
            return structure_from_document(structure)
        if isinstance(structure, str):
            return self._parse(structure, is_cif=_CIF_MARK.search(structure) is not None)
        if isinstance(structure, Place):
            return self._file(structure)
        if structure is None:
            column = self._reading.structure_column
            where = f" in column {column!r}" if column else ""
            raise InvalidInputError(
                f"the row has no structure{where}", code="invalid-input.missing-structure"
            )
        raise InvalidInputError(
            f"the structure is of type {type(structure).__name__}; expected an object, or CIF or "
            "POSCAR text",
            code="invalid-input.malformed-structure",
        )

    def _file(self, place: Place) -> Crystal | Molecule:
        """Read a structure file that a table names."""
        known = format_of(place.name) or InputFormat.POSCAR
        text_formats = {InputFormat.CIF, InputFormat.POSCAR}
        if known not in {*text_formats, InputFormat.JSON, InputFormat.XYZ}:
            raise InvalidInputError(
                f"{place.label} is no file of one structure", code="invalid-input.unknown-format"
            )
        if known is InputFormat.JSON:
            return structure_from_document(load_object(place.text(self._limits.text_bytes)))
        if known in text_formats:
            text = place.text(self._limits.text_bytes)
            return self._parse(text, is_cif=known is InputFormat.CIF)
        first, *others = ase_rows.xyz_frames(place, self._limits, self._reading)
        if others:
            raise InvalidInputError(
                f"{place.label} holds {1 + len(others)} structures: give each its own file",
                code="invalid-input.many-structures",
            )
        if first.error is not None:
            raise first.error
        return self._structure(first.structure)

    def _parse(self, text: str, *, is_cif: bool) -> Crystal:
        if not text.strip():
            raise InvalidInputError(
                "the structure is empty", code="invalid-input.missing-structure"
            )
        return self._parser.parse(text, TextFormat.CIF if is_cif else TextFormat.POSCAR)
