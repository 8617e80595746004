"""``update``, ``plan``, ``set-recipe`` and ``rollback``: keeping every prediction current."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cli.arriving import counted, failed, noticed
from moma_cli.output import Answer, Table
from moma_cli.parameters import NoUpdate, Settle, TaskName, Wait, read_settings
from moma_cli.program import Run, command

if TYPE_CHECKING:
    from moma_cl.reconciling.plan import Step

_SHOWN = 3  # postponed derivations that are named

Only = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="NAMES", help="Only these, separated by commas."),
]


class ExecutorChoice(StrEnum):
    """Where derivations are computed, as the command line has it."""

    IN_PROCESS = "in-process"
    DASK = "dask"


@command("update", example="moma-cl update --wait 60")
def update(
    run: Run,
    *,
    only: Only = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="Start nothing that is likely to end later than that."
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try again what failed before.")
    ] = False,
    executor: Annotated[
        ExecutorChoice, typer.Option(help="Compute here one by one, or on a Dask cluster.")
    ] = ExecutorChoice.IN_PROCESS,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of the Dask scheduler; by default one is started."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of a Dask cluster started here; one per core."),
    ] = None,
    settle: Settle = 2.0,
    wait: Wait = 0.0,
) -> Answer:
    """Add what the inbox holds, compute what is stale, and exit.

    Silent on success, for cron. Exits 1 if a task failed, 5 if another process is writing.
    """
    from moma_cl.reconciling.executors import ExecutorKind, ExecutorSettings

    settings = ExecutorSettings(
        kind=ExecutorKind(executor.value), scheduler=scheduler, workers=workers
    )
    with run.progress() as progress:
        done = run.waiting(wait, progress).update(
            tasks=_names(only),
            max_seconds=max_seconds,
            retry=retry,
            executor=settings,
            settle=settle,
        )
    failures = failed(done)
    notes = [f"{entry.task}: {entry.action} {entry.kind}, {entry.text}" for entry in done]
    return Answer(
        data=done,
        notes=(notes or ["nothing is stale"]) if run.verbose else _postponed(done),
        errors=[*failures, *noticed(done)],
        exit_code=int(bool(failures)),
    )


@command("plan", example="moma-cl plan --tasks bulk_modulus")
def plan(
    run: Run,
    only: Only = None,
    *,
    dot: Annotated[bool, typer.Option("--dot", help="Draw it, in Graphviz's language.")] = False,
) -> Answer:
    """Say what an update would compute, and why.

    The cost is what the like of it took lately.
    """
    if dot:
        drawn = run.hub.plan_graph(tasks=_names(only))
        return Answer(data=drawn, text=[drawn])
    steps = run.hub.plan(tasks=_names(only))
    return Answer(data=steps, text=[_planned(steps)] if steps else [], notes=_in_all(steps))


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
        bool, typer.Option("--default", help="Take the recipe that new tasks start with.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be computed again.")
    ] = False,
    no_update: NoUpdate = False,
    wait: Wait = 0.0,
) -> Answer:
    """Change the recipe that is pinned to a task.

    What depends on it is then computed again.
    """
    if default == (file is not None):
        raise typer.BadParameter("give either a file or --default", param_hint="FILE")
    with run.progress() as progress:
        found = run.waiting(wait, progress).set_recipe(
            name,
            None if file is None else read_settings(file),
            dry_run=dry_run,
            compose=not no_update,
        )
    changes = [
        f"{setting}: {_value(before)} -> {_value(after)}"
        for setting, (before, after) in found.changes.items()
    ]
    stale = [_planned(found.steps)] if found.changes and found.steps else []
    failures = failed(found.done)
    return Answer(
        data=found,
        text=[*changes, *(stale if dry_run or no_update else [])],
        notes=[] if found.changes else [f"{name} has these settings already"],
        errors=failures,
        exit_code=int(bool(failures)),
    )


def _value(value: Any) -> str:
    return "unset" if value is None else str(value)


def _postponed(done: Sequence[Done]) -> list[str]:
    """Say what there was no time for."""
    left = [f"{d.task}: {d.kind}" for d in done if d.action == PassAction.POSTPONED]
    if not left:
        return []
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return [f"no time for {counted(len(left), 'derivation')}: {', '.join(left[:_SHOWN])}{more}"]


def _in_all(steps: Sequence[Step]) -> list[str]:
    """Say what a plan costs, or that there is nothing to do."""
    from moma_cl.reconciling.reasons import StepStatus

    left = {StepStatus.NOT_WORTH_IT, StepStatus.SET_ASIDE}
    to_do = [step for step in steps if step.status not in left]
    if not to_do:
        return ["nothing is stale"]
    known = [step.seconds for step in to_do if step.seconds is not None]
    if not known:
        return []
    unknown = len(to_do) - len(known)
    more = f", and {counted(unknown, 'step')} of unknown cost" if unknown else ""
    return [f"about {sum(known):.0f} s for what can be foreseen{more}"]


def _planned(steps: Sequence[Step]) -> Table:
    return Table(
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
    moved = run.waiting(wait).rollback(name, to=to)
    return Answer(
        data=moved, text=[f"{name}: {moved.after[:12]} answers, in place of {moved.before[:12]}"]
    )


def _names(given: list[str] | None) -> list[str] | None:
    return [name for part in given for name in part.split(",") if name] if given else None
