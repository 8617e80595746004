"""Looking: what a hub holds and what happened to it, read from the catalogue alone.

Light: none of it imports numpy or torch, and no blob is opened.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_cl.records.records import Composition, Predictor, Segment
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import TASK_REFS, RefKind
from moma_cl.records.tasks import TaskState, existing_task, task_names, task_state
from moma_cl.views.modules import weights_by_module
from moma_store.catalogue import Snapshot
from moma_store.entries import HistoryEntry
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store

SHORTEST_ABBREVIATION = 6
"""Hexadecimal digits by which a record may be named, if they are enough to tell it apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One module's part in a composition."""

    module: str  # its name, or the beginning of its digest where no ref ever named it
    digest: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskListed:
    """A task as it stands.

    Attributes
    ----------
    name
        The task's name.
    property
        Canonical name of what it predicts.
    unit
        Unit of targets, predictions and errors.
    rows
        Live rows.
    folds
        Rows by fold.
    champion
        Digest of the predictor that answers; none before the first one.
    method
        Which head of it answers.
    validation_mae
        Its mean absolute error on the rows that decided, in the unit.
    held_out_mae
        The same on rows that decided nothing; none where there are too few.
    calibration
        Where its intervals come from.
    composition
        The modules of the present composition, heaviest first.
    backbone_weight
        Module zero's part in it; none before the first composition.
    module
        Digest of the task's own module.
    dataset
        Digest of its dataset.
    created
        When it was added, UTC, ISO 8601.
    """

    name: str
    property: str
    unit: str
    rows: int
    folds: dict[str, int]
    champion: str | None
    method: str | None
    validation_mae: float | None
    held_out_mae: float | None
    calibration: str | None
    composition: tuple[Weight, ...]
    backbone_weight: float | None
    module: str | None
    dataset: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Something of the hub in full.

    Attributes
    ----------
    kind
        ``task``, or the kind of the record.
    name
        What it is called: a task, a ref, or a digest.
    digest
        Digest of its record.
    refs
        The refs that name it now; for a task, where each of its refs pointed, oldest first.
    used_by
        Of a module: its weight in each task that composes it.
    document
        The record, or all of the task's, JSON.
    """

    kind: str
    name: str
    digest: str
    refs: dict[str, list[dict[str, str]]]
    used_by: dict[str, float]
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """Something that happened.

    Attributes
    ----------
    counter
        Position in the history, from 0.
    at
        When, UTC, ISO 8601; the order is that of the counters.
    action
        What was done, such as ``add-task``.
    task
        The task it was done to, where it was one.
    detail
        What the action wanted remembered.
    changes
        The refs that moved, as ``name``, ``old`` and ``new``.
    """

    counter: int
    at: str
    action: str
    task: str | None
    detail: dict[str, Any]
    changes: tuple[dict[str, str | None], ...]


def tasks(path: Path) -> list[TaskListed]:
    """List the tasks of a hub.

    Parameters
    ----------
    path
        The hub.

    Returns
    -------
    list[TaskListed]
        The tasks by name.

    Raises
    ------
    NotFoundError
        If there is no hub.
    """
    with _reading(path) as view:
        past = Past.of(view)
        return [_task_listed(view, past, task_state(view, name)) for name in task_names(view)]


def task(path: Path, name: str) -> TaskListed:
    """List one task.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.

    Returns
    -------
    TaskListed
        The task.

    Raises
    ------
    NotFoundError
        If there is no such task.
    """
    with _reading(path) as view:
        return _task_listed(view, Past.of(view), existing_task(view, name))


def show(path: Path, name: str) -> Shown:
    """Show a task with all that belongs to it, or a single record.

    Parameters
    ----------
    path
        The hub.
    name
        A task; a module; a ref, such as ``hub/recipe``; or the digest of a record, of which
        six digits do if no other record has them.

    Returns
    -------
    Shown
        The task or record.

    Raises
    ------
    NotFoundError
        If there is nothing of that name.
    InvalidInputError
        If several digests begin like this.
    """
    with _reading(path) as view:
        if name in task_names(view):
            return _task_shown(view, name)
        refs = view.refs()
        ref = name if name in refs else RefKind.MODULE.of(name)
        digest = refs.get(ref) or _record_named(view, name, refs)
        document = view.record(digest)
        return Shown(
            kind=document["kind"],
            name=name,
            digest=digest,
            refs=Past.of(view).of_refs(ref for ref, target in refs.items() if target == digest),
            used_by=weights_by_module(view).get(digest, {}),
            document=document,
        )


def log(path: Path, *, limit: int | None = None, task: str | None = None) -> list[LogEntry]:
    """Read what happened, newest first.

    Parameters
    ----------
    path
        The hub.
    limit
        How many entries at most.
    task
        Only what was done to this task.

    Returns
    -------
    list[LogEntry]
        The entries.

    Raises
    ------
    NotFoundError
        If there is no hub.
    """
    with _reading(path) as view:
        if task is None:
            return [_logged(entry) for entry in view.history(limit=limit)]
        entries = [_logged(entry) for entry in view.history()]
        return [entry for entry in entries if entry.task == task][:limit]


@contextmanager
def _reading(path: Path) -> Iterator[Snapshot]:
    with Store.open(path) as store, store.snapshot() as view:
        yield view


def _task_listed(view: Snapshot, past: Past, state: TaskState) -> TaskListed:
    champion = view.ref(RefKind.PREDICTOR.of(state.name))
    predictor = Predictor.from_doc(view.record(champion)) if champion else None
    composed = view.ref(RefKind.COMPOSITION.of(state.name))
    if composed is None and predictor is not None:
        composed = predictor.composition  # before the first pass: the bare backbone
    composition = Composition.from_doc(view.record(composed)) if composed else None
    return TaskListed(
        name=state.name,
        property=state.task.property,
        unit=state.task.unit,
        rows=state.dataset.n_rows,
        folds={
            "train": state.dataset.n_train,
            "validation": state.dataset.n_validation,
            "held-out": state.dataset.n_held_out,
        },
        champion=champion,
        method=str(predictor.method) if predictor else None,
        validation_mae=predictor.validation_mae if predictor else None,
        held_out_mae=predictor.held_out_mae if predictor else None,
        calibration=str(predictor.calibration) if predictor else None,
        composition=_weights(past, composition) if composition else (),
        backbone_weight=composition.backbone_weight if composition else None,
        module=view.ref(RefKind.MODULE.of(state.name)),
        dataset=state.dataset_digest,
        created=past.moves[RefKind.TASK.of(state.name)][0].at,
    )


def _weights(past: Past, composition: Composition) -> tuple[Weight, ...]:
    """Name the modules of a composition, heaviest first."""
    pairs = sorted(
        zip(composition.weights, composition.modules, strict=True),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return tuple(
        Weight(module=past.module_names.get(digest, digest[:12]), digest=digest, weight=weight)
        for weight, digest in pairs
    )


def _task_shown(view: Snapshot, name: str) -> Shown:
    state = task_state(view, name)
    past = Past.of(view)
    present = {
        kind: view.record(digest)
        for kind in TASK_REFS
        if (digest := view.ref(kind.of(name))) is not None
    }
    document: dict[str, Any] = {
        "task": present[RefKind.TASK],
        "dataset": {
            **present[RefKind.DATASET],
            "segments": [_segment_shown(view, digest) for digest in state.dataset.segments],
        },
        "recipe": present[RefKind.RECIPE],
        "composition": present.get(RefKind.COMPOSITION),
        "predictor": present.get(RefKind.PREDICTOR),
        "fitted": present.get(RefKind.FITTED),
        "module": present.get(RefKind.MODULE),
        "drift": present.get(RefKind.DRIFT),
    }
    if document["composition"] is not None:
        weights = _weights(past, Composition.from_doc(document["composition"]))
        document["composition"]["by_name"] = {w.module: w.weight for w in weights}
    return Shown(
        kind="task",
        name=name,
        digest=state.task_digest,
        refs=past.of_refs(kind.of(name) for kind in TASK_REFS),
        used_by=weights_by_module(view).get(view.ref(RefKind.MODULE.of(name)) or "", {}),
        document=document,
    )


def _segment_shown(view: Snapshot, digest: str) -> dict[str, Any]:
    segment = Segment.from_doc(view.record(digest))
    return {
        "digest": digest,
        "role": str(segment.role),
        "rows": segment.n_rows,
        "refused": segment.refused,
        "sources": list(segment.sources),
    }


def _record_named(view: Snapshot, name: str, refs: dict[str, str]) -> str:
    """Find the record whose digest begins like this."""
    prefix = name.lower()
    if len(prefix) >= SHORTEST_ABBREVIATION and set(prefix) <= set("0123456789abcdef"):
        found = [digest for digest in view.records() if digest.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInputError(
                f"{len(found)} records begin with {name!r}; give more digits: "
                f"{', '.join(digest[: len(prefix) + 6] for digest in found[:5])}"
            )
    near = difflib.get_close_matches(name, [*task_names(view), *refs], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; `moma-cl tasks` lists the tasks"
    raise NotFoundError(
        f"the hub has no task, ref or record {name!r} (a digest needs at least "
        f"{SHORTEST_ABBREVIATION} of its digits){hint}"
    )


def _logged(entry: HistoryEntry) -> LogEntry:
    task = entry.detail.get("task")
    return LogEntry(
        counter=entry.counter,
        at=entry.at,
        action=entry.action,
        task=None if task is None else str(task),
        detail=entry.detail,
        changes=tuple(change.to_json() for change in entry.changes),
    )
