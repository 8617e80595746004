"""``update``, ``plan`` and ``rollback``: keeping every prediction current."""

from __future__ import annotations

from typing import Annotated

import typer

from moma_cli.arriving import failed
from moma_cli.output import Answer, Table
from moma_cli.parameters import TaskName, Wait
from moma_cli.program import Run, command

Only = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="NAMES", help="Only these, separated by commas."),
]


@command("update", example="moma-cl update --wait 60")
def update(run: Run, only: Only = None, wait: Wait = 0.0) -> Answer:
    """Compute what is stale, and exit.

    Silent on success, for cron. Exits 1 if a task failed, 5 if another process is writing.
    """
    from moma_cl import service

    with run.progress() as progress:
        done = service.update(run.hub, tasks=_names(only), wait=wait, progress=progress)
    failures = failed(done)
    notes = [f"{entry.task}: {entry.action} {entry.kind}, {entry.text}" for entry in done]
    return Answer(
        data=done,
        notes=(notes or ["nothing is stale"]) if run.verbose else [],
        errors=failures,
        exit_code=int(bool(failures)),
    )


@command("plan", example="moma-cl plan --tasks bulk_modulus")
def plan(run: Run, only: Only = None) -> Answer:
    """Say what an update would compute, and why.

    The cost is what the like of it took lately.
    """
    from moma_cl import service

    steps = service.plan(run.hub, tasks=_names(only))
    table = Table(
        columns=("task", "step", "status", "cost", "why"),
        numeric=frozenset({"cost"}),
        rows=[
            (
                step.task,
                f"{step.kind}: {step.subject}" if step.subject else step.kind,
                step.status,
                "-" if step.seconds is None else f"{step.seconds:.1f} s",
                step.why,
            )
            for step in steps
        ],
    )
    stale = any(step.status != "not-worth-it" for step in steps)
    return Answer(
        data=steps, text=[table] if steps else [], notes=[] if stale else ["nothing is stale"]
    )


@command("rollback", example="moma-cl rollback bulk_modulus --to 4fe2a91c")
def rollback(
    run: Run,
    name: TaskName,
    to: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="An earlier champion; by default the last before."),
    ] = None,
    wait: Wait = 0.0,
) -> Answer:
    """Let an earlier predictor answer again.

    It stays until something new arrives.
    """
    from moma_cl import service

    moved = service.rollback(run.hub, name, to=to, wait=wait)
    return Answer(
        data=moved, text=[f"{name}: {moved.after[:12]} answers, in place of {moved.before[:12]}"]
    )


def _names(given: list[str] | None) -> list[str] | None:
    return [name for part in given for name in part.split(",") if name] if given else None
