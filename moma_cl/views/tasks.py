"""The tasks of a hub as they stand, read from the catalogue alone.

Light: like its neighbours it imports neither numpy nor torch, and opens no blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moma_cl.records.hub import Reads
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
class ComposedOn:
    """A task's composition on one backbone."""

    backbone: str
    modules: tuple[Weight, ...]  # heaviest first
    backbone_weight: float  # of module zero, the bare backbone


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
    compositions
        The present composition on each backbone; before the first pass, the bare backbone.
    modules
        Digests of the task's own modules, by backbone.
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
    compositions: tuple[ComposedOn, ...]
    modules: dict[str, str]
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
        compositions=_compositions(view, past, state, predictor),
        modules=refs_on(view, RefKind.MODULE, state),
        dataset=state.dataset_digest,
        created=past.moves[RefKind.TASK.of(state.name)][0].at,
    )


def refs_on(view: Reads, kind: RefKind, state: TaskState) -> dict[str, str]:
    """Give the digests of a task's compositions or modules by backbone."""
    found = {backbone: view.ref(kind.on(state.name, backbone)) for backbone in state.backbones}
    return {backbone: digest for backbone, digest in found.items() if digest is not None}


def _compositions(
    view: Snapshot, past: Past, state: TaskState, predictor: Predictor | None
) -> tuple[ComposedOn, ...]:
    digests = list(refs_on(view, RefKind.COMPOSITION, state).values())
    if not digests and predictor is not None:
        digests = list(predictor.compositions)
    records = [Composition.from_doc(view.record(digest)) for digest in digests]
    names = {digest: name for name, digest in state.backbones.items()}
    return tuple(
        ComposedOn(
            backbone=names[record.backbone],
            modules=composition_weights(past, record),
            backbone_weight=record.backbone_weight,
        )
        for record in records
    )


def composition_weights(past: Past, composition: Composition) -> tuple[Weight, ...]:
    """Name the modules of a composition, heaviest first."""
    return tuple(
        Weight(module=past.module_name(digest), digest=digest, weight=weight)
        for digest, weight in composition.heaviest_first()
    )
