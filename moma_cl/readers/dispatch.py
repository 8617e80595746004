"""Reading rows from files of every kind, folders, archives and standard input.

Everything streams; whatever is wrong with a line or a file becomes the status of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

from moma_cl.readers import ase_rows, json_rows, table_rows
from moma_cl.readers.archives import Bundle
from moma_cl.readers.byte_sources import (
    READ_ERRORS,
    STANDARD_INPUT,
    FilePlace,
    Place,
    StreamPlace,
    check_source,
    expanded,
)
from moma_cl.readers.formats import InputFormat, distinct_stems, format_of
from moma_cl.readers.json_stream import load_object
from moma_cl.readers.memory import LABEL, MemoryRows, Sources
from moma_cl.readers.rows import (
    BOXED,
    InputFile,
    Limits,
    RawRow,
    Reading,
    Row,
    from_document,
    refused,
    row_id,
)
from moma_cl.readers.structure_json import structure_from_document
from moma_cl.readers.text_parser import StructureParser
from moma_cl.structures.checks import RowError
from moma_cl.structures.crystals import Crystal, wrapped
from moma_cl.structures.molecules import Molecule, boxed
from moma_store.errors import InvalidInputError, MomaError, NotFoundError

__all__ = ["InputFormat", "Limits", "Reader", "Reading", "Row", "RowError", "read_rows"]

_TABLE = "id_prop.csv"
# Blanks without line breaks: a text of nothing but these would be searched anew from each.
_CIF_MARK = re.compile(r"^[^\S\n]*(data_|_cell_|loop_)", re.IGNORECASE | re.MULTILINE)
# What pandas' to_csv writes for objects of pymatgen and ASE, and for dictionaries.
_PRINTED = re.compile(
    r"Full Formula \(.*\)\nReduced Formula|(?:Structure|Molecule) Summary\n|\{'"
    r"|(?:Atoms\(|<)[^\n]*[)>]\s*\Z"
)

_BY_FORMAT: Mapping[InputFormat, Callable[[InputFile], Iterator[RawRow]]] = {
    InputFormat.JSONL: json_rows.lines,
    InputFormat.JSON: json_rows.documents,
    InputFormat.CSV: table_rows.table,
    InputFormat.TSV: table_rows.table,
    InputFormat.XLSX: table_rows.sheet,
    InputFormat.XYZ: ase_rows.xyz_frames,
}


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
        """Read rows as `read_rows` does, without starting another process."""
        if isinstance(sources, MemoryRows):
            yield from (self._row(row, LABEL, LABEL) for row in sources.rows(self._reading))
            return
        listed = list(expanded(sources))
        stems = distinct_stems(listed)
        for source in listed:
            try:
                yield from self._source(source, stems[source])
            except (NotFoundError, InvalidInputError) as error:
                if strict:
                    raise
                yield refused(str(source), stems[source] or str(source), error)

    def _source(self, source: Path, stem: str) -> Iterator[Row]:
        """Read a file, folder or standard input."""
        stated = self._reading.format
        if source == STANDARD_INPUT:
            yield from self._place(StreamPlace(name="stdin", label="stdin"), stated)
            return
        check_source(source, lambda name: (stated or format_of(name)) is not None)
        if not source.is_dir():
            yield from self._place(FilePlace.of(source, stem), stated)
            return
        table = source / _TABLE
        if table.is_file():
            yield from self._place(FilePlace.of(table), None)
            return
        inside = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
        stems = distinct_stems([PurePath("/", path.name) for path in inside])
        for path in inside:
            yield from self._inside(path, stems[PurePath("/", path.name)])

    def _inside(self, path: Path, stem: str) -> Iterator[Row]:
        """Read a file of a folder without a table."""
        try:
            if path.is_dir():
                raise InvalidInputError(
                    f"{path} is a folder inside a folder: name it by itself, or use a pattern such "
                    f"as '{path.parent}/*/POSCAR'",
                    code="invalid-input.unknown-format",
                )
            check_source(path, lambda name: (format_of(name) or self._reading.format) is not None)
            yield from self._place(FilePlace.of(path, stem), format_of(path.name))
        except (NotFoundError, InvalidInputError) as error:
            yield refused(str(path), stem, error)

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

    def _place(self, place: Place, stated: InputFormat | None) -> Iterator[Row]:
        """Read whatever is at a place."""
        file_format = stated or format_of(place.name) or self._reading.format or InputFormat.JSONL
        if file_format is InputFormat.ARCHIVE:
            yield from self._bundle(place)
            return
        file = InputFile(place=place, limits=self._limits, reading=self._reading)
        label, stem = place.label, place.stem
        for raw_row in _complete(file, self._raw_rows(file, file_format)):
            yield self._row(raw_row, label, stem)

    def _raw_rows(self, file: InputFile, file_format: InputFormat) -> Iterator[RawRow]:
        """Divide a file into its rows."""
        if file_format in {InputFormat.CIF, InputFormat.POSCAR}:
            return iter([RawRow(structure=lambda: self._text_file(file.place, file_format))])
        if file_format is InputFormat.ASE_DB:
            return ase_rows.database(file, self._parser)
        if file.place.name == _TABLE and self._reading.structure_column is None:
            return table_rows.listed(file)
        return _BY_FORMAT[file_format](file)

    def _row(self, raw_row: RawRow, label: str, stem: str) -> Row:
        """Read the structure of a row."""
        line = f":{raw_row.line}" if raw_row.line else ""
        source, name = label + line, raw_row.default_id or stem + line
        try:
            name = row_id(raw_row.given_id, name)
            if raw_row.error is not None:
                raise raw_row.error
            structure = self._structure(raw_row.structure)
            crystal = wrapped(boxed(structure) if isinstance(structure, Molecule) else structure)
        except MomaError as error:
            if not isinstance(error, (InvalidInputError, NotFoundError)):
                raise
            return refused(source, name, error, raw_row.values)
        flags = (BOXED,) if isinstance(structure, Molecule) else ()
        return Row(
            id=name,
            source=source,
            crystal=crystal,
            values=raw_row.values,
            error=None,
            flags=flags,
        )

    def _structure(self, structure: object) -> Crystal | Molecule:
        """Read a structure in any of its forms."""
        if callable(structure):
            return self._structure(structure())
        if isinstance(structure, (Crystal, Molecule)):
            return structure
        if isinstance(structure, Mapping):
            return structure_from_document(structure)
        if isinstance(structure, str):
            return self._text(structure)
        if isinstance(structure, Place):
            return self._file(structure)
        if structure is None:
            column = self._reading.structure_column or "of a known name (--structure-column)"
            raise InvalidInputError(
                f"the row has no structure in a column {column}",
                code="invalid-input.missing-structure",
            )
        raise InvalidInputError(
            f"the structure is of type {type(structure).__name__}; expected an object, or CIF or "
            "POSCAR text",
            code="invalid-input.malformed-structure",
        )

    def _text(self, text: str) -> Crystal | Molecule:
        """Read the text of a CIF or POSCAR file, or of a JSON document."""
        if _PRINTED.match(text):
            raise InvalidInputError(
                f"{text[:20]!r} begins a structure as Python prints it, which lacks digits or "
                "atoms: write structure.to(fmt='cif'), or json.dumps of its dictionary",
                code="invalid-input.printed-structure",
            )
        if text.lstrip().startswith("{"):
            return self._structure(from_document(load_object(text), Reading(), "").structure)
        return self._parse(text, InputFormat.CIF if _CIF_MARK.search(text) else InputFormat.POSCAR)

    def _file(self, place: Place) -> Crystal | Molecule:
        """Read a structure file that a table names."""
        file_format = format_of(place.name) or InputFormat.POSCAR
        if file_format in {InputFormat.CIF, InputFormat.POSCAR}:
            return self._text_file(place, file_format)
        if file_format is InputFormat.JSON:
            document = load_object(place.text(self._limits.text_bytes))
            return self._structure(from_document(document, Reading(), "").structure)
        if file_format is not InputFormat.XYZ:
            raise InvalidInputError(
                f"{place.label} is no file of one structure", code="invalid-input.unknown-format"
            )
        file = InputFile(place=place, limits=self._limits, reading=self._reading)
        first, *others = _complete(file, ase_rows.xyz_frames(file))
        if others:
            raise InvalidInputError(
                f"{place.label} holds {1 + len(others)} structures: give each its own file",
                code="invalid-input.many-structures",
            )
        if first.error is not None:
            raise first.error
        return self._structure(first.structure)

    def _text_file(self, place: Place, file_format: InputFormat) -> Crystal:
        return self._parse(place.text(self._limits.text_bytes), file_format)

    def _parse(self, text: str, file_format: InputFormat) -> Crystal:
        if not text.strip():
            raise InvalidInputError(
                "the structure is empty", code="invalid-input.missing-structure"
            )
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return self._parser.parse(text, file_format)


def _complete(file: InputFile, raw_rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Give the rows of a file, and one with an error where it cannot be read any further."""
    try:
        yield from raw_rows
    except READ_ERRORS as error:
        cut_off = InvalidInputError(
            f"{file.place.label} cannot be read beyond line {file.number} ({error}): is it "
            "complete?",
            code="invalid-input.truncated",
        )
        yield RawRow(line=str(file.number + 1), error=cut_off)
