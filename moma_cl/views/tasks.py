"""The tasks of a hub as they stand, read from the catalogue alone.

Light: like its neighbours it imports neither numpy nor torch, and opens no blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moma_cl.records.records import Composition, Predictor
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.catalogue import Snapshot
from moma_store.store import Store


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


def tasks(path: Path) -> list[TaskListed]:
    """List the tasks of a hub by name."""
    with Store.open(path) as store, store.snapshot() as view:
        past = Past.of(view)
        return [_task_listed(view, past, task_state(view, name)) for name in task_names(view)]


def task(path: Path, name: str) -> TaskListed:
    """List one task."""
    with Store.open(path) as store, store.snapshot() as view:
        return _task_listed(view, Past.of(view), task_state(view, name))


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
        composition=composition_weights(past, composition) if composition else (),
        backbone_weight=composition.backbone_weight if composition else None,
        module=view.ref(RefKind.MODULE.of(state.name)),
        dataset=state.dataset_digest,
        created=past.moves[RefKind.TASK.of(state.name)][0].at,
    )


def composition_weights(past: Past, composition: Composition) -> tuple[Weight, ...]:
    """Name the modules of a composition, heaviest first."""
    pairs = sorted(
        zip(composition.weights, composition.modules, strict=True),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return tuple(
        Weight(module=past.module_names.get(digest, digest[:12]), digest=digest, weight=weight)
        for weight, digest in pairs
    )
