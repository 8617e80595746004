"""``evaluate``: how far a task's predictor is off on rows with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.answers_target import target_of, write_rows
from moma_cli.output import Output, Problem, Table, counted, figure
from moma_cli.output_file import final_path, published
from moma_cli.parameters import (
    Device,
    IdColumn,
    InputFormatChoice,
    Sources,
    StructureColumn,
    TaskName,
    reading_of,
)
from moma_cli.predict import ChampionAt, Fast, Level
from moma_cli.program import Run, command
from moma_cli.rows_output import refused

if TYPE_CHECKING:
    from moma_cl.commands.evaluate import Evaluation
    from moma_cl.predictors.scores import Scores

FIELDS = (
    *("id", "measured", "value", "error", "lower", "upper", "within", "unit", "applicability"),
    *("distance", "unseen_elements", "known_id", "message"),
)
LabelColumn = Annotated[
    str | None,
    typer.Option("--target", metavar="COLUMN", help="Column with the labels; as the task's."),
]
LabelUnit = Annotated[
    str | None,
    typer.Option("--unit", help="Unit of labels that name none; by default the task's."),
]
RowsFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the rows here: .csv, .jsonl or .parquet."
    ),
]


@command("evaluate", example="moma-cl evaluate bulk_modulus new.csv --output errors.csv")
def evaluate(
    run: Run,
    name: TaskName,
    data: Sources,
    *,
    labels: LabelColumn = None,
    unit: LabelUnit = None,
    level: Level = None,
    at: ChampionAt = None,
    fast: Fast = False,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    output: RowsFile = None,
    device: Device = "auto",
) -> Output:
    """Say how far the answers are off on rows with labels; nothing is learned from them.

    Errors stand beside that of always answering the median of the task's rows.
    """
    from dataclasses import replace

    target = target_of(None, output, None, FIELDS)
    if output is not None and target.layout == "table":
        raise typer.BadParameter("its suffix is none of .csv, .jsonl, .parquet", param_hint="-o")
    reading = replace(reading_of(input_format, structure_column, id_column), unit=unit)
    run.hub.task(name)  # a mistyped name is refused before torch is imported
    with run.progress() as bar:
        hub = run.waiting(progress=bar, device=device)
        found = hub.evaluate(
            name, data, target=labels, level=level, at=at, fast=fast, reading=reading
        )
    if output is not None:
        with published(final_path(output), keep=False) as path:
            write_rows(found.rows, path, target.layout, FIELDS)
    return Output(
        data=found,
        text=[_table(found), *_sentences(found)],
        notes=[f"{output}: {counted(len(found.rows), 'row')}"] if output is not None else [],
        errors=[*_warnings(found), *refused(found.refusals)],
    )


def _table(found: Evaluation) -> Table:
    columns = (
        *("rows", "number", "error", "of median", "RMS error", "R²", "rank corr."),
        *("in interval", "width"),
    )
    return Table(
        columns=columns,
        numeric=frozenset(columns[1:]),
        rows=[(group, *_cells(scores)) for group, scores in found.scores.items()],
    )


def _cells(scores: Scores) -> tuple[str, ...]:
    return (
        f"{scores.n_rows:,}",
        figure(scores.mae),
        "-" if scores.of_baseline is None else f"{scores.of_baseline:.0%}",
        figure(scores.rmse),
        "-" if scores.r2 is None else f"{scores.r2:.3f}",
        "-" if scores.rank_correlation is None else f"{scores.rank_correlation:.3f}",
        f"{scores.coverage:.0%}",
        figure(scores.width),
    )


def _sentences(found: Evaluation) -> list[str]:
    from moma_cl.commands.evaluate import ALL, NEW

    scores = found.scores.get(NEW, found.scores[ALL])
    error, baseline = figure(scores.mae, found.unit), figure(scores.baseline_mae, found.unit)
    median = figure(found.baseline, found.unit)
    where = "On new structures the" if NEW in found.scores else "The"
    return [
        (
            f"{where} answers are off by {error} on average; always answering the median of the "
            f"task's rows, {median}, is off by {baseline}."
        ),
        (
            f"{scores.coverage:.0%} of the labels lie within their intervals, which promise "
            f"{found.level:.0%}."
        ),
    ]


def _warnings(found: Evaluation) -> list[Problem]:
    if found.n_known == 0:
        return []
    return [
        Problem(
            code="known-rows",
            message=f"{counted(found.n_known, 'row')} have a structure that is a row of the task "
            "already: their errors look smaller than those on new structures",
        )
    ]
