"""``add-task``, ``add-data`` and ``retract``: changes of the rows that a task is learned from.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.automation import inbox
from moma_cl.automation.one_pass import left_to_another, one_pass
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.datasets.source_files import source_of
from moma_cl.progress import Progress, quiet
from moma_cl.recipe import Recipe
from moma_cl.reconciling.pass_lock import ENDING, PassRunningError, only_pass
from moma_cl.records.hub import backbones_of
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind
from moma_cl.records.task_spec import TaskSpec
from moma_cl.records.tasks import TaskState, check_task_name, task_state
from moma_store.errors import AlreadyExistsError, ConflictError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    import torch

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
        _check_name_free(store, name)
        from moma_cl.commands.target_advice import advice_on_transform
        from moma_cl.datasets import added_rows  # heavy; the checks above need it not

        found = resolve_device(device)  # before anything is written
        from moma_cl.datasets.cell_growth import check_not_growing

        origins = _origins(sources)  # before the rows are read: files may change meanwhile
        intake = _read(
            store, sources, spec, reading, appended=False, dry_run=dry_run, progress=progress
        )
        check_not_growing(intake, spec)
        advice = advice_on_transform(spec, intake)
        task = spec.task(name, added_rows.grouping_of(intake))
        pinned = recipe.to_doc() if recipe else _default_recipe(store)
        rows = added_rows.segment_rows(store, intake, task)
        dataset = added_rows.first_dataset(rows, task)
        if dry_run:
            return _added(name, dataset, task.grouping, len(rows.ids), intake, advice=advice)
        with store.writing(wait=wait):
            _check_name_free(store, name)  # again: nobody was kept out while rows were read
            added_rows.store_task(
                store, task, rows, intake, dataset=dataset, recipe=pinned, origins=origins
            )
        inbox.open_for(store.path, [name])
        done = _compose(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return _after_pass(store, name, len(rows.ids), intake, done, advice, device=found)


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

        origins = _origins(sources)  # before the rows are read: files may change meanwhile
        spec = TaskSpec.of(state.task)
        intake = _read(
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
        done = _compose(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return _after_pass(store, name, len(new.ids), new, done, device=found)


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
        done = _compose(store, name, compose=compose, wait=wait, progress=progress, device=found)
        return _after_pass(store, name, 0, None, done, device=found)


def _read(
    store: Store,
    sources: Sources,
    spec: TaskSpec,
    reading: Reading | None,
    *,
    appended: bool,
    dry_run: bool,
    progress: Progress,
) -> Intake:
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.datasets.intake import read_task_rows
    from moma_cl.graphs.cache import ByteCache
    from moma_cl.graphs.checks import check_graphs, known_elements

    backbones = [backbone_class(name) for name in backbones_of(store)]
    with nullcontext() if dry_run else ByteCache(store.cache_dir / "graphs") as cache:
        return read_task_rows(
            sources,
            spec,
            elements=known_elements(backbones),
            check_graphs=lambda crystals: check_graphs(
                crystals,
                backbones,
                cache,
                lambda done: progress("graphs", done, len(crystals) * len(backbones)),
            ),
            reading=reading,
            appended=appended,
            progress=lambda rows: progress("reading", rows, 0),
        )


def _origins(sources: Sources) -> list[dict[str, str]]:
    from moma_cl.readers.memory import MemoryRows

    if isinstance(sources, MemoryRows):
        return [sources.origin()]
    return [source_of(source) for source in sources]


def _same_task(store: Store, before: TaskState) -> TaskState:
    """Give a task as it is now, unless another has its name since its rows were read."""
    now = task_state(store, before.name)
    if now.task_digest != before.task_digest:
        raise ConflictError(
            f"task {before.name!r} was removed and made anew while rows were read for it; add them"
            " again"
        )
    return now


def _compose(
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


def _after_pass(  # noqa: PLR0917  what was added, and what followed
    store: Store,
    name: str,
    added: int,
    intake: Intake | None,
    done: tuple[Done, ...],
    advice: tuple[Advice, ...] = (),
    *,
    device: torch.device,
) -> RowsAdded:
    from moma_cl.commands.row_checks import check_rows

    state = task_state(store, name)
    checks = check_rows(store, name, device) if added else None
    grouping = state.task.grouping
    return _added(name, state.dataset, grouping, added, intake, done, checks, advice)


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


def _check_name_free(store: Store, name: str) -> None:
    if store.ref(RefKind.TASK.of(name)) is not None:
        hint = "its rows are stored but nothing answers yet: `moma-cl update` goes on with it"
        if store.ref(RefKind.PREDICTOR.of(name)) is not None:
            hint = (
                f"`moma-cl add-data {name}` adds rows to it; `moma-cl update` goes on with what "
                "was interrupted"
            )
        raise AlreadyExistsError(f"task {name!r} exists in hub {store.path}; {hint}")
    if any(RefKind.MODULE.name_in(ref) == name for ref in store.refs(RefKind.MODULE.prefix)):
        raise AlreadyExistsError(
            f"a module {name!r} was added to hub {store.path}; choose another name for the task"
        )


def _default_recipe(store: Store) -> dict[str, Any]:
    digest = store.ref(DEFAULT_RECIPE)
    if digest is None:
        raise NotFoundError(f"the hub has no {DEFAULT_RECIPE!r}; run `moma-cl init` again")
    return store.record(digest)
