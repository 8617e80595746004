"""Tasks as their refs have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from moma_cl.core.suggestions import did_you_mean
from moma_cl.recipe import Recipe, section
from moma_cl.records.hub import Reads, backbones_of
from moma_cl.records.records import Dataset, Task
from moma_cl.records.refs import HUB, RefKind
from moma_store.errors import InvalidInputError, NotFoundError


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
    backbones: Mapping[str, str]  # digests of the records of the hub's backbones, by name

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
    """List the names of the tasks of a hub, sorted."""
    return sorted(RefKind.TASK.name_in(name) for name in store.refs(RefKind.TASK.prefix))


def task_state(store: Reads, name: str) -> TaskState:
    """Read a task as its refs have it; ``NotFoundError`` if there is no such task."""
    task = store.ref(RefKind.TASK.of(name))
    if task is None:
        hint = did_you_mean(name, task_names(store), otherwise="`moma-cl tasks` lists them")
        raise NotFoundError(f"there is no task {name!r} in the hub{hint}")
    dataset, recipe = (_present(store, kind.of(name)) for kind in (RefKind.DATASET, RefKind.RECIPE))
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
        backbones=backbones_of(store),
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


def check_task_name(name: str) -> None:
    """Refuse a task name with other characters than its message lists, or that is too long."""
    allowed = all(c.isalnum() or c in "_-." for c in name)
    if not name or len(name) > 100 or not allowed or name.startswith("."):  # "..": a folder's name
        raise InvalidInputError(
            f"task name {name!r} cannot be used; expected up to 100 letters, digits, '_', '-', "
            "'.', the first no dot"
        )
