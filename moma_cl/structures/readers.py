"""Reading rows: JSON lines, folders with ``id_prop.csv``, and CIF, POSCAR or JSON files.

Everything streams; whatever is wrong with a line or a file becomes the status of a row.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from moma_cl.structures.crystals import Crystal
from moma_cl.structures.documents import crystal_from_document
from moma_cl.structures.parsing import Limits, StructureParser, TextFormat
from moma_cl.structures.validation import RowError
from moma_store.errors import InvalidInputError, MomaError, NotFoundError

__all__ = ["Limits", "Row", "RowError", "read_rows"]

_TABLE = "id_prop.csv"
_POSCAR_SUFFIXES = frozenset({".vasp", ".poscar", ".contcar"})
_SUFFIXES = ("", ".cif", ".vasp", ".poscar", ".json")  # of a structure named in the table
_CIF_MARK = re.compile(r"^\s*(data_|_cell_|loop_)", re.IGNORECASE | re.MULTILINE)
_NO_VALUES: Mapping[str, object] = MappingProxyType({})
_SKIPPED = 8  # how many times the longest line is read on in search of the next line
_MAX_ID = 512  # characters

# Anything that reading and decoding a file can end with.
_READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the input, good or bad.

    Attributes
    ----------
    id
        The ``id`` column, or a name made from the file and line.
    source
        File and line, such as ``data.jsonl:17``, or the path of a structure file.
    crystal
        The structure; ``None`` when the row is refused.
    values
        The other columns as given.
    error
        Why the row is refused; ``None`` when it is not.
    """

    id: str
    source: str
    crystal: Crystal | None
    values: Mapping[str, object]
    error: RowError | None


def read_rows(
    sources: Sequence[Path], *, limits: Limits | None = None, strict: bool = False
) -> Iterator[Row]:
    """Read rows one by one in input order; a bad row, line or file becomes a row with an error.

    Parameters
    ----------
    sources
        Files (``.jsonl``, ``.jsonl.gz``, ``.json``, ``.cif``, POSCAR) and folders. A folder has
        an ``id_prop.csv``, whose columns without a header are called ``value``, ``value_2`` and
        so on, or all its files are structures.
    limits
        What one row may cost.
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
    limits = limits or Limits()
    with StructureParser(limits) as parser:
        reader = _Reader(parser, limits)
        for source in sources:
            try:
                _check_source(source)
            except (NotFoundError, InvalidInputError) as error:
                if strict:
                    raise
                yield _refused(source.stem, str(source), error)
            else:
                yield from reader.source(source)


def _check_source(source: Path) -> None:
    """Check that a source is there and of a kind that can be read."""
    try:
        mode = source.stat().st_mode
    except FileNotFoundError as error:
        raise NotFoundError(f"{source} does not exist") from error
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise _unreadable(source, error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _unreadable(source, "neither a file nor a folder")
    if not os.access(source, os.R_OK):
        raise _unreadable(source, "no permission")
    if stat.S_ISREG(mode) and _kind(source) is None:
        raise InvalidInputError(
            f"{source} is of no known kind; expected .jsonl, .jsonl.gz, .json, .cif, .vasp or a "
            "name with POSCAR or CONTCAR",
            code="invalid-input.unknown-format",
        )


def _unreadable(path: Path, reason: object) -> InvalidInputError:
    return InvalidInputError(f"{path} cannot be read ({reason})", code="invalid-input.unreadable")


def _kind(path: Path) -> str | None:
    """Tell the kind of a file from its name."""
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return "lines"
    if path.suffix.lower() in {".cif", ".json"}:
        return path.suffix.lower().removeprefix(".")
    if path.suffix.lower() in _POSCAR_SUFFIXES or "poscar" in name or "contcar" in name:
        return "poscar"
    return None


def _refused(
    row_id: str, source: str, error: MomaError, values: Mapping[str, object] = _NO_VALUES
) -> Row:
    code = error.code.removeprefix("invalid-input.")
    reason = RowError(code=code, message=error.message)
    return Row(id=row_id, source=source, crystal=None, values=values, error=reason)


class _Reader:
    """Reads sources of every kind with one parser.

    Parameters
    ----------
    parser
        What parses CIF and POSCAR text.
    limits
        What one row may cost.
    """

    def __init__(self, parser: StructureParser, limits: Limits) -> None:
        self._parser = parser
        self._limits = limits

    def source(self, path: Path) -> Iterator[Row]:
        """Read a file or folder."""
        if path.is_dir():
            table = path / _TABLE
            yield from self._table(table) if table.is_file() else self._folder(path)
        elif _kind(path) == "lines":
            yield from self._lines(path)
        else:
            yield self._file(path, path.stem, _NO_VALUES)

    def _folder(self, folder: Path) -> Iterator[Row]:
        """Read every file of a folder without a table."""
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                if path.is_dir():
                    raise InvalidInputError(
                        f"{path} is a folder inside a folder: name it by itself",
                        code="invalid-input.unknown-format",
                    )
                _check_source(path)
            except (NotFoundError, InvalidInputError) as error:
                yield _refused(path.stem, str(path), error)
            else:
                yield from self.source(path)

    def _table(self, table: Path) -> Iterator[Row]:
        """Read the structures that ``id_prop.csv`` lists."""
        try:
            records = list(csv.reader(io.StringIO(self._text(table), newline="")))
        except (InvalidInputError, csv.Error) as error:
            yield _refused(table.stem, str(table), _unreadable(table, error))
            return
        columns, has_header = _columns(records)
        for number, record in enumerate(records, start=1):
            if record and not (has_header and number == 1):
                yield self._listed(table, number, record, columns)

    def _listed(self, table: Path, number: int, record: list[str], columns: list[str]) -> Row:
        """Read the structure of one line of a table."""
        source = f"{table}:{number}"
        values = dict(zip(columns, map(_cell, record[1:]), strict=False))
        try:
            row_id = _row_id(record[0].strip(), f"{table.parent.name}:{number}")
            path = _structure_file(table.parent, row_id)
        except (NotFoundError, InvalidInputError) as error:
            return _refused(f"{table.parent.name}:{number}", source, error, values)
        return self._file(path, row_id, values, source=source)

    def _file(
        self, path: Path, row_id: str, values: Mapping[str, object], *, source: str | None = None
    ) -> Row:
        """Read a file that holds one structure."""
        source = source or str(path)
        try:
            row_id = _row_id(row_id, path.name)
            text = self._text(path)
            if _kind(path) == "json":
                crystal = self._structure(_load_object(text))
            else:
                crystal = self._parse(text, is_cif=_kind(path) == "cif")
        except InvalidInputError as error:
            return _refused(row_id, source, error, values)
        return Row(id=row_id, source=source, crystal=crystal, values=values, error=None)

    def _text(self, path: Path) -> str:
        """Read a text file of limited size."""
        limit = self._limits.text_bytes
        try:
            with path.open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise _unreadable(path, error.strerror) from error
        if len(data) > limit:
            raise InvalidInputError(
                f"{path} has more than {limit:,} bytes", code="invalid-input.too-long"
            )
        if b"\0" in data:
            raise InvalidInputError(f"{path} is binary, not text", code="invalid-input.not-text")
        # Comments of old CIF files hold Latin-1; what matters in them is ASCII.
        return data.decode("utf-8-sig", errors="replace")

    def _lines(self, path: Path) -> Iterator[Row]:
        """Read JSON lines, compressed or not."""
        number = 0
        try:
            with _opened(path) as stream:
                for number, line in enumerate(self._split(stream), start=1):
                    if line is None or line.strip():
                        yield self._line(path, number, line)
        except _READ_ERRORS as error:
            number += 1
            reason = InvalidInputError(
                f"{path} cannot be read beyond line {number - 1} ({error}): is it complete?",
                code="invalid-input.truncated",
            )
            yield _refused(f"{_stem(path)}:{number}", f"{path}:{number}", reason)

    def _split(self, stream: io.BufferedIOBase) -> Iterator[bytes | None]:
        """Split into lines; one that is too long is skipped and given as ``None``."""
        limit = self._limits.text_bytes
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

    def _line(self, path: Path, number: int, line: bytes | None) -> Row:
        """Read one row."""
        source, row_id = f"{path}:{number}", f"{_stem(path)}:{number}"
        values: dict[str, object] = {}
        try:
            values = _load_object(self._decode(line, first=number == 1))
            structure, given_id = values.pop("structure", None), values.pop("id", None)
            row_id = _row_id(given_id, row_id)
            crystal = self._structure(structure)
        except InvalidInputError as error:
            return _refused(row_id, source, error, values)
        return Row(id=row_id, source=source, crystal=crystal, values=values, error=None)

    def _decode(self, line: bytes | None, *, first: bool) -> str:
        if line is None:
            raise InvalidInputError(
                f"the line has more than {self._limits.text_bytes:,} bytes",
                code="invalid-input.too-long",
            )
        try:
            return line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"the line is not UTF-8 ({error.reason} at byte {error.start})",
                code="invalid-input.not-text",
            ) from error

    def _structure(self, structure: object) -> Crystal:
        """Read a structure in any of its forms."""
        if structure is None:
            raise InvalidInputError(
                "the row has no structure", code="invalid-input.missing-structure"
            )
        if isinstance(structure, Mapping):
            return crystal_from_document(structure)
        if isinstance(structure, str):
            return self._parse(structure, is_cif=_CIF_MARK.search(structure) is not None)
        raise InvalidInputError(
            f"the structure is of type {type(structure).__name__}; expected an object, or CIF or "
            "POSCAR text",
            code="invalid-input.malformed-structure",
        )

    def _parse(self, text: str, *, is_cif: bool) -> Crystal:
        if not text.strip():
            raise InvalidInputError(
                "the structure is empty", code="invalid-input.missing-structure"
            )
        return self._parser.parse(text, TextFormat.CIF if is_cif else TextFormat.POSCAR)


def _opened(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, decompressing them."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _stem(path: Path) -> str:
    """Name of a file without ``.jsonl.gz``."""
    return path.name.split(".jsonl")[0] or path.name


def _row_id(given: object, fallback: str) -> str:
    """Take the id of a row, or make one."""
    if given is None or given == "":
        return fallback
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise InvalidInputError(
            f"the id is of type {type(given).__name__}; expected a string",
            code="invalid-input.bad-id",
        )
    row_id = str(given)
    if len(row_id) > _MAX_ID or not row_id.isprintable():
        raise InvalidInputError(
            f"the id {row_id[:32]!r} has unprintable characters or is longer than {_MAX_ID}",
            code="invalid-input.bad-id",
        )
    return row_id


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object, refusing what JSON leaves open."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(
            f"the key {repeated[:64]!r} occurs twice in one object",
            code="invalid-input.duplicate-key",
        )
    return made


def _load_object(text: str) -> dict[str, object]:
    """Load a JSON object."""
    try:
        loaded = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"not JSON ({error})", code="invalid-input.not-json") from error
    if not isinstance(loaded, dict):
        raise InvalidInputError(
            f"a JSON {type(loaded).__name__}; expected an object", code="invalid-input.not-json"
        )
    return loaded


def _cell(text: str) -> object:
    """Read a cell of a table: a number where it is one."""
    text = text.strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _columns(records: list[list[str]]) -> tuple[list[str], bool]:
    """Names of the columns after the id, and whether the first record gave them."""
    names = [name.strip() for name in records[0][1:]] if records else []
    # A header has neither a number nor an empty name.
    if names and all(isinstance(_cell(name), str) for name in names):
        return names, True
    return ["value", *(f"value_{place}" for place in range(2, len(names) + 1))], False


def _structure_file(folder: Path, row_id: str) -> Path:
    """Find the file of a structure named in a table."""
    if Path(row_id).name != row_id:
        raise InvalidInputError(
            f"the id {row_id!r} is not the name of a file", code="invalid-input.bad-id"
        )
    for suffix in _SUFFIXES:
        path = folder / f"{row_id}{suffix}"
        try:
            if path.is_file():
                return path
        except OSError as error:  # the id is too long for a name
            raise _unreadable(path, error.strerror) from error
    raise InvalidInputError(
        f"there is no {row_id}.cif or {row_id}.vasp in {folder}",
        code="invalid-input.missing-structure",
    )
