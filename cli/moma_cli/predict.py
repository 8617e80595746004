"""``predict``: answers for structures, one per row of the input and in its order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from moma_cli.arriving import counted
from moma_cli.output import Answer, Problem, Table, figure, json_line, print_table
from moma_cli.parameters import TaskName
from moma_cli.program import Run, command

if TYPE_CHECKING:
    from moma_cl.prediction import PredictedRow

FormatChoice = Literal["table", "jsonl", "csv"]
FIELDS = (
    "id",
    "source",
    "status",
    "value",
    "unit",
    "lower",
    "upper",
    "level",
    "applicability",
    "distance",
    "calibration",
    "message",
    "task",
    "predictor",
)
OK = "ok"
ALL_FAILED = 4


class Tally:
    """Counts rows by status while they pass."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.examples: dict[str, PredictedRow] = {}

    def count(self, rows: Iterable[PredictedRow]) -> Iterator[PredictedRow]:
        """Pass rows on."""
        for row in rows:
            self.by_status[row.status] += 1
            self.examples.setdefault(row.status, row)
            yield row

    @property
    def problems(self) -> list[Problem]:
        """Give what was wrong with rows, each with its first example."""
        return [
            Problem(
                code=status,
                message=f"{counted(number, 'row')}, first {self.examples[status].id} "
                f"({self.examples[status].source}): {self.examples[status].message}",
            )
            for status, number in self.by_status.items()
            if status != OK
        ]

    @property
    def exit_code(self) -> int:
        """One good row is enough; none where there were rows is a failure."""
        return ALL_FAILED if self.by_status.total() and not self.by_status[OK] else 0


@command("predict", example="moma-cl predict bulk_modulus NaCl.cif --format jsonl")
def predict(
    run: Run,
    *,
    name: TaskName,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="JSON lines, CIF and POSCAR files, or folders of them.",
            show_default=False,
        ),
    ],
    layout: Annotated[
        FormatChoice | None,
        typer.Option("--format", help="By default table, or what the suffix of --output says."),
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="Coverage of the intervals; by default the recipe's.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Let this earlier champion answer.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the rows here.")
    ] = None,
) -> Answer:
    """Predict for structures; a bad one never stops the rest.

    Exits 0 if some row has an answer, 4 if none has.
    """
    from moma_cl import listing

    listing.task(run.hub, name)  # a mistyped name is told before torch is imported
    from moma_cl.prediction import predict as answers

    tally = Tally()
    write = WRITERS[layout or _layout_of(output)]
    # On a terminal that shows the rows as they come, a bar would be in their way.
    watched = output is not None or run.json or not sys.stdout.isatty()
    with run.progress(wanted=watched) as progress:
        rows = tally.count(answers(run.hub, name, files, level=level, at=at, progress=progress))
        if output is not None:
            with _published(output) as stream:
                write(rows, stream)
            data: object = {"output": output, "rows": dict(tally.by_status)}
        elif run.json:
            data = [_document(row) for row in rows]
        else:
            data = write(rows, sys.stdout)
    return Answer(
        data=data, errors=tally.problems, notes=_notes(tally, output), exit_code=tally.exit_code
    )


def _notes(tally: Tally, output: Path | None) -> list[str]:
    answered = tally.examples.get(OK)
    if answered is None:
        return []
    where = f"{output}: " if output is not None else ""
    counts = f"{where}{tally.by_status[OK]:,} of {counted(tally.by_status.total(), 'row')}"
    level = f"intervals at {answered.level:.0%} from {answered.calibration}"
    return [f"{counts} answered by {answered.predictor[:12]}, {level}"]


def _layout_of(output: Path | None) -> FormatChoice:
    layouts: dict[str, FormatChoice] = {".jsonl": "jsonl", ".csv": "csv"}
    return layouts.get(output.suffix, "table") if output is not None else "table"


@contextmanager
def _published(file: Path) -> Iterator[TextIO]:
    """Write a file that appears under its name only when it is whole."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _document(row: PredictedRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in FIELDS}


def _write_jsonl(rows: Iterable[PredictedRow], stream: TextIO) -> None:
    for row in rows:
        stream.write(json_line(_document(row)))
        stream.flush()


def _write_csv(rows: Iterable[PredictedRow], stream: TextIO) -> None:
    import csv

    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(_document(row))


def _write_table(rows: Iterable[PredictedRow], stream: TextIO) -> None:
    table = Table(
        columns=("id", "value", "lower", "upper", "unit", "applicability", "status"),
        numeric=frozenset({"value", "lower", "upper"}),
        rows=[
            (
                row.id,
                *map(figure, (row.value, row.lower, row.upper)),
                row.unit,
                row.applicability or "-",
                row.status,
            )
            for row in rows
        ],
    )
    print_table(table, stream)


WRITERS: dict[str, Callable[[Iterable[PredictedRow], TextIO], None]] = {
    "table": _write_table,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}
