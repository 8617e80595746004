"""``add-backbone``: one more backbone for a hub."""

from __future__ import annotations

from typing import Annotated

import typer

from moma_cli.output import Output, counted
from moma_cli.parameters import Wait
from moma_cli.program import Run, command


@command("add-backbone", example="moma-cl add-backbone sevennet-0")
def add_backbone(
    run: Run,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the backbone.", show_default=False)
    ],
    starter: Annotated[bool, typer.Option(help="Add the modules that come with moma-cl.")] = True,
    wait: Wait = 0.0,
) -> Output:
    """Add a backbone to the hub; nothing that is there changes.

    The next update composes and fits every task on it, too.
    """
    added = run.waiting(wait).add_backbone(name, starter=starter)
    modules = counted(added.modules, "module")
    return Output(
        data=added,
        text=[f"{name} {added.version}: {added.parameters:,} parameters, {modules} to start from"],
        notes=["next: moma-cl update composes and fits every task on it, too"],
    )
