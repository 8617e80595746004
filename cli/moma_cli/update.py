"""``update`` and ``plan``: one pass, and what it would compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cl.core.limits import LONGEST
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cli.output import Output, Table, counted
from moma_cli.parameters import Device, Settle, Wait
from moma_cli.program import Run, command
from moma_cli.rows_output import failed, left_to_another, noticed

if TYPE_CHECKING:
    from moma_cl.automation.notices import Notice
    from moma_cl.reconciling.plan import Step

_MOST_WORKERS = 4096
_SHOWN = 3  # postponed derivations that are named

Only = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="NAMES", help="Only these, separated by commas."),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=LONGEST,
        help="Start nothing that is likely to end later than that.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of the Dask scheduler; by default one is started."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, max=_MOST_WORKERS, help="Processes of a Dask cluster started here; one per core."
    ),
]


Notify = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="TARGET",
        help="Send the mail to a command, as its input, or as JSON to an http(s) address.",
    ),
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
    max_seconds: MaxSeconds = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try again what failed before.")
    ] = False,
    executor: Annotated[
        ExecutorChoice, typer.Option(help="Compute here one by one, or on a Dask cluster.")
    ] = ExecutorChoice.IN_PROCESS,
    scheduler: Scheduler = None,
    workers: Workers = None,
    settle: Settle = 2.0,
    wait: Wait = 0.0,
    device: Device = "auto",
    notify_targets: Notify = None,
) -> Output:
    """Add what the inbox holds, compute what is stale, and exit.

    Prints a mail if there is something to read, and nothing otherwise. Exits 1 if a task failed, 10
    if work was set aside, 9 on drift, 8 if a row or a delivery was refused, 5 if another process is
    at work on the hub.
    """
    from moma_cl.automation import conditions, notices
    from moma_cl.reconciling.executors import ExecutorKind, ExecutorSettings

    send = _sender(notify_targets or ())
    settings = ExecutorSettings(
        kind=ExecutorKind(executor.value), scheduler=scheduler, workers=workers
    )
    with run.progress() as progress:
        done = run.waiting(wait, progress, device=device).update(
            tasks=_names(only),
            max_seconds=max_seconds,
            retry=retry,
            executor=settings,
            settle=settle,
        )
    notice = notices.notice_of(run.path, done)
    if notice is not None:
        send(notice)
    conditions.remember(run.path, done)
    return _pass_output(run, done, notice)


@command("plan", example="moma-cl plan --tasks bulk_modulus")
def plan(
    run: Run,
    only: Only = None,
    *,
    dot: Annotated[bool, typer.Option("--dot", help="Draw it, in Graphviz's language.")] = False,
) -> Output:
    """Say what an update would compute, and why.

    A step is expected to cost what earlier steps of its kind took.
    """
    if dot:
        graph = run.hub.plan_graph(tasks=_names(only))
        return Output(data=graph, text=[graph])
    steps = run.hub.plan(tasks=_names(only))
    return Output(data=steps, text=[plan_table(steps)] if steps else [], notes=_cost_notes(steps))


def _sender(targets: Sequence[str]) -> Callable[[Notice], None]:
    """Check where mails go, before the pass, and give what sends one there."""
    if not targets:
        return lambda _: None
    from moma_cl.automation import notify

    for target in targets:
        notify.check_target(target)

    def send(notice: Notice) -> None:
        for target in targets:
            notify.notify(target, notice)

    return send


def _pass_output(run: Run, done: Sequence[Done], notice: Notice | None) -> Output:
    """Print the mail; programs get its parts as errors."""
    from moma_cl.automation.notices import exit_code

    notes = [f"{entry.task}: {entry.action} {entry.kind}, {entry.text}" for entry in done]
    return Output(
        data=done,
        text=[] if notice is None else [notice.text],
        notes=(notes or ["nothing is stale"])
        if run.verbose
        else [*_postponed(done), *left_to_another(done)],
        errors=[*failed(done), *noticed(done)] if run.json else (),
        exit_code=exit_code(done),
    )


def _postponed(done: Sequence[Done]) -> list[str]:
    """Name the derivations that there was no time for."""
    names = [f"{d.task}: {d.kind}" for d in done if d.action == PassAction.POSTPONED]
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"no time for {counted(len(names), 'derivation')}: {', '.join(names[:_SHOWN])}{more}"]


def _cost_notes(steps: Sequence[Step]) -> list[str]:
    """Say what a plan costs, or that there is nothing to do."""
    from moma_cl.reconciling.reasons import StepStatus

    skipped = {StepStatus.NOT_WORTH_IT, StepStatus.SET_ASIDE}
    stale = [step for step in steps if step.status not in skipped]
    if not stale:
        return ["nothing is stale"]
    costs = [step.seconds for step in stale if step.seconds is not None]
    if not costs:
        return []
    unknown = len(stale) - len(costs)
    more = f", and {counted(unknown, 'step')} of unknown cost" if unknown else ""
    return [f"about {sum(costs):.0f} s for what can be foreseen{more}"]


def plan_table(steps: Sequence[Step]) -> Table:
    """Lay out the steps of a plan."""
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


def _names(options: list[str] | None) -> list[str] | None:
    return [name for text in options for name in text.split(",") if name] if options else None
