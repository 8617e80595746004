"""``update`` and ``plan``: one pass over a hub, and what it would compute."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation import conditions, inbox
from moma_cl.automation.deliveries import add_deliveries
from moma_cl.automation.last_pass import noted
from moma_cl.automation.one_pass import left_to_another, one_pass
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.core.limits import check_seconds
from moma_cl.progress import Progress, quiet
from moma_cl.reconciling.executors import ExecutorKind, ExecutorSettings, open_executor
from moma_cl.reconciling.pass_lock import PassRunningError, only_pass
from moma_cl.reconciling.plan import Step, has_failures, is_work, plan_steps
from moma_cl.reconciling.plan_graph import to_dot
from moma_cl.records.tasks import task_names, task_state
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.reconciling.pass_actions import Done


def update(
    path: Path,
    *,
    tasks: Collection[str] | None = None,
    max_seconds: float | None = None,
    retry: bool = False,
    executor: ExecutorSettings | None = None,
    settle: float = inbox.SETTLE_SECONDS,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> list[Done]:
    """Make one pass: add what the inbox holds, work out what is stale, compute it.

    What is in the inbox is added even while another process makes a pass, which then takes it up.
    """
    check_seconds("settle", settle)
    if max_seconds is not None:
        check_seconds("max_seconds", max_seconds)
    # Plan first: mostly there is nothing to do, and then no other pass to wait for.
    steps = plan(path, tasks=tasks)
    with Store.open(path) as store:
        names = task_names(store)
    with noted(path) as done:
        deliveries = inbox.settled(path, tasks or names, seconds=settle)
        if deliveries or is_work(steps) or (retry and has_failures(steps)):
            from moma_cl.reconciling.composer import Composer

            executor = executor or ExecutorSettings()
            # workers have devices of their own, and this process only compares what they fitted
            here = resolve_device(AUTO if executor.kind == ExecutorKind.DASK else device)
            with Store.open(path) as store:
                inbox.open_for(path, names)
                done.extend(add_deliveries(store, deliveries, progress=progress))
                try:
                    # in this order: a cluster ends slowly, and who waits for the lock waits little
                    with open_executor(executor) as running, only_pass(path, wait=wait):
                        composer = Composer(
                            store=store,
                            progress=progress,
                            device=here,
                            max_seconds=max_seconds,
                            executor=running,
                            worker_device=device,
                        )
                        if retry:
                            composer.retry(tasks)
                        done.extend(one_pass(composer, only=tasks))
                except PassRunningError as error:
                    if not done:
                        raise
                    done.append(left_to_another("", error))  # somebody should read of deliveries
        done.extend(conditions.set_aside(steps, done))
        done.extend(conditions.left_alone(path, names, seconds=settle))
        done[:] = conditions.marked(path, done)
    return done


def plan(path: Path, *, tasks: Collection[str] | None = None) -> list[Step]:
    """Work out what a pass would compute, and why."""
    with Store.open(path) as store, store.snapshot() as view:
        for name in tasks or ():
            task_state(view, name)
        return plan_steps(view, only=tasks)


def plan_graph(path: Path, *, tasks: Collection[str] | None = None) -> str:
    """Draw what a pass would compute, and from what, in Graphviz's language."""
    steps = plan(path, tasks=tasks)
    with Store.open(path) as store:
        return to_dot(steps, store.refs())
