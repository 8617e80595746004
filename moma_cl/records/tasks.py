"""Finding what a user names: hubs, tasks and predictors, with a hint where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moma_cl.reconciling.walk import TaskState, task_names, task_state
from moma_store.errors import NotFoundError
from moma_store.store import Store

TASK_REFS = (
    *("tasks", "datasets", "recipes", "compositions"),
    *("predictors", "fitted", "modules", "drift"),
)
"""What the refs of a task begin with."""


def has_hub(path: Path) -> bool:
    """Say whether a folder is a hub whose founding was finished.

    Parameters
    ----------
    path
        The folder.

    Returns
    -------
    bool
        Whether there is a hub that tasks can be brought to.
    """
    try:
        with Store.open(path) as store:
            return store.ref("hub") is not None
    except NotFoundError:
        return False


def existing_task(store: Any, name: str) -> TaskState:
    """Read a task's state, or say which tasks there are.

    Parameters
    ----------
    store
        The hub's store, or a snapshot of it.
    name
        The task's name.

    Returns
    -------
    TaskState
        Task, dataset and recipe.

    Raises
    ------
    NotFoundError
        If there is no such task.
    """
    names = task_names(store)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `moma-cl tasks` lists them"
        raise NotFoundError(f"there is no task {name!r} in the hub{hint}")
    return task_state(store, name)


def champions(store: Store, name: str) -> list[str]:
    """List all predictors that have answered for a task since it was added.

    Parameters
    ----------
    store
        The hub's store.
    name
        The task's name.

    Returns
    -------
    list[str]
        Digests, the latest first.
    """
    ref = f"predictors/{name}"
    moved: list[str] = []
    for entry in store.history(ref_prefix=ref):
        for change in entry.changes:
            if change.name != ref:
                continue
            if change.new is None:  # an earlier task of this name was removed here
                return list(dict.fromkeys(moved))
            moved.append(change.new)
    return list(dict.fromkeys(moved))


def matching(known: Sequence[str], beginning: str | None, name: str) -> str:
    """Find the one champion whose digest begins in a way.

    Parameters
    ----------
    known
        Digests, the latest first.
    beginning
        Beginning of the digest; by default the latest is found.
    name
        The task's name, for the message.

    Returns
    -------
    str
        The digest.

    Raises
    ------
    NotFoundError
        If there is none, or more than one.
    """
    found = [digest for digest in known if beginning is None or digest.startswith(beginning)]
    if not found or (beginning is not None and len(found) > 1):
        listed = ", ".join(digest[:12] for digest in known) or "none"
        wanted = "an earlier champion" if beginning is None else f"just one like {beginning!r}"
        raise NotFoundError(f"task {name!r} has not {wanted}; champions: {listed}")
    return found[0]
