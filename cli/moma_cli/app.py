"""The ``moma-cl`` program: its commands, and the one place where errors end."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from moma_cli import (
    add_backbone,
    add_module,
    add_rows,
    add_tasks,
    archive,
    automation,
    demo,
    evaluate,
    init,
    maintenance,
    predict,
    set_recipe,
    tasks,
    update,
    views,
)
from moma_cli.failures import report
from moma_cli.program import Debug, Hub, Json, Quiet, Run, Verbose, app
from moma_cli.standard_streams import flush_or_discard, open_standard_streams

COMMAND_MODULES = (
    init,
    demo,
    add_rows,
    add_tasks,
    tasks,
    predict,
    evaluate,
    views,
    update,
    set_recipe,
    automation,
    maintenance,
    archive,
    add_backbone,
    add_module,
)
"""Importing them is what declares the commands."""


def _print_version(value: bool) -> None:
    if value:
        from moma_cl import __version__

        sys.stdout.write(f"moma-cl {__version__}\n")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


@app.callback()
def root(
    ctx: typer.Context,
    *,
    hub: Hub = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Continual learning for material property prediction.

    A hub holds tasks, each with its data, its module and its predictor. Every task is composed of
    the modules of the others, again whenever data or modules are added.
    """
    del version
    ctx.obj.set_options(hub=hub, json=json, quiet=quiet, verbose=verbose, debug=debug)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    arguments
        The command line without the program's name; by default this process's.

    Returns
    -------
    int
        Status to exit with: 0 ok, 1 failed, 2 usage, 3 not found, 4 invalid input, 5 busy,
        6 integrity, 7 format version, 130 interrupted; of `update` also 8 refused, 9 drift, 10 set
        aside.
    """
    open_standard_streams()  # before any other file could get their numbers
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # Looked up before parsing, since parsing may be what fails.
    run = Run(json="--json" in words, debug="--debug" in words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may hold what the terminal's encoding has no character for.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        exit_code = _invoke(words, run)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the program's one catch
        exit_code = report(error, run)
    flush_or_discard(sys.stderr)
    return exit_code


def _invoke(words: list[str], run: Run) -> int:
    # Not `app()`, which turns an interrupt and a closed pipe into statuses of its own.
    program = typer.main.get_command(app)
    try:
        with program.make_context("moma-cl", words, obj=run) as context:
            program.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    return 0
