"""``add-data`` and ``retract``: the rows of a task change."""

from __future__ import annotations

from typing import Annotated

import typer

from moma_cli.arriving import counted, dry_run_answer, rows_answer, split
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the data.")] = False,
) -> Answer:
    """Add rows to a task, or correct earlier ones."""
    with run.progress() as progress:
        added = run.waiting(wait, progress).add_data(
            name,
            sources,
            unit=unit,
            replace=replace,
            reading=reading_of(input_format, structure_column, id_column),
            compose=not no_update,
            dry_run=dry_run,
        )
    if dry_run:
        return dry_run_answer(added, report)
    summary = (
        f"{name}: {counted(added.added, 'row')} added, {added.repeated:,} there already, "
        f"{added.rows:,} in all ({split(added.folds, added.grouping)})"
    )
    return rows_answer(run, added, report, summary)


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
    with run.progress() as progress:
        added = run.waiting(wait, progress).retract(name, ids, compose=not no_update)
    summary = (
        f"{name}: {counted(len(set(ids)), 'row')} retracted, {added.rows:,} left "
        f"({split(added.folds, added.grouping)})"
    )
    return rows_answer(run, added, None, summary)
