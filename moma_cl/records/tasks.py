"""Tasks as their refs have them: present state, champions, and a hint where a name is wrong."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moma_cl.recipe import Recipe, section
from moma_cl.records.hub import HistoryReads, Reads
from moma_cl.records.records import Dataset, Task
from moma_cl.records.refs import HUB, RefKind
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """One task as its refs have it."""

    name: str
    task_digest: str
    task: Task
    dataset_digest: str
    dataset: Dataset
    recipe: Recipe
    recipe_document: Mapping[str, Any]
    hub_digest: str

    @property
    def trains(self) -> bool:
        """Whether there are rows enough for gradients to decide anything."""
        return self.recipe.predictor.has_folds(
            n_train=self.dataset.n_train,
            n_validation=self.dataset.n_validation,
            n_held_out=self.dataset.n_held_out,
        )

    def settings(self, *names: str) -> dict[str, Any]:
        """Take sections out of the pinned recipe, for a key."""
        return section(self.recipe_document, *names)


def task_names(store: Reads) -> list[str]:
    """List the tasks of a hub.

    Parameters
    ----------
    store
        The hub's store.

    Returns
    -------
    list[str]
        Names, sorted.
    """
    return sorted(RefKind.TASK.name_in(name) for name in store.refs(RefKind.TASK.prefix))


def task_state(store: Reads, name: str) -> TaskState:
    """Read a task as its refs have it.

    Parameters
    ----------
    store
        The hub's store.
    name
        The task's name.

    Returns
    -------
    TaskState
        Task, dataset and recipe.
    """
    task, dataset, recipe = (
        _present(store, kind.of(name)) for kind in (RefKind.TASK, RefKind.DATASET, RefKind.RECIPE)
    )
    recipe_document = store.record(recipe)
    return TaskState(
        name=name,
        task_digest=task,
        task=Task.from_doc(store.record(task)),
        dataset_digest=dataset,
        dataset=Dataset.from_doc(store.record(dataset)),
        recipe=_parsed(json.dumps(recipe_document)),
        recipe_document=recipe_document,
        hub_digest=_present(store, HUB),
    )


@lru_cache(maxsize=256)
def _parsed(text: str) -> Recipe:
    """Parse a recipe once: a walk looks at each task several times."""
    return Recipe.from_doc(json.loads(text))


def _present(store: Reads, name: str) -> str:
    digest = store.ref(name)
    if digest is None:
        raise NotFoundError(f"ref {name!r} is missing; see `moma-cl tasks` for what the hub has")
    return digest


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
            return store.ref(HUB) is not None
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


def champions(store: HistoryReads, name: str) -> list[str]:
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
    ref = RefKind.PREDICTOR.of(name)
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


def check_task_name(name: str) -> None:
    """Refuse what cannot name a task.

    Parameters
    ----------
    name
        The name.

    Raises
    ------
    InvalidInputError
        If it has other characters than letters, digits, ``_``, ``-``, ``.``, begins with a dot,
        or is too long.
    """
    known = all(c.isalnum() or c in "_-." for c in name)
    if not name or len(name) > 100 or not known or name.startswith("."):  # "..": a folder's name
        raise InvalidInputError(
            f"task name {name!r} cannot be used; expected up to 100 letters, digits, '_', '-', "
            "'.', the first no dot"
        )
