"""How ``predict`` writes its rows: as a table, JSON lines, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from moma_cl.core.printable import printable
from moma_cli.output import Table, figure, json_line, jsonable, print_table

if TYPE_CHECKING:
    from typing import TypeAlias

    from moma_cl.commands.evaluate import EvaluatedRow
    from moma_cl.commands.predictions import PredictedRow

    Answer: TypeAlias = PredictedRow | EvaluatedRow

FormatChoice = Literal["table", "jsonl", "csv", "parquet"]
SUFFIXES: dict[str, FormatChoice] = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}

FIELDS = (
    "id",
    "source",
    "formula",
    "status",
    "value",
    "unit",
    "per_atom",
    "lower",
    "upper",
    "level",
    "applicability",
    "distance",
    "unseen_elements",
    "known",
    "known_id",
    "calibration",
    "message",
    "task",
    "predictor",
)
EXPLAINED = ("neighbours", "modules")
"""Fields that come with ``--explain``."""
RANKED = ("score",)
"""Fields of rows that are ordered for a goal."""

OF_PROPERTIES = (
    *(
        "id",
        "source",
        "formula",
        "property",
        "status",
        "value",
        "unit",
        "per_atom",
        "lower",
        "upper",
        "level",
    ),
    *("applicability", "distance", "unseen_elements", "calibration", "message", "module"),
)
"""Fields of answers that need no hub."""

_NUMBERS = frozenset(
    {"value", "lower", "upper", "level", "distance", "known", "measured", "error", "score"}
)
_FLAGS = frozenset({"per_atom", "within"})
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width
_TABLE_ROWS = 1000  # laid out together
_GROUP_ROWS = 10_000  # of a Parquet file, held in memory


def fields(*, explain: bool, ranked: bool = False) -> tuple[str, ...]:
    """List the names of a row's fields in their order; explained or ranked rows have more."""
    return FIELDS + (RANKED if ranked else ()) + (EXPLAINED if explain else ())


def document(row: Answer, columns: Sequence[str] = FIELDS) -> dict[str, object]:
    """Give fields of a row by name, for a JSON object; what is no field is a column of the input.

    A column of the input that has the name of a field is meant nowhere.
    """
    own = row.__dataclass_fields__
    given = getattr(row, "columns", {})
    return {name: getattr(row, name) if name in own else given.get(name) for name in columns}


def write_jsonl(
    rows: Iterable[Answer],
    stream: TextIO,
    *,
    columns: Sequence[str] = FIELDS,
    header: bool = True,
) -> None:
    """Write a line per row as soon as it is predicted; every line names its fields."""
    del header
    for row in rows:
        stream.write(json_line(document(row, columns)))
        stream.flush()


def write_csv(
    rows: Iterable[Answer],
    stream: TextIO,
    *,
    columns: Sequence[str] = FIELDS,
    header: bool = True,
) -> None:
    """Write a line per row as soon as it is predicted, after a header with the fields' names."""
    import csv

    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    shown = printable if stream.isatty() else str
    for row in rows:
        cells = _flat(row, columns)
        writer.writerow({name: to_csv_cell(cell, shown) for name, cell in cells.items()})
        stream.flush()


def to_csv_cell(cell: Any, shown: Callable[[str], str] = str) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    if not isinstance(cell, str):
        return cell
    return f"'{shown(cell)}" if _is_formula(cell) else shown(cell)


def from_csv_cell(cell: str) -> str:
    """Give the text that `to_csv_cell` wrote."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    """Tell whether a spreadsheet would compute a text, or whether it already has an apostrophe."""
    bare = text.lstrip("'")
    if not bare.startswith(_FORMULA_STARTS):
        return False
    try:
        float(bare)
    except ValueError:
        return True
    return False


def write_table(
    rows: Iterable[PredictedRow],
    stream: TextIO,
    *,
    columns: Sequence[str] = FIELDS,
    header: bool = True,
) -> None:
    """Write tables for people, a thousand rows each; an explanation stands below its table."""
    del header
    iterator = iter(rows)
    while block := list(islice(iterator, _TABLE_ROWS)):
        print_table(_predictions_table(block, columns), stream)
        if set(EXPLAINED) <= set(columns):
            stream.write("\nnearest known rows\n")
            print_table(_neighbours_table(block), stream)
            parts = [f"{name} {weight:.2f}" for name, weight in block[0].modules.items()]
            stream.write(f"\nmodules: {', '.join(parts)}\n")


def write_parquet(rows: Iterable[Answer], file: Path, *, columns: Sequence[str] = FIELDS) -> None:
    """Write a Parquet file, ten thousand rows at a time."""
    pa, pq = _pyarrow()
    kinds = dict.fromkeys(_NUMBERS, pa.float64()) | dict.fromkeys(_FLAGS, pa.bool_())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
    iterator = (_flat(row, columns) for row in rows)
    with pq.ParquetWriter(file, schema) as writer:
        while group := list(islice(iterator, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def require_parquet() -> None:
    """Raise the error that says what to install, before anything is computed."""
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    from importlib import import_module

    from moma_store.errors import InvalidInputError

    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidInputError(
            "Parquet needs the package pyarrow; `pip install 'moma-cl[parquet]'` installs it",
            code="invalid-input.missing-extra",
        ) from error


def _flat(row: Answer, columns: Sequence[str]) -> dict[str, Any]:
    """Write a row as numbers and text: lists of symbols with spaces, explanations as JSON."""
    cells: dict[str, Any] = jsonable(document(row, columns))
    cells["unseen_elements"] = " ".join(cells["unseen_elements"])
    for name in set(EXPLAINED) & set(columns):
        cells[name] = json_line(cells[name]).rstrip()
    return cells


def _predictions_table(rows: list[PredictedRow], columns: Sequence[str]) -> Table:
    """Lay out what people look at, and what they asked for beside it."""
    cells: dict[str, list[str]] = {"id": [row.id for row in rows]}
    cells["formula"] = [row.formula or "-" for row in rows]
    if any(row.property for row in rows):
        cells["property"] = [row.property for row in rows]
    if len({row.task for row in rows}) > 1:
        cells["task"] = [row.task for row in rows]
    for name in ("value", "lower", "upper"):
        cells[name] = [figure(getattr(row, name)) for row in rows]
    cells["unit"] = ["-" if row.unit == "1" else row.unit for row in rows]
    if set(RANKED) <= set(columns):
        cells["score"] = [figure(row.score) for row in rows]
    cells["applicability"] = [_applicability(row) for row in rows]
    cells["status"] = [row.status for row in rows]
    if any(row.known is not None for row in rows):
        cells["known"] = [_known(row) for row in rows]
    if any(row.property for row in rows):
        cells["module"] = [row.module for row in rows]
    for name in columns:
        if name not in rows[0].__dataclass_fields__:
            cells[name] = [_text(row.columns.get(name)) for row in rows]
    numeric = frozenset({"value", "lower", "upper", "score"})
    return Table(
        columns=tuple(cells), numeric=numeric, rows=list(zip(*cells.values(), strict=True))
    )


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _applicability(row: PredictedRow) -> str:
    unseen = f" (no {', '.join(row.unseen_elements)} known)" if row.unseen_elements else ""
    return f"{row.applicability or '-'}{unseen}"


def _known(row: PredictedRow) -> str:
    return "-" if row.known is None else f"{figure(row.known)} ({row.known_id})"


def _neighbours_table(rows: list[PredictedRow]) -> Table:
    return Table(
        columns=("id", "known row", "value", "similarity"),
        numeric=frozenset({"value", "similarity"}),
        rows=[
            (row.id, neighbour.id, figure(neighbour.value), f"{neighbour.similarity:.2f}")
            for row in rows
            for neighbour in row.neighbours
        ],
    )


TextWriter = Callable[..., None]
WRITERS: dict[str, TextWriter] = {
    "table": write_table,
    "jsonl": write_jsonl,
    "csv": write_csv,
}
