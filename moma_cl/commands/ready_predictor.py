"""What answers questions, loaded from a store with all that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from moma_cl.backbones.base import Backbone
from moma_cl.predictors.domain import Domain
from moma_cl.predictors.explanation import Explainer, known_slabs
from moma_cl.predictors.golden import require_golden
from moma_cl.predictors.measured_rows import MeasuredRows
from moma_cl.predictors.predictor import Answers, BackboneGraphs, load_predictor
from moma_cl.progress import quiet
from moma_cl.records.champions import champions, choose_champion
from moma_cl.records.records import Predictor
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_state
from moma_cl.workspace.workspace import Workspace
from moma_store.catalogue import Snapshot
from moma_store.errors import NotFoundError
from moma_store.store import Store


class Answerer(Protocol):
    """What answers: the predictor of a task, or a module by itself."""

    @property
    def backbones(self) -> tuple[type[Backbone], ...]:
        """The backbones whose graphs it needs."""

    @property
    def level(self) -> float:
        """Coverage of intervals where no other is asked for."""

    @property
    def domain(self) -> Domain:
        """Where its known rows are."""

    @property
    def calibration(self) -> str:
        """How its intervals were calibrated."""

    def answer(self, graphs: BackboneGraphs, *, level: float) -> Answers:
        """Predict, in order, with intervals whose coverage is ``level``, between 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadyPredictor:
    """A predictor loaded from the store with all that it needs to answer; threads may share it.

    Attributes
    ----------
    task, unit
        Name of the task, empty for a module that answers by itself; and unit of the answers.
    digest
        Of the predictor's record, or the module's.
    predictor
        What computes the answers.
    known_slabs
        Which of the rows that it learned from have vacuum, shape ``(n_known,)``.
    explainer
        Explains its answers; none where explanations were not asked for.
    dataset
        Digest of the task's rows now, which may be newer than those it learned from.
    measured
        These rows.
    busy
        Held while it computes: the number of threads that torch uses is one for a process.
    property, module
        What a module answers, and its name; empty where the predictor of a task answers.
    remark
        What the message of every answer ends with.
    """

    task: str
    unit: str
    digest: str
    predictor: Answerer
    known_slabs: NDArray[np.bool_]
    explainer: Explainer | None
    dataset: str
    measured: MeasuredRows
    busy: Lock = field(default_factory=Lock)
    property: str = ""
    module: str = ""
    remark: str = ""


def champion(store: Snapshot, name: str, at: str | None) -> str:
    """Give the digest of the predictor that answers for a task, or of the earlier champion `at`."""
    task_state(store, name)
    if at is not None:
        return choose_champion(champions(store, name), at, name)
    digest = store.ref(RefKind.PREDICTOR.of(name))
    if digest is None:
        raise NotFoundError(f"task {name!r} has no predictor yet; run `moma-cl update`")
    return digest


def answering(store: Snapshot, name: str, at: str | None, *, fast: bool) -> str:
    """Give the digest of the predictor that answers for a task, or of the earlier champion `at`.

    What answers fast asks the cheapest of its learners alone.
    """
    digest = champion(store, name, at)
    beside = Predictor.from_doc(store.record(digest)).fast if fast else None
    return digest if beside is None else beside


def ready_predictor(
    store: Store, name: str, digest: str, *, explain: bool, device: torch.device
) -> ReadyPredictor:
    """Load a predictor onto a device, and check that it answers as when it was made.

    The caller holds a snapshot of the store meanwhile, so that a ``gc`` leaves the files.
    """
    with Workspace(store=store, progress=quiet, device=device) as workspace:
        predictor = load_predictor(workspace, digest)
        require_golden(workspace, predictor, digest)
        dataset = task_state(store, name).dataset_digest
        return ReadyPredictor(
            task=name,
            unit=task_state(store, name).task.unit,
            digest=digest,
            predictor=predictor,
            known_slabs=known_slabs(workspace, predictor),
            explainer=Explainer.of(store, workspace, predictor) if explain else None,
            dataset=dataset,
            measured=MeasuredRows.of(workspace.rows(dataset)),
        )


def with_rows_of_now(store: Store, view: Snapshot, ready: ReadyPredictor) -> ReadyPredictor:
    """Let a loaded predictor know the rows that its task has now."""
    dataset = view.ref(RefKind.DATASET.of(ready.task))
    if dataset is None or dataset == ready.dataset:
        return ready
    with Workspace(store=store, progress=quiet) as workspace:
        measured = MeasuredRows.of(workspace.rows(dataset))
    return replace(ready, dataset=dataset, measured=measured)
