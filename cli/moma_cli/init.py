"""``init``: making a hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.output import Output, counted
from moma_cli.parameters import RecipeFile, read_recipe
from moma_cli.program import Run, command

if TYPE_CHECKING:
    from moma_cl.commands.init import HubMade


@command("init", example="moma-cl init lab-hub --backbone chgnet")
def init(
    run: Run,
    *,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="HUB", help="Its folder; by default that of --hub."),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What all tasks start from; may be repeated.  [default: chgnet, sevennet-0]",
            show_default=False,
        ),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A local folder for the catalogue of a remote hub."),
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(help="Hubs of equal salt have equal folds.", show_default=False),
    ] = None,
    recipe: RecipeFile = None,
    starter: Annotated[bool, typer.Option(help="Add the modules that come with moma-cl.")] = True,
) -> Output:
    """Make a hub with its backbones."""
    from moma_cl.hub import Hub
    from moma_cl.recipe import Recipe

    if path is not None and run.hub_option not in {None, path}:
        raise typer.BadParameter(f"{path} and --hub {run.hub_option} differ", param_hint="HUB")
    pinned = Recipe()
    if recipe is not None:
        pinned = read_recipe(recipe, pinned.to_doc())
    made = Hub(path or run.path).init(
        backbones=backbone or None,
        catalogue=catalogue,
        salt=salt,
        recipe=pinned,
        starter=starter,
    )
    return _output(made)


def _output(made: HubMade) -> Output:
    threads = "1 thread" if made.threads == 1 else f"{made.threads} threads"
    backbones = [
        f"backbone {one.name} {one.version}: {one.parameters:,} parameters, "
        f"{counted(one.modules, 'module')} to start from"
        for one in made.backbones
    ]
    add_task = f"moma-cl --hub {shlex.quote(str(made.path))} add-task NAME DATA"
    return Output(
        data=made,
        text=[f"hub {made.path}: {threads}", *backbones],
        notes=[f"next: {add_task} --target COLUMN --unit UNIT"],
    )
