"""What a hub can be asked to do: one function per verb, each with a frozen result.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.finding import champions, existing_task, has_hub, matching
from moma_cl.progress import Progress, quiet
from moma_cl.properties import Transform, canonical_property, canonical_unit
from moma_cl.recipe import Recipe
from moma_cl.reconcile import DEFAULT_RECIPE, task_state
from moma_cl.records import ModuleKind, Task
from moma_store.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.composer import Done
    from moma_cl.plan import Step
    from moma_cl.structures.intake import Intake
    from moma_cl.structures.validation import Refusal

DEFAULT_SALT = "moma-cl"
TASK_REFS = ("tasks", "datasets", "recipes", "compositions", "predictors", "fitted", "modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMade:
    """A hub that was made."""

    path: str
    backbone: str
    backbone_version: str
    parameters: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsTaken:
    """Rows that came in, and what followed.

    Attributes
    ----------
    task
        The task's name.
    rows
        Live rows of the task now.
    added
        Rows of the new segment.
    repeated
        Rows that were there already, or came twice.
    left_out
        Rows without a value in the fold column.
    grouping
        What decides the folds.
    folds
        Rows by fold.
    refusals
        Rows that were refused.
    done
        What the pass did.
    """

    task: str
    rows: int
    added: int
    repeated: int
    left_out: int
    grouping: str
    folds: dict[str, int]
    refusals: tuple[Refusal, ...]
    done: tuple[Done, ...]


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

    Returns
    -------
    HubMade
        What was made.

    Raises
    ------
    AlreadyExistsError
        If there is a hub already.
    """
    if has_hub(path):
        raise AlreadyExistsError(f"there is a hub at {path}; `moma-cl tasks --hub {path}` lists it")
    from moma_cl.founding import found_hub

    recipe = recipe or Recipe()
    hub = found_hub(path, backbone=backbone, catalogue=catalogue, salt=salt, recipe=recipe)
    return HubMade(
        path=str(path),
        backbone=hub.backbone,
        backbone_version=hub.backbone_version,
        parameters=int(hub.manifest["offsets"][-1]),
        threads=recipe.threads,
    )


def add_task(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    target: str,
    unit: str,
    property_name: str | None = None,
    transform: Transform = Transform.NONE,
    module: ModuleKind = ModuleKind.FULL,
    fold_column: str | None = None,
    recipe: Recipe | None = None,
    compose: bool = True,
    wait: float = 0.0,
    progress: Progress = quiet,
) -> RowsTaken:
    """Bring a task: validate and store its rows, answer at once, then compose and train.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    sources
        Files and folders with structures and targets.
    target
        Column of the target.
    unit
        Its unit.
    property_name
        What is measured; by default the name of the column.
    transform
        Of the target before learning.
    module
        What the task's own module specialises.
    fold_column
        Column that assigns folds; by default a hash does.
    recipe
        Settings of this task; by default the hub's.
    compose
        Whether a whole pass follows; a first predictor is made in any case.
    wait
        How long to wait for another writer, s.
    progress
        Told how far long steps are.

    Returns
    -------
    RowsTaken
        Rows taken and refused, and what the pass did.

    Raises
    ------
    AlreadyExistsError
        If there is a task of this name.
    InvalidInputError
        If name, unit or data cannot be used.
    """
    check_task_name(name)
    unit = canonical_unit(unit)
    with Store.open(path, write=True, wait=wait) as store:
        if store.ref(f"tasks/{name}") is not None:
            raise AlreadyExistsError(
                f"task {name!r} exists in hub {path}; `moma-cl add-data {name}` adds rows to it"
            )
        if store.ref(f"modules/{name}") is not None:
            raise AlreadyExistsError(
                f"a module {name!r} was added to hub {path}; choose another name for the task"
            )
        from moma_cl import arrivals  # after what can fail without it

        intake = arrivals.take(
            store,
            sources,
            arrivals.Wanted(target=target, transform=transform, fold_column=fold_column),
            appended=False,
            progress=progress,
        )
        task = Task(
            name=name,
            property=canonical_property(property_name or target),
            target=target,
            unit=unit,
            transform=transform.value,
            module=module,
            grouping=arrivals.grouping(intake),
            fold_column=fold_column,
        )
        pinned = recipe.to_doc() if recipe else store.record(_ref(store, DEFAULT_RECIPE))
        added = arrivals.begin(store, task, pinned, intake, sources)
        done = _compose(store, name, compose=compose, progress=progress)
        return _taken(store, name, added, intake, done)


def add_data(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    unit: str | None = None,
    replace: bool = False,
    compose: bool = True,
    wait: float = 0.0,
    progress: Progress = quiet,
) -> RowsTaken:
    """Bring more rows of a task as one more segment, or correct earlier ones.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    sources
        Files and folders with structures and targets.
    unit
        Unit of the targets; by default the task's.
    replace
        Whether a row whose id is stored with other content replaces it; refused otherwise.
    compose
        Whether a whole pass follows.
    wait
        How long to wait for another writer, s.
    progress
        Told how far long steps are.

    Returns
    -------
    RowsTaken
        Rows taken and refused, and what the pass did.

    Raises
    ------
    NotFoundError
        If there is no such task.
    InvalidInputError
        If the data cannot be used.
    """
    with Store.open(path, write=True, wait=wait) as store:
        state = existing_task(store, name)
        from moma_cl import arrivals  # after what can fail without it

        intake = arrivals.take(
            store,
            sources,
            arrivals.Wanted.of(state.task),
            appended=True,
            progress=progress,
        )
        if unit is not None:
            intake = arrivals.converted(intake, unit, state.task.unit)
        intake = arrivals.without_stored(store, state, intake, replace=replace)
        added = arrivals.append_rows(store, state, intake, sources) if intake.ids else 0
        done = _compose(store, name, compose=compose, progress=progress)
        return _taken(store, name, added, intake, done)


def retract(
    path: Path,
    name: str,
    ids: Collection[str],
    *,
    compose: bool = True,
    wait: float = 0.0,
    progress: Progress = quiet,
) -> RowsTaken:
    """Take rows away, as one more segment.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    ids
        Ids of the rows.
    compose
        Whether a whole pass follows.
    wait
        How long to wait for another writer, s.
    progress
        Told how far long steps are.

    Returns
    -------
    RowsTaken
        The rows that are left, and what the pass did.

    Raises
    ------
    NotFoundError
        If there is no such task, or it has no row of an id.
    InvalidInputError
        If no row would be left.
    """
    with Store.open(path, write=True, wait=wait) as store:
        state = existing_task(store, name)
        from moma_cl import arrivals  # after what can fail without it

        arrivals.append_retraction(store, state, frozenset(ids))
        done = _compose(store, name, compose=compose, progress=progress)
        return _taken(store, name, 0, None, done)


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
        existing_task(store, name)
        with store.transaction("remove-task", {"task": name}) as transaction:
            for kind in TASK_REFS:
                present = transaction.ref(f"{kind}/{name}")
                if present is not None:
                    transaction.move_ref(f"{kind}/{name}", None, expected=present)


def update(
    path: Path,
    *,
    tasks: Collection[str] | None = None,
    wait: float = 0.0,
    progress: Progress = quiet,
) -> list[Done]:
    """Make one pass: work out what is stale, do it.

    Parameters
    ----------
    path
        The hub.
    tasks
        Tasks to look at; all by default.
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
    if all(step.status == "not-worth-it" for step in plan(path, tasks=tasks)):
        return []
    from moma_cl.composer import Composer

    with Store.open(path, write=True, wait=wait) as store:
        return Composer(store=store, progress=progress).run(only=tasks)


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
    from moma_cl.plan import plan_steps

    with Store.open(path) as store, store.snapshot() as view:
        for name in tasks or ():
            existing_task(view, name)
        return plan_steps(view, only=tasks)


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
        existing_task(store, name)
        ref = f"predictors/{name}"
        present = _ref(store, ref)
        earlier = [digest for digest in champions(store, name) if digest != present]
        target = matching(earlier, to, name)
        with store.transaction("rollback", {"task": name}) as transaction:
            transaction.move_ref(ref, target, expected=present)
        return RolledBack(task=name, before=present, after=target)


def _compose(store: Store, name: str, *, compose: bool, progress: Progress) -> tuple[Done, ...]:
    from moma_cl.composer import Composer

    composer = Composer(store=store, progress=progress)
    return tuple(composer.run() if compose else composer.first_answer(name))


def _taken(
    store: Store,
    name: str,
    added: int,
    intake: Intake | None,
    done: tuple[Done, ...],
) -> RowsTaken:
    state = task_state(store, name)
    dataset = state.dataset
    return RowsTaken(
        task=name,
        rows=dataset.n_rows,
        added=added,
        repeated=intake.repeats if intake else 0,
        left_out=intake.left_out if intake else 0,
        grouping=str(state.task.grouping),
        folds={
            "train": dataset.n_train,
            "validation": dataset.n_validation,
            "held-out": dataset.n_held_out,
        },
        refusals=intake.refusals if intake else (),
        done=done,
    )


def check_task_name(name: str) -> None:
    """Refuse what cannot name a task.

    Parameters
    ----------
    name
        The name.

    Raises
    ------
    InvalidInputError
        If it has other characters than letters, digits, ``_``, ``-``, ``.``, or too many.
    """
    if not name or len(name) > 100 or not all(c.isalnum() or c in "_-." for c in name):
        raise InvalidInputError(
            f"task name {name!r} cannot be used; expected up to 100 letters, digits, '_', '-', '.'"
        )


def _ref(store: Store, name: str) -> str:
    digest = store.ref(name)
    if digest is None:
        raise NotFoundError(f"the hub has no {name!r}; `moma-cl log` shows what happened to it")
    return digest
