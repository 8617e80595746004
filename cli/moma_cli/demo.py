"""``demo``: a hub made from the data that the package and its dependencies contain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from moma_cli.output import Output, say
from moma_cli.program import Run, command


@command("demo", example="moma-cl demo")
def demo(
    run: Run,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where hub and picture go.")
    ] = Path("moma-demo"),
) -> Output:
    """Watch a hub grow, property after property."""
    from moma_cl.demo.demo import run as run_demo

    def tell(text: str) -> None:
        if not run.json:
            say(text, sys.stdout)
            sys.stdout.flush()

    with run.progress() as progress:
        result = run_demo(folder, say=tell, progress=progress)
    return Output(
        data=result,
        text=[f"{result.picture} ({result.seconds:.0f} s)"],
    )
