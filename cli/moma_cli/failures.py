"""Failures: what the program says, and which status it leaves, when a command cannot go on."""

from __future__ import annotations

import sys
import traceback

import typer

from moma_cli.output import Problem, print_envelope, say
from moma_cli.program import Run
from moma_cli.standard_streams import flush_or_discard

USAGE, INTERRUPTED, FAILED = 2, 130, 1

# Typer does not export the root of its usage errors, and where it lives differs by version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def report(error: BaseException, run: Run) -> int:
    """Print an error, as an envelope where the output is JSON, and give the status to exit with."""
    if isinstance(error, BrokenPipeError):
        flush_or_discard(sys.stdout)  # its reader has closed it, as `head` does
        return 0
    problem, exit_code = _problem_of(error)
    if run.debug:
        say("".join(traceback.format_exception(error)).rstrip("\n"), sys.stderr)
    if run.json:
        try:
            print_envelope(run.command or _command_of(error), None, [problem], exit_code)
            sys.stdout.flush()
        except OSError:
            pass  # stderr is left to tell it on
        else:
            return exit_code
    flush_or_discard(sys.stdout)  # it may be what could not be written
    usage = _usage(error)
    if usage:
        say(usage, sys.stderr)
    say(f"Error [{problem.code}]: {problem.message}", sys.stderr)
    return exit_code


def _problem_of(error: BaseException) -> tuple[Problem, int]:
    from moma_store.errors import MomaError

    if isinstance(error, MomaError):
        return Problem(code=error.code, message=error.message), error.exit_code
    if isinstance(error, _UsageError):
        return Problem(code="usage", message=error.format_message()), USAGE  # type: ignore[attr-defined]
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        message = (
            "interrupted; what was finished is kept, and `moma-cl update` goes on from there, or, "
            "where nothing was stored yet, the same command"
        )
        return Problem(code="interrupted", message=message), INTERRUPTED
    if isinstance(error, OSError):
        return Problem(code="storage", message=str(error)), FAILED
    message = f"{type(error).__name__}: {error}; `--debug` shows where, please report it"
    return Problem(code="internal", message=message), FAILED


def _usage(error: BaseException) -> str:
    context = getattr(error, "ctx", None) if isinstance(error, _UsageError) else None
    if context is None:
        return ""
    return f"{context.get_usage()}\nTry '{context.command_path} --help' for help."


def _command_of(error: BaseException) -> str | None:
    """Name the command whose arguments could not be parsed."""
    context = getattr(error, "ctx", None)
    return context.info_name if context is not None and context.parent is not None else None
