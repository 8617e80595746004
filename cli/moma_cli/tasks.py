"""``add-task`` and ``remove-task``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from moma_cli.arriving import counted, dry_run_answer, rows_answer, split
from moma_cli.output import Answer
from moma_cli.parameters import (
    IdColumn,
    InputFormatChoice,
    NoUpdate,
    RecipeFile,
    ReportFile,
    Sources,
    StructureColumn,
    TaskName,
    Wait,
    read_recipe,
    reading_of,
)
from moma_cli.program import Run, command

# Spelled out, so that help need not import the library; a test compares them with its enums.
TransformChoice = Literal["none", "log10", "log"]
ModuleChoice = Literal["full", "adapter", "none"]


@command(
    "add-task",
    example="moma-cl add-task bulk_modulus data.jsonl --target k_vrh --unit GPa --transform log10",
)
def add_task(
    run: Run,
    *,
    name: TaskName,
    sources: Sources,
    target: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with the values.", show_default=False)
    ],
    unit: Annotated[
        str | None,
        typer.Option(help="Their unit, such as eV/atom; by default that of a known property."),
    ] = None,
    property_name: Annotated[
        str | None,
        typer.Option("--property", metavar="NAME", help="What is measured; by default COLUMN."),
    ] = None,
    transform: Annotated[
        TransformChoice, typer.Option(help="Of the values before learning.")
    ] = "none",
    module: Annotated[ModuleChoice, typer.Option(help="What the task's module changes.")] = "full",
    fold_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with train, validation or held-out; by default a hash of the formula.",
        ),
    ] = None,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    recipe: RecipeFile = None,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
    report: ReportFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check name and data.")] = False,
) -> Answer:
    """Add a task.

    It answers within seconds; then it is composed, fitted, and its own module trained.
    """
    from moma_cl.properties.transforms import Transform
    from moma_cl.records.records import ModuleKind
    from moma_cl.records.task_spec import TaskSpec

    spec = TaskSpec(
        target=target,
        unit=unit or "",
        property=property_name or "",
        transform=Transform(transform),
        module=ModuleKind(module),
        fold_column=fold_column,
    )
    with run.progress() as progress:
        added = run.waiting(wait, progress).add_task(
            name,
            sources,
            spec,
            reading=reading_of(input_format, structure_column, id_column),
            recipe=_recipe(run, recipe),
            compose=not no_update,
            dry_run=dry_run,
        )
    if dry_run:
        return dry_run_answer(added, report)
    summary = f"{name}: {counted(added.rows, 'row')} ({split(added.folds, added.grouping)})"
    return rows_answer(run, added, report, summary)


@command("remove-task", example="moma-cl remove-task bulk_modulus --dry-run")
def remove_task(
    run: Run,
    *,
    name: TaskName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    wait: Wait = 0.0,
) -> Answer:
    """Remove a task and its module. Their records stay until gc."""
    going = _going(run, name)
    users = ", ".join(going["used_by"])
    loss = f"{name}: {counted(going['rows'], 'row')}" + (f"; composed by {users}" if users else "")
    if dry_run:
        return Answer(data={**going, "removed": False}, text=[f"would remove {loss}"])
    if not yes:
        _confirm(run, f"Remove {loss}?")
    run.waiting(wait).remove_task(name)
    notes = ["next: moma-cl update composes those tasks without it"] if users else []
    return Answer(data={**going, "removed": True}, text=[f"removed {loss}"], notes=notes)


def _recipe(run: Run, file: Path | None) -> Any:
    if file is None:
        return None
    from moma_cl.records.refs import DEFAULT_RECIPE

    return read_recipe(file, run.hub.show(DEFAULT_RECIPE).document)


def _going(run: Run, name: str) -> dict[str, Any]:
    """Say what goes with a task: its rows, and its module's part in other tasks."""
    listed = run.hub.task(name)
    used_by = {
        user: weight
        for module in run.hub.modules()
        if module.task == name
        for user, weight in module.used_by.items()
    }
    return {"task": name, "rows": listed.rows, "used_by": used_by}


def _confirm(run: Run, question: str) -> None:
    if run.json or not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to ask; add --yes", param_hint="--yes")
    if not typer.confirm(question, err=True):
        raise typer.Abort
