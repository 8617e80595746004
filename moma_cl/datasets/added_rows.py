"""Rows that are added: stored as one more segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from moma_cl.datasets.folds import assign_folds, choose_grouping, codes_of
from moma_cl.datasets.intake import Intake
from moma_cl.datasets.segments import (
    SegmentRows,
    describe,
    live_rows,
    retraction_arrays,
)
from moma_cl.datasets.stored_rows import contents
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import hub_of
from moma_cl.records.records import Dataset, Grouping, Segment, SegmentRole, Task
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState
from moma_cl.structures.checks import check_not_constant
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store

HEADER = {"kind": "segment-arrays", "format": 1}
Origins = Sequence[dict[str, Any]]
"""Name and digest of each file or folder that rows were read from."""


def grouping_of(intake: Intake) -> Grouping:
    """Decide what assigns a new task's folds: the user's column where there is one."""
    return choose_grouping(intake.formulas) if intake.fold_labels is None else Grouping.COLUMN


def segment_rows(store: Store, intake: Intake, task: Task) -> SegmentRows:
    """Give rows their folds."""
    if intake.fold_labels is not None:
        folds = codes_of(intake.fold_labels)
    else:
        salt = hub_of(store).salt
        folds = assign_folds(intake.formulas, intake.fingerprints, task.grouping, salt)
    return SegmentRows(
        ids=tuple(intake.ids),
        crystals=intake.crystals,
        targets=intake.targets,
        fingerprints=intake.fingerprints,
        folds=folds,
        formulas=tuple(intake.formulas),
    )


def first_dataset(rows: SegmentRows, task: Task) -> Dataset:
    """Describe the dataset of a new task.

    Parameters
    ----------
    rows
        Its rows.
    task
        The task.

    Returns
    -------
    Dataset
        The record, with an empty digest for the segment, which is not stored yet.

    Raises
    ------
    InvalidInputError
        If every row is held-out.
    """
    dataset = describe(live_rows([("", rows)]), ("",), None)
    if task.fold_column is not None and dataset.n_held_out == dataset.n_rows:
        raise InvalidInputError(
            f"every row of column {task.fold_column!r} is held-out; expected some to train on",
            code="invalid-input.no-training-rows",
        )
    return dataset


def next_dataset(store: Store, state: TaskState, rows: SegmentRows | None) -> Dataset:
    """Describe the dataset of a task with more rows, if there are any; as in `first_dataset`."""
    if rows is None:
        return state.dataset
    return _described(state, [*contents(store, state.dataset.segments), ("", rows)])


def store_task(
    store: Store,
    task: Task,
    rows: SegmentRows,
    intake: Intake,
    *,
    dataset: Dataset,
    recipe: dict[str, Any],
    origins: Origins,
) -> None:
    """Store a new task with its first segment.

    Parameters
    ----------
    store
        The hub's store.
    task
        The task.
    rows
        Its rows.
    intake
        Says how many rows were refused.
    dataset
        What :func:`first_dataset` gave for the rows.
    recipe
        The document of the task's recipe.
    origins
        Where the rows come from.
    """
    segment = _stored_segment(store, rows, origins, intake)
    with store.transaction(HistoryAction.ADD_TASK, _detail(task.name, rows, intake)) as transaction:
        digest = transaction.put_record(segment.to_doc())
        documents = {
            RefKind.TASK: task.to_doc(),
            RefKind.DATASET: replace(dataset, segments=(digest,)).to_doc(),
            RefKind.RECIPE: recipe,
        }
        for kind, doc in documents.items():
            transaction.move_ref(kind.of(task.name), transaction.put_record(doc), expected=None)


def append_rows(
    store: Store, state: TaskState, intake: Intake, rows: SegmentRows, origins: Origins
) -> None:
    """Store rows of a task as one more segment; parameters as in `store_task`."""
    dataset = next_dataset(store, state, rows)
    segment = _stored_segment(store, rows, origins, intake)
    detail = _detail(state.name, rows, intake)
    _append(store, state, segment, dataset, HistoryAction.ADD_DATA, detail)


def append_retraction(store: Store, state: TaskState, ids: frozenset[str]) -> None:
    """Store a retraction as one more segment.

    Parameters
    ----------
    store
        The hub's store.
    state
        The task.
    ids
        Ids of the rows.

    Raises
    ------
    NotFoundError
        If the task has no row of an id.
    InvalidInputError
        If no row would be left.
    """
    if not ids:
        raise InvalidInputError(f"no row of task {state.name!r} to retract: no id was given")
    earlier = contents(store, state.dataset.segments)
    live = live_rows(earlier)
    unknown = sorted(ids - set(live.ids))
    if unknown:
        more = f" (and {len(unknown) - 1} more of the ids given)" if len(unknown) > 1 else ""
        raise NotFoundError(f"task {state.name!r} has no row {unknown[0]!r}{more}")
    if len(ids) >= len(live.ids):
        raise InvalidInputError(
            f"retracting {len(ids)} rows would leave task {state.name!r} empty; "
            f"`moma-cl remove-task {state.name}` removes it"
        )
    dataset = _described(state, [*earlier, ("", ids)])
    blob = store.put_blob(retraction_arrays(sorted(ids)), HEADER)
    segment = Segment(
        role=SegmentRole.RETRACTION, blob=blob, n_rows=len(ids), sources=(), refused=0
    )
    detail = {"task": state.name, "rows": len(ids)}
    _append(store, state, segment, dataset, HistoryAction.RETRACT, detail)


def _described(
    state: TaskState, contents: Sequence[tuple[str, SegmentRows | frozenset[str]]]
) -> Dataset:
    """Describe the dataset of a task's segments and one more, which is not stored yet."""
    live = live_rows(contents)
    check_not_constant(live.targets, state.task.target)
    return describe(live, (*state.dataset.segments, ""), state.dataset_digest)


def _append(  # noqa: PLR0917  a segment, what the dataset becomes, and what the history says
    store: Store,
    state: TaskState,
    segment: Segment,
    dataset: Dataset,
    action: HistoryAction,
    detail: dict[str, Any],
) -> None:
    with store.transaction(action, detail) as transaction:
        digest = transaction.put_record(segment.to_doc())
        stored = replace(dataset, segments=(*state.dataset.segments, digest))
        transaction.move_ref(
            RefKind.DATASET.of(state.name),
            transaction.put_record(stored.to_doc()),
            expected=state.dataset_digest,
        )


def _stored_segment(store: Store, rows: SegmentRows, origins: Origins, intake: Intake) -> Segment:
    return Segment(
        role=SegmentRole.ROWS,
        blob=store.put_blob(rows.to_arrays(), HEADER),
        n_rows=len(rows.ids),
        sources=tuple(origins),
        refused=len(intake.refusals),
    )


def _detail(name: str, rows: SegmentRows, intake: Intake) -> dict[str, Any]:
    return {
        "task": name,
        "rows": len(rows.ids),
        "refused": len(intake.refusals),
        "left_out": intake.left_out,
    }
