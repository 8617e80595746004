"""``add-tasks``: a task for each of several columns of one table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.add_rows import DryRun, ModuleChoice, ModuleOption, recipe_of
from moma_cli.output import Output, Table, counted, figure
from moma_cli.parameters import (
    Device,
    IdColumn,
    InputFormatChoice,
    NoUpdate,
    RecipeFile,
    Sources,
    StructureColumn,
    Wait,
    reading_of,
)
from moma_cli.program import Run, command
from moma_cli.rows_output import composed_of, failed, noticed, refused

if TYPE_CHECKING:
    from moma_cl.commands.add_tasks import TasksAdded
    from moma_cl.readers.rows import Reading
    from moma_cl.records.records import ModuleKind

Targets = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS", help="Columns with the values, divided by commas; by default it asks."
    ),
]
Units = Annotated[
    list[str] | None,
    typer.Option(
        "--unit", metavar="COLUMN=UNIT", help="Where the header names none; it may be repeated."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; take all with numbers.")]


@command("add-tasks", example="moma-cl add-tasks table.csv --targets band_gap,bulk_modulus")
def add_tasks(
    run: Run,
    *,
    sources: Sources,
    targets: Targets = None,
    units: Units = None,
    module: ModuleOption = "full",
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    recipe: RecipeFile = None,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
    device: Device = "auto",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> Output:
    """Add a task for each of several columns of the same rows.

    Rows are read once. If one of the tasks is refused, none is added.
    """
    reading = reading_of(input_format, structure_column, id_column)
    given = _units(units or [])
    chosen = targets.split(",") if targets else None
    if chosen is None and not yes:
        chosen = _proposed(run, sources, reading, given)
    with run.progress() as progress:
        added = run.waiting(wait, progress, device=device).add_tasks(
            sources,
            chosen,
            units=given,
            module=_module(module),
            reading=reading,
            recipe=recipe_of(run, recipe),
            compose=not no_update,
            dry_run=dry_run,
        )
    names = [one.task for one in added.added]
    errors = [*failed(added.done), *noticed(added.done)]
    for one in added.added:
        errors += refused(one.refusals, task=one.task)
    if dry_run:
        text = [f"would add {one.task}: {counted(one.rows, 'row')}" for one in added.added]
        return Output(data=added, text=text, errors=errors)
    return Output(
        data=added,
        text=[_table(run, added)],
        notes=[f"next: moma-cl predict {','.join(names)} FILES"],
        errors=errors,
        exit_code=int(bool(failed(added.done))),
    )


def _units(units: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in units:
        column, equals, unit = text.rpartition("=")
        if not (column and equals and unit):
            raise typer.BadParameter(f"{text!r} is not COLUMN=UNIT", param_hint="--unit")
        found[column] = unit
    return found


def _proposed(
    run: Run, sources: list[Path], reading: Reading, units: Mapping[str, str]
) -> list[str]:
    """Ask whether all columns with numbers shall be tasks."""
    from moma_cl.commands.add_tasks import find_targets

    found = find_targets(sources, reading)
    listed = ", ".join(f"{name} ({units.get(name) or unit or '?'})" for name, unit in found.items())
    if run.json or not sys.stdin.isatty():
        raise typer.BadParameter(
            f"name the columns to learn, or give --yes; those with numbers are {listed or 'none'}",
            param_hint="--targets",
        )
    if not typer.confirm(f"Add {counted(len(found), 'task')}: {listed}?", err=True):
        raise typer.Abort
    return list(found)


def _module(choice: ModuleChoice) -> ModuleKind:
    from moma_cl.records.records import ModuleKind

    return ModuleKind(choice)


def _table(run: Run, added: TasksAdded) -> Table:
    listed = {task.name: task for task in run.hub.tasks()}
    tasks = [listed[one.task] for one in added.added]
    return Table(
        columns=("task", "rows", "validation", "held-out", "unit", "composition"),
        numeric=frozenset({"rows", "validation", "held-out"}),
        rows=[
            (
                task.name,
                f"{task.rows:,}",
                figure(task.validation_mae),
                figure(task.held_out_mae),
                task.unit,
                composed_of(task),
            )
            for task in tasks
        ],
    )
