"""``remove-task``, ``rollback`` and ``confirm``: which tasks there are, and what answers."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from moma_cli.output import Output, counted
from moma_cli.parameters import TaskName, Wait
from moma_cli.program import Run, command


@command("remove-task", example="moma-cl remove-task bulk_modulus --dry-run")
def remove_task(
    run: Run,
    *,
    name: TaskName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    wait: Wait = 0.0,
) -> Output:
    """Remove a task and its module. Their records stay until gc."""
    removed = _removed(run, name)
    users = ", ".join(removed["used_by"])
    loss = f"{name}: {counted(removed['rows'], 'row')}"
    loss += f"; composed by {users}" if users else ""
    if dry_run:
        return Output(data={**removed, "removed": False}, text=[f"would remove {loss}"])
    if not yes:
        _confirm(run, f"Remove {loss}?")
    run.waiting(wait).remove_task(name)
    notes = ["next: moma-cl update composes those tasks without it"] if users else []
    return Output(data={**removed, "removed": True}, text=[f"removed {loss}"], notes=notes)


@command("rollback", example="moma-cl rollback bulk_modulus --to 4fe2a91c")
def rollback(
    run: Run,
    name: TaskName,
    to: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="An earlier champion; by default the last before."),
    ] = None,
    wait: Wait = 0.0,
) -> Output:
    """Let an earlier predictor answer again.

    It answers until a new predictor is promoted.
    """
    moved = run.waiting(wait).rollback(name, to=to)
    return Output(
        data=moved, text=[f"{name}: {moved.after[:12]} answers, in place of {moved.before[:12]}"]
    )


@command("confirm", example="moma-cl confirm bulk_modulus")
def confirm(run: Run, name: TaskName, wait: Wait = 0.0) -> Output:
    """Let a predictor answer whose promotion is held because of new rows.

    `retract` takes the rows away instead, if they are wrong.
    """
    moved = run.waiting(wait).confirm(name)
    return Output(
        data=moved, text=[f"{name}: {moved.after[:12]} answers, in place of {moved.before[:12]}"]
    )


def _removed(run: Run, name: str) -> dict[str, Any]:
    """Say what is removed with a task: its rows, and its module's part in other tasks."""
    used_by = {
        user: weight
        for module in run.hub.modules()
        if module.task == name
        for user, weight in module.used_by.items()
    }
    return {"task": name, "rows": run.hub.task(name).rows, "used_by": used_by}


def _confirm(run: Run, question: str) -> None:
    if run.json or not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to ask; add --yes", param_hint="--yes")
    if not typer.confirm(question, err=True):
        raise typer.Abort
