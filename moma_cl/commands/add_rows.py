"""``add-task``, ``add-data`` and ``retract``: changes of the rows that a task is learned from.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation import inbox
from moma_cl.automation.one_pass import left_to_another, one_pass
from moma_cl.commands import new_task
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.progress import Progress, quiet
from moma_cl.recipe import Recipe
from moma_cl.reconciling.pass_lock import ENDING, PassRunningError, only_pass
from moma_cl.records.task_spec import TaskSpec
from moma_cl.records.tasks import TaskState, check_task_name, task_state
from moma_store.errors import ConflictError
from moma_store.store import Store

if TYPE_CHECKING:
    import torch

    from moma_cl.commands.new_task import NewTask
    from moma_cl.commands.row_checks import RowChecks
    from moma_cl.commands.target_advice import Advice
    from moma_cl.datasets.intake import Intake
    from moma_cl.readers.memory import Sources
    from moma_cl.readers.rows import Reading
    from moma_cl.reconciling.pass_actions import Done
    from moma_cl.records.records import Dataset, Grouping
    from moma_cl.structures.checks import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsAdded:
    """Rows that were added to a task or retracted, and the pass that followed.

    Attributes
    ----------
    task
        The task's name.
    rows
        Live rows of the task now.
    added
        Rows of the new segment.
    repeated
        Rows that are stored already, or that were repeated.
    left_out
        Rows without a value in the fold column.
    grouping
        What decides the folds.
    folds
        Rows by fold.
    refusals
        Rows that were refused.
    flagged
        Rows that were added, but whose target the property cannot have.
    done
        What the pass did; empty for a dry run.
    checks
        Checks of the rows against each other; none where no row was added, or no predictor exists.
    advice
        What the user should hear about rows and targets: too few rows, a better transform.
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
    advice: tuple[Advice, ...] = ()


def add_task(
    path: Path,
    name: str,
    sources: Sources,
    spec: TaskSpec,
    *,
    reading: Reading | None = None,
    recipe: Recipe | None = None,
    compose: bool = True,
    dry_run: bool = False,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> RowsAdded:
    """Validate and store the rows of a new task, answer at once, then compose and train.

    A dry run goes through everything that could refuse the task, and writes nothing.
    """
    check_task_name(name)
    with Store.open(path) as store:
        new_task.check_name_free(store, name)
        found = resolve_device(device)  # before anything is written
        listed = new_task.origins(sources)  # before rows are read: files may change meanwhile
        new = new_task.prepare(
            store,
            name,
            sources,
            spec,
            reading=reading,
            recipe=recipe,
            dry_run=dry_run,
            progress=progress,
        )
        if dry_run:
            return new_task_added(new)
        new_task.store_new(store, new, origins=listed, wait=wait)
        inbox.open_for(store.path, [name])
        done = compose_now(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return after_pass(store, name, new.n_rows, new.intake, done, new.advice, device=found)


def add_data(
    path: Path,
    name: str,
    sources: Sources,
    *,
    reading: Reading | None = None,
    replace: bool = False,
    compose: bool = True,
    dry_run: bool = False,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> RowsAdded:
    """Add rows to a task as one more segment, or correct earlier ones."""
    with Store.open(path) as store:
        state = task_state(store, name)
        if reading is not None and reading.unit is not None:
            from moma_cl.properties.units import convert, per_atom

            unit = per_atom(reading.unit) if state.task.per_atom else reading.unit
            convert(1.0, unit, state.task.unit)  # refuse a wrong unit before reading
        from moma_cl.datasets import added_rows  # heavy; the checks above need it not
        from moma_cl.datasets.stored_rows import StoredRows

        found = resolve_device(device)  # before anything is written

        origins = new_task.origins(sources)  # before the rows are read: files may change meanwhile
        spec = TaskSpec.of(state.task)
        intake = new_task.read(
            store, sources, spec, reading, appended=True, dry_run=dry_run, progress=progress
        )
        new = StoredRows.of(store, state).new_rows(intake, replace=replace)
        if dry_run:
            rows = added_rows.segment_rows(store, new, state.task) if new.ids else None
            dataset = added_rows.next_dataset(store, state, rows)
            return _added(name, dataset, state.task.grouping, len(new.ids), new)
        with store.writing(wait=wait):
            now = _same_task(store, state)
            if now.dataset_digest != state.dataset_digest:  # nobody was kept out meanwhile
                new = StoredRows.of(store, now).new_rows(intake, replace=replace)
            if new.ids:
                rows = added_rows.segment_rows(store, new, now.task)
                added_rows.append_rows(store, now, new, rows, origins)
        done = compose_now(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return after_pass(store, name, len(new.ids), new, done, device=found)


def retract(
    path: Path,
    name: str,
    ids: Collection[str],
    *,
    compose: bool = True,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> RowsAdded:
    """Retract rows of a task, as one more segment."""
    with Store.open(path) as store:
        task_state(store, name)
        from moma_cl.datasets import added_rows  # heavy; the check above needs it not

        found = resolve_device(device)  # before anything is written

        with store.writing(wait=wait):
            added_rows.append_retraction(store, task_state(store, name), frozenset(ids))
        done = compose_now(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return after_pass(store, name, 0, None, done, device=found)


def _same_task(store: Store, before: TaskState) -> TaskState:
    """Give a task as it is now, unless another has its name since its rows were read."""
    now = task_state(store, before.name)
    if now.task_digest != before.task_digest:
        raise ConflictError(
            f"task {before.name!r} was removed and made anew while rows were read for it; add them"
            " again"
        )
    return now


def compose_now(
    store: Store,
    name: str,
    *,
    compose: bool,
    wait: float,
    progress: Progress,
    device: torch.device,
) -> tuple[Done, ...]:
    """Make a pass, or leave that to one that goes on; the first answer waits for none."""
    from moma_cl.reconciling.composer import Composer

    left: list[Done] = []
    if compose:
        try:
            with only_pass(store.path, wait=max(wait, ENDING)):
                composer = Composer(store=store, progress=progress, device=device)
                return tuple(one_pass(composer))
        except PassRunningError as error:
            left = [left_to_another(name, error)]
    composer = Composer(store=store, progress=progress, device=device)
    return (*composer.first_answer(name), *left)


def after_pass(  # noqa: PLR0917  what was added, and what followed
    store: Store,
    name: str,
    added: int,
    intake: Intake | None,
    done: tuple[Done, ...],
    advice: tuple[Advice, ...] = (),
    *,
    device: torch.device,
) -> RowsAdded:
    """Say what was added to a task, and what the pass made of it."""
    from moma_cl.commands.row_checks import check_rows

    state = task_state(store, name)
    checks = check_rows(store, name, device) if added else None
    grouping = state.task.grouping
    return _added(name, state.dataset, grouping, added, intake, done, checks, advice)


def new_task_added(new: NewTask) -> RowsAdded:
    """Say which rows a new task has, before any pass."""
    return _added(
        new.name, new.dataset, new.task.grouping, new.n_rows, new.intake, advice=new.advice
    )


def _added(  # noqa: PLR0917  what was added, and what followed
    name: str,
    dataset: Dataset,
    grouping: Grouping,
    added: int,
    intake: Intake | None,
    done: tuple[Done, ...] = (),
    checks: RowChecks | None = None,
    advice: tuple[Advice, ...] = (),
) -> RowsAdded:
    from moma_cl.commands.target_advice import advice_on_rows

    return RowsAdded(
        task=name,
        rows=dataset.n_rows,
        added=added,
        repeated=intake.repeats if intake else 0,
        left_out=intake.left_out if intake else 0,
        grouping=str(grouping),
        folds={
            "train": dataset.n_train,
            "validation": dataset.n_validation,
            "held-out": dataset.n_held_out,
        },
        refusals=intake.refusals if intake else (),
        flagged=intake.flagged if intake else (),
        done=done,
        checks=checks,
        advice=(*advice_on_rows(name, dataset, grouping), *advice),
    )
