"""``add-data`` and ``retract``: the rows of a task change."""

from __future__ import annotations

from typing import Annotated

import typer

from moma_cli.arriving import counted, rows_answer, split
from moma_cli.output import Answer
from moma_cli.parameters import (
    IdColumn,
    InputFormatChoice,
    NoUpdate,
    ReportFile,
    Sources,
    StructureColumn,
    TaskName,
    Wait,
    reading_of,
)
from moma_cli.program import Run, command


@command("add-data", example="moma-cl add-data bulk_modulus new-rows.jsonl")
def add_data(
    run: Run,
    *,
    name: TaskName,
    sources: Sources,
    unit: Annotated[
        str | None, typer.Option(help="Unit of values that name none; by default the task's.")
    ] = None,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let rows replace stored ones of the same id.")
    ] = False,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
    report: ReportFile = None,
) -> Answer:
    """Bring more rows of a task, or correct earlier ones."""
    from moma_cl.commands import service

    with run.progress() as progress:
        taken = service.add_data(
            run.hub,
            name,
            sources,
            unit=unit,
            reading=reading_of(input_format, structure_column, id_column),
            replace=replace,
            compose=not no_update,
            wait=wait,
            progress=progress,
        )
    summary = (
        f"{name}: {counted(taken.added, 'row')} added, {taken.repeated:,} there already, "
        f"{taken.rows:,} in all ({split(taken.folds, taken.grouping)})"
    )
    return rows_answer(run, taken, report, summary)


@command("retract", example="moma-cl retract bulk_modulus mp-30 mp-134")
def retract(
    run: Run,
    *,
    name: TaskName,
    ids: Annotated[
        list[str], typer.Argument(metavar="IDS", help="Ids of rows.", show_default=False)
    ],
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
) -> Answer:
    """Take rows of a task away."""
    from moma_cl.commands import service

    with run.progress() as progress:
        taken = service.retract(
            run.hub, name, ids, compose=not no_update, wait=wait, progress=progress
        )
    summary = (
        f"{name}: {counted(len(set(ids)), 'row')} retracted, {taken.rows:,} left "
        f"({split(taken.folds, taken.grouping)})"
    )
    return rows_answer(run, taken, None, summary)
