"""One row of the input: as a file holds it, and with its structure read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from moma_cl.core.printable import printable
from moma_cl.readers.byte_sources import Place
from moma_cl.readers.formats import InputFormat
from moma_cl.readers.structure_json import is_structure, without_structure
from moma_cl.structures.checks import RowError
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.molecules import VACUUM
from moma_cl.structures.vacuum import LEAST_VACUUM
from moma_store.errors import InvalidInputError, MomaError

BOXED = "boxed-molecule"
"""Flag of a row whose molecule was put into a box with vacuum."""

ISOLATED = "isolated-atoms"
"""Flag of a row whose atoms have no neighbours."""

SLAB = "slab"
"""Flag of a row whose cell has vacuum, while no known structure near it has any."""

REMARKS: Mapping[str, str] = MappingProxyType(
    {
        BOXED: f"without a whole cell: answered in a box with {VACUUM:g} Å of vacuum",
        ISOLATED: "no atom has a neighbour within the cutoff",
        SLAB: f"a slab, layer or molecule with at least {LEAST_VACUUM:g} Å of vacuum; the nearest "
        "known structures have none",
    }
)
"""What flags mean; a row with one is outside of what any predictor knows."""

ID_NAMES = ("id", "material_id", "entry_id", "jid", "mpid", "mp_id")
"""Columns that are taken for the id, the first that is there."""

STRUCTURE_NAMES = ("structure", "cif", "poscar", "molecule", "final_structure", "atoms")
"""Columns that are taken for the structure."""

PATH_NAMES = ("path", "file", "filename", "file_name", "structure_file", "cif_file", "cif_path")
"""Columns of a table that are taken for the paths of structure files."""

ENTRY_PARTS = ("data", "attributes", "key_value_pairs", "info")
"""Objects inside of an entry whose members are columns of its row."""

_NO_VALUES: Mapping[str, object] = MappingProxyType({})
_MAX_ID = 512  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one row may cost.

    Attributes
    ----------
    text_bytes
        Longest line or record of a table, or largest structure file, bytes when uncompressed.
    document_bytes
        Longest JSON document of one row, characters; it is read in this process, where its
        objects take some thirty times as much.
    parse_seconds
        Time for parsing one CIF or POSCAR, s.
    parse_bytes
        Address space the parser may use beyond what it needs to start, bytes; enforced on Linux.
    """

    text_bytes: int = 32 << 20
    document_bytes: int = 16 << 20
    parse_seconds: float = 10.0
    parse_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the user says of the files, where they do not say it themselves.

    Attributes
    ----------
    format
        Format of all of them; by default each file's name tells it, and standard input is JSON
        lines.
    structure_column
        Column of the structures.
    id_column
        Column of the ids.
    unit
        Unit of targets whose row, and whose header, names none; by default that of the task.
    """

    format: InputFormat | None = None
    structure_column: str | None = None
    id_column: str | None = None
    unit: str | None = None


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
    flags
        What is unusual about a structure that is not refused, such as `BOXED`.
    """

    id: str
    source: str
    crystal: Crystal | None
    values: Mapping[str, object]
    error: RowError | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """One row as a file holds it.

    Attributes
    ----------
    line
        Where in the file it is: its line, number or key; empty if it is all of the file.
    default_id
        Its id unless it gives one; by default the file's name and the line.
    given_id
        The id it gives.
    structure
        A structure that is read already; an object of JSON; the text of a CIF or POSCAR file; the
        place of a structure file; or a function that gives one of these or says what is wrong.
    values
        The other columns.
    error
        Why there is no row.
    """

    line: str = ""
    default_id: str | None = None
    given_id: object = None
    structure: object = None
    values: Mapping[str, object] = field(default_factory=dict)
    error: MomaError | None = None


@dataclass(slots=True, kw_only=True)
class InputFile:
    """A file that is being read.

    Attributes
    ----------
    place
        Where it is.
    limits
        What one row may cost.
    reading
        What the user says of it.
    number
        The last line, frame or document that was read.
    """

    place: Place
    limits: Limits
    reading: Reading
    number: int = 0


def row_id(given_id: object, default: str) -> str:
    """Take the id that a row gives, or else the default; what is no printable name is refused."""
    if given_id is None or given_id == "":
        return default
    if isinstance(given_id, bool) or not isinstance(given_id, (str, int, float)):
        raise InvalidInputError(
            f"the id is of type {type(given_id).__name__}; expected a string",
            code="invalid-input.bad-id",
        )
    name = str(given_id)
    if len(name) > _MAX_ID or not name.isprintable():
        raise InvalidInputError(
            f"the id {name[:32]!r} has unprintable characters or is longer than {_MAX_ID}",
            code="invalid-input.bad-id",
        )
    return name


def take_id(values: dict[str, object], reading: Reading) -> object:
    """Take the id out of the columns of a row; a column that the user names must be there."""
    name = reading.id_column
    if name is None:
        id_name = first_of(ID_NAMES, values)
        return None if id_name is None else values.pop(id_name)
    if name not in values:
        raise InvalidInputError(
            f"there is no column {name!r} for the id; the columns are "
            f"{', '.join(column[:40] for column in list(values)[:20])}",
            code="invalid-input.missing-column",
        )
    return values.pop(name)


def refused(
    source: str, name: str, error: MomaError, values: Mapping[str, object] = _NO_VALUES
) -> Row:
    """Make the row of something that cannot be read."""
    reason = replace(RowError.of(error), message=printable(error.message))
    return Row(
        id=printable(name), source=printable(source), crystal=None, values=values, error=reason
    )


def from_document(
    document: Mapping[str, object], reading: Reading, line: str, default_id: str | None = None
) -> RawRow:
    """Divide a JSON object into id, structure and the other columns.

    It is a row with a column for the structure; an entry as pymatgen, OPTIMADE or ASE's JSON
    database has it; or a structure, with other columns beside its own.
    """
    column = reading.structure_column or first_of(STRUCTURE_NAMES, document)
    values = {name: value for name, value in document.items() if not name.startswith("@")}
    for name in ENTRY_PARTS:
        if name in values and isinstance(values[name], Mapping) and name != column:
            part = {str(key): value for key, value in values.pop(name).items()}  # type: ignore[attr-defined]  # checked
            column = column or first_of(STRUCTURE_NAMES, part)
            values = part | values
    structure = None
    if column is not None:
        structure = values.pop(column, None)
    elif is_structure(values):
        structure = dict(document) if is_structure(document) else values
        values = without_structure(values)
    try:
        given_id = take_id(values, reading)
    except InvalidInputError as error:
        return RawRow(line=line, default_id=default_id, values=values, error=error)
    return RawRow(
        line=line, default_id=default_id, given_id=given_id, structure=structure, values=values
    )


def check_unique(names: Sequence[str], label: str) -> None:
    """Refuse columns of which two have one name; columns without a name are left out."""
    places: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        first = places.setdefault(name, place)
        if first != place and name:
            raise InvalidInputError(
                f"columns {first} and {place} of {label} are both called {name[:40]!r}: rename one "
                "of them",
                code="invalid-input.repeated-column",
            )


def first_of(names: Sequence[str], columns: Collection[str]) -> str | None:
    """Find the first of several names, the best first, among some columns."""
    return next((name for name in names if name in columns), None)
