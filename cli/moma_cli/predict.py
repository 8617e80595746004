"""``predict``: predictions for structures, one per row of the input and in its order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from moma_cli.answers_target import Ask, Target, target_of
from moma_cli.output import Output, Problem, counted
from moma_cli.parameters import (
    Device,
    IdColumn,
    InputFormatChoice,
    StructureColumn,
    reading_of,
)
from moma_cli.prediction_formats import OF_PROPERTIES, FormatChoice, fields
from moma_cli.program import Run, command
from moma_cli.ranking_options import (
    Acquisition,
    Maximise,
    Minimise,
    Outside,
    Sort,
    Top,
    Window,
    ranking_of,
)

if TYPE_CHECKING:
    from moma_cl.commands.predict import Earlier
    from moma_cl.commands.predictions import PredictedRow
    from moma_cl.commands.ranking import Ranking
    from moma_cl.core.devices import DeviceName
    from moma_cl.readers.rows import Reading
    from moma_cli.progress import Progress

Value = TypeVar("Value")

OK = "ok"
RANGE = "range"
ALL_FAILED = 4

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILES",
        help="JSON lines, CIF and other files, folders, archives, patterns; - for stdin.",
        show_default=False,
    ),
]
Properties = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        metavar="NAMES",
        help="Let the modules that come with moma-cl answer these, divided by commas.",
    ),
]
Layout = Annotated[
    FormatChoice | None,
    typer.Option("--format", help="By default table, or what the suffix of --output says."),
]
Level = Annotated[
    float | None, typer.Option(help="Coverage of the intervals; by default the recipe's.")
]
ChampionAt = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="Let the earlier champion of this digest answer."),
]
Fast = Annotated[
    bool,
    typer.Option("--fast", help="Ask the cheapest learner alone: quicker, with larger errors."),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Add the nearest known rows, and the modules of the predictor."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="COLUMN", help="Hand this column of the input on; repeat it."),
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the rows here.")
]
ResumedFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Go on with this output file; skip rows that it answers."),
]


class Tally:
    """Counts rows by status while they pass."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.examples: dict[str, PredictedRow] = {}
        self.of_properties: dict[str, PredictedRow] = {}
        self.n_left_out = 0

    def count(self, rows: Iterable[PredictedRow]) -> Iterator[PredictedRow]:
        """Pass rows on; count those that a ranking has left out, too."""
        for row in rows:
            self._count(row)
            yield row
        for row in getattr(rows, "left_out", ()):
            self.n_left_out += 1
            self._count(row)

    def _count(self, row: PredictedRow) -> None:
        self.by_status[row.status] += 1
        self.examples.setdefault(row.status, row)
        if row.property and row.status == OK:
            self.of_properties.setdefault(row.property, row)

    @property
    def problems(self) -> list[Problem]:
        """List what was wrong with rows, each with its first example; warn of few known rows."""
        answered = self.examples.get(OK)
        few = [] if answered is None or answered.calibration != RANGE else [_few_rows(answered)]
        return few + [
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
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The task, or several divided by commas; with --property there is none, and "
            "FILES begin here.",
            show_default=False,
        ),
    ] = None,
    files: Files = None,
    properties: Properties = None,
    layout: Layout = None,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    level: Level = None,
    at: ChampionAt = None,
    fast: Fast = False,
    explain: Explain = False,
    sort: Sort = None,
    maximise: Maximise = False,
    minimise: Minimise = False,
    window: Window = None,
    acquire: Acquisition = None,
    outside: Outside = False,
    top: Top = None,
    keep: Keep = None,
    output: OutputFile = None,
    resume: ResumedFile = None,
    device: Device = "auto",
) -> Output:
    """Predict for structures; a bad one never stops the rest.

    With --property, the modules that come with moma-cl answer, and neither a hub nor data is
    needed: `moma-cl predict --property band_gap,formation_energy FILES`.

    Exits 0 if some row has an answer, 4 if none has.
    """
    reading = reading_of(input_format, structure_column, id_column)
    ranking = ranking_of(
        maximise=maximise,
        minimise=minimise,
        window=window,
        sort=sort,
        acquire=acquire,
        outside=outside,
        top=top,
    )
    if properties is not None:
        _refuse_with_property(
            {"--at": at, "--fast": fast, "--explain": explain, "--resume": resume}
            | {"--sort, --max, --min, --target-window": ranking}
        )
        structures = _required("FILES", [Path(name), *(files or [])] if name is not None else [])
        target = target_of(layout, output, None, (*OF_PROPERTIES, *(keep or [])))
        ask, notes = _of_properties(properties, structures, level, reading, device)
        if run.hub_option is not None:
            notes.append(f"no hub is asked: {run.hub_option} was not opened")
        return _predicted(run, target, ask, notes)
    tasks, structures = _required("[NAME]", name).split(","), _required("FILES", files)
    _refuse_together({"--resume": resume}, {"a ranking": ranking, "several tasks": tasks[1:]})
    _refuse_together({"several tasks": tasks[1:]}, {"a ranking": ranking, "--at": at})
    columns = fields(explain=explain, ranked=ranking is not None)
    target = target_of(layout, output, resume, (*columns, *(keep or [])))
    options = {"level": level, "at": at, "fast": fast, "explain": explain, "reading": reading}
    return _predicted(run, target, _of_tasks(run, tasks, structures, ranking, device, options))


def _of_tasks(  # noqa: PLR0917  who is asked, what, and how
    run: Run,
    tasks: Sequence[str],
    files: list[Path],
    ranking: Ranking | None,
    device: DeviceName,
    options: Mapping[str, Any],
) -> Callable[[Progress], Ask]:
    """Give what asks the predictors of tasks."""
    for task in tasks:
        run.hub.task(task)  # a mistyped name is refused before torch is imported

    def ask(progress: Progress) -> Ask:
        hub = run.waiting(progress=progress, device=device)
        if ranking is not None:
            return lambda **_: hub.rank(tasks[0], files, ranking, **options)
        names = tasks if len(tasks) > 1 else tasks[0]
        return partial(hub.iter_predictions, names, files, **options)

    return ask


def _required(metavar: str, value: Value | None) -> Value:
    """Refuse an argument that was left out, in the parser's own words."""
    if not value:
        raise typer.BadParameter(f"Missing argument '{metavar}'.")
    return value


def _refuse_with_property(options: Mapping[str, object]) -> None:
    """Refuse options that ask something of a task."""
    for option, value in options.items():
        if value:
            raise typer.BadParameter(
                "with --property the modules that come with moma-cl answer, not a task",
                param_hint=option,
            )


def _refuse_together(some: Mapping[str, object], others: Mapping[str, object]) -> None:
    """Refuse options that do not go with others."""
    for one, given in some.items():
        for other, beside in others.items():
            if given and beside:
                raise typer.BadParameter(f"{one} does not go with {other}")


def _of_properties(
    properties: Sequence[str],
    files: list[Path],
    level: float | None,
    reading: Reading | None,
    device: DeviceName,
) -> tuple[Callable[[Progress], Ask], list[str]]:
    """Give what asks the modules of the package, and what to say of their choice."""
    from moma_cl.views.shipped_properties import choose_properties

    chosen = choose_properties(properties)  # an unknown one is refused before torch is imported

    def ask(progress: Progress) -> Ask:
        from moma_cl.commands.predict_properties import iter_predictions

        def answers(*, earlier: Earlier | None) -> Iterable[PredictedRow]:
            del earlier  # a run by properties cannot be resumed
            return iter_predictions(
                files, properties, level=level, reading=reading, progress=progress, device=device
            )

        return answers

    return ask, [f"{one.chosen.name}: {one.remark}" for one in chosen if one.remark]


def _predicted(
    run: Run, target: Target, ask: Callable[[Progress], Ask], notes: Sequence[str] = ()
) -> Output:
    """Ask, write the answers where they go, and say how many there are."""
    tally = Tally()
    # A bar would overwrite rows that appear on the same terminal.
    with run.progress(shown=target.file is not None or run.json or not sys.stdout.isatty()) as bar:
        answers = ask(bar)
        data: object = target.write(
            lambda *, earlier: tally.count(answers(earlier=earlier)), as_json=run.json
        )
    if target.file is not None:
        data = {"output": target.file, "rows": dict(tally.by_status)}
    return Output(
        data=data,
        errors=tally.problems,
        notes=[*_notes(tally, target.file), *notes],
        exit_code=tally.exit_code,
    )


def _few_rows(answered: PredictedRow) -> Problem:
    from moma_cl.commands.predictions import FEW_ROWS

    return Problem(code="few-rows", message=f"task {answered.task!r}: {FEW_ROWS}")


def _notes(tally: Tally, output: Path | None) -> list[str]:
    if not tally.by_status:
        return ["there is no row to answer in FILES"]
    answered = tally.examples.get(OK)
    if answered is None:
        return []
    where = f"{output}: " if output is not None else ""
    counts = f"{where}{tally.by_status[OK]:,} of {counted(tally.by_status.total(), 'row')}"
    level = f"intervals at {answered.level:.0%} from {answered.calibration}"
    by = ", ".join(f"{row.module} ({name})" for name, row in tally.of_properties.items())
    shown = tally.by_status.total() - tally.n_left_out
    best = f"; shown: the best {shown:,}" if tally.n_left_out else ""
    return [f"{counts} answered by {by or answered.predictor[:12]}, {level}{best}"]
