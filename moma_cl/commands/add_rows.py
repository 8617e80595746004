"""Bringing tasks and rows: the verbs that change what a task is learned from.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.automation import drift, inbox
from moma_cl.datasets.source_files import source_of
from moma_cl.progress import Progress, quiet
from moma_cl.properties.table import Transform, canonical_property, convert, unit_of_task
from moma_cl.recipe import Recipe
from moma_cl.records.records import ModuleKind, Task
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind
from moma_cl.records.tasks import task_state
from moma_store.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.commands.row_checks import RowChecks
    from moma_cl.datasets.intake import Intake
    from moma_cl.readers.rows import Reading
    from moma_cl.reconciling.pass_actions import Done
    from moma_cl.structures.checks import Refusal


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
    flagged
        Rows that were taken, but whose target the property cannot have.
    done
        What the pass did.
    checks
        What the rows say about each other; none where no row came, or nothing answers yet.
    """

    task: str
    rows: int
    added: int
    repeated: int
    left_out: int
    grouping: str
    folds: dict[str, int]
    refusals: tuple[Refusal, ...]
    flagged: tuple[Refusal, ...]
    done: tuple[Done, ...]
    checks: RowChecks | None = None


def add_task(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    target: str,
    unit: str | None = None,
    property_name: str | None = None,
    transform: Transform = Transform.NONE,
    module: ModuleKind = ModuleKind.FULL,
    fold_column: str | None = None,
    reading: Reading | None = None,
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
        Its unit, and that of values which name none; by default that of the property.
    property_name
        What is measured; by default the name of the column.
    transform
        Of the target before learning.
    module
        What the task's own module specialises; one of `ModuleKind.of_tasks`.
    fold_column
        Column that assigns folds; by default a hash does.
    reading
        What the user says of the files.
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
        If name, unit, kind of module or data cannot be used.
    """
    check_task_name(name)
    _check_module(name, module)
    unit = unit_of_task(unit, property_name or target)
    with Store.open(path, write=True, wait=wait) as store:
        _check_name_free(store, name)
        from moma_cl.backbones.registry import backbone_class
        from moma_cl.datasets import added_rows
        from moma_cl.readers.target_column import Units

        origins = [source_of(source) for source in sources]  # before their rows: what was read
        intake = added_rows.take(
            sources,
            added_rows.Wanted(
                target=target,
                transform=transform,
                fold_column=fold_column,
                units=Units(wanted=unit, property=property_name or target),
                reading=reading,
            ),
            elements=backbone_class(store.backbone["name"]).elements,
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
            grouping=added_rows.grouping(intake),
            fold_column=fold_column,
        )
        pinned = recipe.to_doc() if recipe else _default_recipe(store)
        added = added_rows.begin(store, task, pinned, intake, origins)
        inbox.open_for(store.path, [name])
        done = _compose(store, name, compose=compose, progress=progress)
        return _taken(store, name, added, intake, done)


def add_data(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    unit: str | None = None,
    reading: Reading | None = None,
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
        Unit of targets which name none; by default the task's.
    reading
        What the user says of the files.
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
        state = task_state(store, name)
        if unit is not None:
            convert(1.0, unit, state.task.unit)  # refused before anything is read
        from moma_cl.backbones.registry import backbone_class
        from moma_cl.datasets import added_rows

        origins = [source_of(source) for source in sources]  # before their rows: what was read
        intake = added_rows.take(
            sources,
            added_rows.Wanted.of(state.task, unit=unit, reading=reading),
            elements=backbone_class(store.backbone["name"]).elements,
            appended=True,
            progress=progress,
        )
        intake = added_rows.without_stored(store, state, intake, replace=replace)
        added = added_rows.append_rows(store, state, intake, origins) if intake.ids else 0
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
        state = task_state(store, name)
        from moma_cl.datasets import added_rows

        added_rows.append_retraction(store, state, frozenset(ids))
        done = _compose(store, name, compose=compose, progress=progress)
        return _taken(store, name, 0, None, done)


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


def _check_module(name: str, module: ModuleKind) -> None:
    if module not in ModuleKind.of_tasks():
        kinds = ", ".join(ModuleKind.of_tasks())
        raise InvalidInputError(
            f"task {name!r} cannot train a {module} module; expected one of {kinds}"
        )


def _compose(store: Store, name: str, *, compose: bool, progress: Progress) -> tuple[Done, ...]:
    from moma_cl.reconciling.composer import Composer

    composer = Composer(store=store, progress=progress)
    if not compose:
        return tuple(composer.first_answer(name))
    measured = drift.measure(store, progress=progress)
    return (*measured, *composer.run())


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
        flagged=intake.flagged if intake else (),
        done=done,
        checks=_checks(store, name) if added else None,
    )


def _checks(store: Store, name: str) -> RowChecks | None:
    from moma_cl.commands.row_checks import check_rows

    return check_rows(store, name)


def _check_name_free(store: Store, name: str) -> None:
    if store.ref(RefKind.TASK.of(name)) is not None:
        answered = store.ref(RefKind.PREDICTOR.of(name)) is not None
        more = (
            f"`moma-cl add-data {name}` adds rows to it; `moma-cl update` goes on with what was "
            "interrupted"
        )
        begun = "its rows are in but nothing answers yet: `moma-cl update` goes on with it"
        raise AlreadyExistsError(
            f"task {name!r} exists in hub {store.path}; {more if answered else begun}"
        )
    if store.ref(RefKind.MODULE.of(name)) is not None:
        raise AlreadyExistsError(
            f"a module {name!r} was added to hub {store.path}; choose another name for the task"
        )


def _default_recipe(store: Store) -> dict[str, Any]:
    digest = store.ref(DEFAULT_RECIPE)
    if digest is None:
        raise NotFoundError(f"the hub has no {DEFAULT_RECIPE!r}; run `moma-cl init` again")
    return store.record(digest)
