"""``add-task``, ``add-data`` and ``retract``: the rows that a task is learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moma_cli.output import Output, counted
from moma_cli.parameters import (
    Device,
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
from moma_cli.rows_output import dry_run_output, folds_text, rows_output

if TYPE_CHECKING:
    from moma_cl.recipe import Recipe

# Spelled out, so that help need not import the library; a test compares them with its enums.
TransformChoice = Literal["none", "log10", "log"]
ModuleChoice = Literal["full", "adapter", "none"]

Target = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column with the values.", show_default=False)
]
TargetUnit = Annotated[
    str | None,
    typer.Option(help="Their unit, such as eV/atom; by default that of a known property."),
]
PropertyName = Annotated[
    str | None,
    typer.Option("--property", metavar="NAME", help="What is measured; by default COLUMN."),
]
TransformOption = Annotated[TransformChoice, typer.Option(help="Of the values before learning.")]
ModuleOption = Annotated[ModuleChoice, typer.Option(help="What the task's module changes.")]
FoldColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with train, validation or held-out; by default a hash of the formula.",
    ),
]
PerAtom = Annotated[
    bool,
    typer.Option("--per-atom", help="Values are of whole cells: divide by the number of atoms."),
]
Intensive = Annotated[
    bool, typer.Option("--intensive", help="State that values do not grow with the cell.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the data, and add nothing.")]


@command(
    "add-task",
    example="moma-cl add-task bulk_modulus data.jsonl --target k_vrh --unit GPa --transform log10",
)
def add_task(
    run: Run,
    *,
    name: TaskName,
    sources: Sources,
    target: Target,
    unit: TargetUnit = None,
    property_name: PropertyName = None,
    transform: TransformOption = "none",
    module: ModuleOption = "full",
    fold_column: FoldColumn = None,
    per_atom: PerAtom = False,
    intensive: Intensive = False,
    input_format: InputFormatChoice = None,
    structure_column: StructureColumn = None,
    id_column: IdColumn = None,
    recipe: RecipeFile = None,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
    device: Device = "auto",
    report: ReportFile = None,
    dry_run: DryRun = False,
) -> Output:
    """Add a task.

    It answers within seconds; then it is composed, fitted, and its own module trained.
    """
    with run.progress() as progress:
        added = run.waiting(wait, progress, device=device).add_task(
            name,
            sources,
            reading=reading_of(input_format, structure_column, id_column),
            recipe=recipe_of(run, recipe),
            compose=not no_update,
            dry_run=dry_run,
            target=target,
            unit=unit or "",
            property=property_name or "",
            fold_column=fold_column,
            per_atom=per_atom,
            intensive=intensive,
            **_choices(transform, module),
        )
    if dry_run:
        return dry_run_output(added, report)
    return rows_output(
        run, added, report, f"{name}: {counted(added.rows, 'row')} {folds_text(added)}"
    )


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
    device: Device = "auto",
    report: ReportFile = None,
    dry_run: DryRun = False,
) -> Output:
    """Add rows to a task, or correct earlier ones."""
    with run.progress() as progress:
        added = run.waiting(wait, progress, device=device).add_data(
            name,
            sources,
            unit=unit,
            replace=replace,
            reading=reading_of(input_format, structure_column, id_column),
            compose=not no_update,
            dry_run=dry_run,
        )
    if dry_run:
        return dry_run_output(added, report)
    summary = (
        f"{name}: {counted(added.added, 'row')} added, {added.repeated:,} there already, "
        f"{added.rows:,} in all {folds_text(added)}"
    )
    return rows_output(run, added, report, summary)


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
    device: Device = "auto",
) -> Output:
    """Retract rows of a task: nothing is learned from them any more."""
    with run.progress() as progress:
        rest = run.waiting(wait, progress, device=device).retract(name, ids, compose=not no_update)
    summary = (
        f"{name}: {counted(len(set(ids)), 'row')} retracted, {rest.rows:,} left {folds_text(rest)}"
    )
    return rows_output(run, rest, None, summary)


def _choices(transform: TransformChoice, module: ModuleChoice) -> dict[str, Any]:
    """Turn the words of the command line into the library's enums."""
    from moma_cl.properties.transforms import Transform
    from moma_cl.records.records import ModuleKind

    return {"transform": Transform(transform), "module": ModuleKind(module)}


def recipe_of(run: Run, file: Path | None) -> Recipe | None:
    """Read the recipe of a new task, laid over that of the hub; none without a file."""
    if file is None:
        return None
    from moma_cl.records.refs import DEFAULT_RECIPE

    return read_recipe(file, run.hub.show(DEFAULT_RECIPE).document)
