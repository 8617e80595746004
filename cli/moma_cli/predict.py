"""``predict``: answers for structures, one per row of the input and in its order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.answers import (
    SUFFIXES,
    WRITERS,
    FormatChoice,
    document,
    fields,
    require_parquet,
    write_parquet,
)
from moma_cli.arriving import counted
from moma_cli.output import Answer, Problem
from moma_cli.parameters import (
    IdColumn,
    InputFormatChoice,
    StructureColumn,
    TaskName,
    reading_of,
)
from moma_cli.program import Run, command
from moma_cli.resuming import RESUMABLE, begun, published

if TYPE_CHECKING:
    from moma_cl.commands.predict import Earlier
    from moma_cl.commands.predictions import PredictedRow

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
            help="JSON lines, CIF and other files, folders, archives, patterns; - for stdin.",
            show_default=False,
        ),
    ],
    layout: Annotated[
        FormatChoice | None,
        typer.Option("--format", help="By default table, or what the suffix of --output says."),
    ] = None,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    level: Annotated[
        float | None, typer.Option(help="Coverage of the intervals; by default the recipe's.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Let the earlier champion of this digest answer."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Tell the nearest known rows, and the modules behind it."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the rows here.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Go on with this output file, and skip rows that it answers."
        ),
    ] = None,
) -> Answer:
    """Predict for structures; a bad one never stops the rest.

    Exits 0 if some row has an answer, 4 if none has.
    """
    target = _target(layout, output, resume, explain=explain)
    run.hub.task(name)  # a mistyped name is told before torch is imported
    tally = Tally()
    # On a terminal that shows the rows as they come, a bar would be in their way.
    watched = target.file is not None or run.json or not sys.stdout.isatty()
    with run.progress(wanted=watched) as progress:
        ask = partial(
            run.waiting(progress=progress).iter_predictions,
            name,
            files,
            level=level,
            at=at,
            explain=explain,
            reading=reading_of(input_format, structure_column, id_column),
        )
        if target.file is not None:
            target.write(lambda earlier: tally.count(ask(earlier=earlier)))
            data: object = {"output": target.file, "rows": dict(tally.by_status)}
        elif run.json:
            data = [document(row, explain=explain) for row in tally.count(ask())]
        else:
            data = WRITERS[target.layout](tally.count(ask()), sys.stdout, explain=explain)
    return Answer(
        data=data,
        errors=tally.problems,
        notes=_notes(tally, target.file),
        exit_code=tally.exit_code,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the rows go, and how they are written."""

    layout: FormatChoice
    file: Path | None
    resumed: bool
    explain: bool

    def write(self, rows: Callable[[Earlier | None], Iterable[PredictedRow]]) -> None:
        """Write the rows that a call gives to the file; the call takes what is there already."""
        if self.file is None:
            return
        names = fields(explain=self.explain)
        found = begun(self.file, self.layout, names) if self.resumed else None
        with published(self.file, keep=self.layout in RESUMABLE) as path:
            if self.layout == "parquet":
                write_parquet(rows(None), path, explain=self.explain)
                return
            fresh = found is None or found.n_bytes == 0
            with path.open("w" if found is None else "a", encoding="utf-8", newline="") as stream:
                left = rows(found.earlier if found else None)
                WRITERS[self.layout](left, stream, explain=self.explain, header=fresh)


def _target(
    layout: FormatChoice | None, output: Path | None, resume: Path | None, *, explain: bool
) -> Target:
    if output is not None and resume is not None:
        raise typer.BadParameter("it names the output file itself", param_hint="--resume")
    file = output if resume is None else resume
    chosen = layout or _layout_of(file)
    if resume is not None and chosen not in RESUMABLE:
        raise typer.BadParameter(f"a {chosen} cannot be continued", param_hint="--resume")
    if chosen == "parquet":
        if file is None:
            raise typer.BadParameter("parquet needs --output FILE", param_hint="--format")
        require_parquet()
    return Target(layout=chosen, file=file, resumed=resume is not None, explain=explain)


def _layout_of(file: Path | None) -> FormatChoice:
    """Tell the layout by the suffix: a table where there is none, or for people to read."""
    suffix = file.suffix.lower() if file is not None else ""
    if suffix in {"", ".txt"}:
        return "table"
    if suffix not in SUFFIXES:
        raise typer.BadParameter(
            f"the suffix {suffix!r} is none of {', '.join(SUFFIXES)} and .txt; --format names a "
            "layout for any",
            param_hint="--output",
        )
    return SUFFIXES[suffix]


def _notes(tally: Tally, output: Path | None) -> list[str]:
    if not tally.by_status:
        return ["there is no row to answer in what was given"]
    answered = tally.examples.get(OK)
    if answered is None:
        return []
    where = f"{output}: " if output is not None else ""
    counts = f"{where}{tally.by_status[OK]:,} of {counted(tally.by_status.total(), 'row')}"
    level = f"intervals at {answered.level:.0%} from {answered.calibration}"
    return [f"{counts} answered by {answered.predictor[:12]}, {level}"]
