"""``set-recipe``: the settings that are pinned to a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moma_cli.output import Output
from moma_cli.parameters import Device, NoUpdate, TaskName, Wait, read_settings
from moma_cli.program import Run, command
from moma_cli.rows_output import failed, left_to_another
from moma_cli.update import plan_table

if TYPE_CHECKING:
    from moma_cl.commands.set_recipe import RecipeSet


@command("set-recipe", example="moma-cl set-recipe bulk_modulus recipe.toml --dry-run")
def set_recipe(
    run: Run,
    name: TaskName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Settings that change, as TOML or JSON."),
    ] = None,
    *,
    default: Annotated[
        bool, typer.Option("--default", help="Use the recipe that new tasks start with.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be computed again.")
    ] = False,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
    device: Device = "auto",
) -> Output:
    """Change the recipe that is pinned to a task.

    What depends on it is then computed again.
    """
    if default == (file is not None):
        raise typer.BadParameter("give either a file or --default", param_hint="FILE")
    with run.progress() as progress:
        recipe_set = run.waiting(wait, progress, device=device).set_recipe(
            name,
            None if file is None else read_settings(file),
            dry_run=dry_run,
            compose=not no_update,
        )
    return _output(recipe_set, with_steps=dry_run or no_update)


def _output(recipe_set: RecipeSet, *, with_steps: bool) -> Output:
    changes = [
        f"{setting}: {_value(before)} -> {_value(after)}"
        for setting, (before, after) in recipe_set.changes.items()
    ]
    with_steps = with_steps and bool(changes and recipe_set.steps)
    failures = failed(recipe_set.done)
    return Output(
        data=recipe_set,
        text=[*changes, *([plan_table(recipe_set.steps)] if with_steps else [])],
        notes=left_to_another(recipe_set.done)
        if changes
        else [f"{recipe_set.task} has these settings already"],
        errors=failures,
        exit_code=int(bool(failures)),
    )


def _value(value: Any) -> str:
    return "unset" if value is None else str(value)
