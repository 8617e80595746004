"""What a hub can be asked to do: one function per verb, each with a frozen result.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation import drift, inbox
from moma_cl.automation.deliveries import add_deliveries, unclaimed
from moma_cl.automation.last_pass import noted
from moma_cl.commands.add_rows import RowsTaken, add_data, add_task, retract
from moma_cl.progress import Progress, quiet
from moma_cl.recipe import Recipe
from moma_cl.reconciling.executors import ExecutorSettings, open_executor
from moma_cl.reconciling.plan import Step, has_failures, is_work, plan_steps
from moma_cl.reconciling.plan_graph import to_dot
from moma_cl.records.champions import champions, choose_champion
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import is_hub
from moma_cl.records.refs import TASK_REFS, RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_store.errors import AlreadyExistsError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.reconciling.pass_actions import Done

__all__ = [
    "HubMade",
    "RolledBack",
    "RowsTaken",
    "add_data",
    "add_task",
    "init",
    "plan",
    "plan_graph",
    "remove_task",
    "retract",
    "rollback",
    "update",
]

DEFAULT_SALT = "moma-cl"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMade:
    """A hub that was made."""

    path: str
    backbone: str
    backbone_version: str
    parameters: int
    threads: int
    modules: int  # that it starts with


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """A champion that was changed by hand."""

    task: str
    before: str
    after: str


def init(
    path: Path,
    *,
    backbone: str = "chgnet",
    catalogue: Path | None = None,
    salt: str = DEFAULT_SALT,
    recipe: Recipe | None = None,
    starter: bool = True,
) -> HubMade:
    """Make a hub and bind it to a backbone, which becomes its first blob.

    Parameters
    ----------
    path
        The hub's folder.
    backbone
        Name of the backbone.
    catalogue
        Folder of the catalogue, where the hub itself is on a network file system.
    salt
        Of the hash that assigns folds; hubs with equal salts have equal folds.
    recipe
        What tasks start with.
    starter
        Whether the hub gets the modules that ship with the package.

    Returns
    -------
    HubMade
        What was made.

    Raises
    ------
    AlreadyExistsError
        If there is a hub already.
    """
    if is_hub(path):
        raise AlreadyExistsError(f"there is a hub at {path}; `moma-cl tasks --hub {path}` lists it")
    from moma_cl.commands.init import found_hub

    recipe = recipe or Recipe()
    hub, n_modules = found_hub(
        path, backbone=backbone, catalogue=catalogue, salt=salt, recipe=recipe, starter=starter
    )
    return HubMade(
        path=str(path),
        backbone=hub.backbone,
        backbone_version=hub.backbone_version,
        parameters=int(hub.manifest["offsets"][-1]),
        threads=recipe.threads,
        modules=n_modules,
    )


def remove_task(path: Path, name: str, *, wait: float = 0.0) -> None:
    """Remove a task and its module from the hub; its records stay until `gc`.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    wait
        How long to wait for another writer, s.

    Raises
    ------
    NotFoundError
        If there is no such task.
    """
    with Store.open(path, write=True, wait=wait) as store:
        task_state(store, name)
        with store.transaction(HistoryAction.REMOVE_TASK, {"task": name}) as transaction:
            for kind in TASK_REFS:
                present = transaction.ref(kind.of(name))
                if present is not None:
                    transaction.move_ref(kind.of(name), None, expected=present)


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
) -> list[Done]:
    """Make one pass: take in what the inbox holds, work out what is stale, do it.

    Parameters
    ----------
    path
        The hub.
    tasks
        Tasks to look at; all by default.
    max_seconds
        What is likely to end later is left for another pass, s; by default nothing is.
    retry
        Whether to try again what failed before.
    executor
        Where derivations are computed; by default in this process.
    settle
        How long something in the inbox must have kept still, s.
    wait
        How long to wait for another writer, s.
    progress
        Told how far long steps are.

    Returns
    -------
    list[Done]
        What was done; nothing where nothing was stale.

    Raises
    ------
    NotFoundError
        If a task does not exist.
    """
    # a reader's look first: most nights there is nothing to do, and nobody to wait for
    steps, names = plan(path, tasks=tasks), _task_names(path)
    with noted(path) as done:
        deliveries = inbox.settled(path, tasks or names, seconds=settle)
        if deliveries or is_work(steps) or (retry and has_failures(steps)):
            from moma_cl.reconciling.composer import Composer

            with Store.open(path, write=True, wait=wait) as store:
                inbox.open_for(path, names)
                done.extend(add_deliveries(store, deliveries, progress=progress))
                done.extend(drift.measure(store, only=tasks, progress=progress))
                with open_executor(executor or ExecutorSettings()) as running:
                    composer = Composer(
                        store=store, progress=progress, max_seconds=max_seconds, executor=running
                    )
                    if retry:
                        composer.retry(tasks)
                    done.extend(composer.run(only=tasks))
        done.extend(unclaimed(path, names))
    return done


def plan(path: Path, *, tasks: Collection[str] | None = None) -> list[Step]:
    """Say what a pass would compute, and why.

    Parameters
    ----------
    path
        The hub.
    tasks
        Tasks to look at; all by default.

    Returns
    -------
    list[Step]
        The steps.

    Raises
    ------
    NotFoundError
        If a task does not exist.
    """
    with Store.open(path) as store, store.snapshot() as view:
        for name in tasks or ():
            task_state(view, name)
        return plan_steps(view, only=tasks)


def plan_graph(path: Path, *, tasks: Collection[str] | None = None) -> str:
    """Draw what a pass would compute, and from what.

    Parameters
    ----------
    path
        The hub.
    tasks
        Tasks to look at; all by default.

    Returns
    -------
    str
        A directed graph in Graphviz's language.

    Raises
    ------
    NotFoundError
        If a task does not exist.
    """
    steps = plan(path, tasks=tasks)
    with Store.open(path) as store:
        return to_dot(steps, store.refs())


def _task_names(path: Path) -> list[str]:
    with Store.open(path) as store:
        return task_names(store)


def rollback(path: Path, name: str, *, to: str | None = None, wait: float = 0.0) -> RolledBack:
    """Let an earlier predictor answer again; it stays until something new arrives.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    to
        Digest of the predictor, or its beginning; by default the champion before this one.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    RolledBack
        Which predictor answers now.

    Raises
    ------
    NotFoundError
        If there is no such task or predictor.
    """
    with Store.open(path, write=True, wait=wait) as store:
        task_state(store, name)
        ref = RefKind.PREDICTOR.of(name)
        present = _ref(store, ref)
        earlier = [digest for digest in champions(store, name) if digest != present]
        target = choose_champion(earlier, to, name)
        with store.transaction(HistoryAction.ROLLBACK, {"task": name}) as transaction:
            transaction.move_ref(ref, target, expected=present)
        return RolledBack(task=name, before=present, after=target)


def _ref(store: Store, name: str) -> str:
    digest = store.ref(name)
    if digest is None:
        raise NotFoundError(f"the hub has no {name!r}; `moma-cl log` shows what happened to it")
    return digest
