"""Explanations: the known rows nearest to an answer, and the modules behind the predictor."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import IntArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import split_of
from moma_cl.predictors.predictor import LoadedPredictor
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Composition, Learner, Predictor, Task
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import MODULE_ZERO, full_name
from moma_cl.structures.crystals import PackedCrystals
from moma_cl.structures.vacuum import with_vacuum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moma_cl.predictors.domain import Neighbours
    from moma_cl.workspace.workspace import Workspace
    from moma_store.store import Store

_DIGITS = 12  # of a digest that stands for a module without a name


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRow:
    """A row that a predictor has learned from."""

    id: str  # id of the row
    value: float  # its target, in the task's unit
    distance: float  # from the structure, in units of the domain's reach
    similarity: float  # one where they are the same, one half at the domain's reach


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explainer:
    """The known rows and the modules behind the answers of one predictor."""

    ids: tuple[str, ...]  # of the known rows, in the order of the domain's points
    values: NDArray[np.float64]  # their targets, shape (n_known,), in the task's unit
    count: int  # how many neighbours are listed
    # weights by full name, of each backbone that answers: heaviest first, the backbone's own last
    modules: Mapping[str, float]

    @classmethod
    def of(cls, store: Store, workspace: Workspace, predictor: LoadedPredictor) -> Self:
        """Look up the known rows and modules of a predictor."""
        record = predictor.record
        rows, learned = _known(workspace, predictor)
        return cls(
            ids=tuple(rows.ids[row] for row in learned),
            values=rows.targets[learned],
            count=predictor.domain.neighbours,
            modules=_modules(store, record),
        )

    def neighbours(self, near: Neighbours, place: int) -> tuple[KnownRow, ...]:
        """List the nearest known rows of one answer, by its place, the nearest first."""
        pairs = zip(near.indices[place].tolist(), near.distances[place].tolist(), strict=True)
        return tuple(
            KnownRow(
                id=self.ids[row],
                value=float(self.values[row]),
                distance=distance,
                similarity=1.0 / (1.0 + distance),
            )
            for row, distance in list(pairs)[: self.count]
        )


def known_slabs(workspace: Workspace, predictor: LoadedPredictor) -> NDArray[np.bool_]:
    """Find the known rows, in the order of the domain's points, whose cell has vacuum."""
    rows, learned = _known(workspace, predictor)
    return with_vacuum(PackedCrystals.pack(workspace.crystals(rows, learned.tolist())))


def _known(workspace: Workspace, predictor: LoadedPredictor) -> tuple[LiveRows, IntArray]:
    """Read a predictor's rows; which of them it knows, in the order of its domain's points.

    Rows of the deciding fold that a module had seen did not decide, and it does not know them.
    """
    record = predictor.record
    rows = workspace.rows(record.dataset)
    grouping = Task.from_doc(workspace.store.record(record.task)).grouping
    training = split_of(rows, grouping, predictor.recipe.predictor).train
    return rows, np.union1d(training, predictor.artifact.deciding_rows)


def _modules(store: Store, predictor: Predictor) -> Mapping[str, float]:
    """Give the weights of modules in the compositions of the backbones that answer."""
    with store.snapshot() as view:
        names = Past.of(view).module_names
    answering = {Learner.from_doc(store.record(one)).backbone for one in predictor.learners}
    weights: dict[str, float] = {}
    for digest in predictor.compositions:
        composition = Composition.from_doc(store.record(digest))
        if composition.backbone not in answering:
            continue
        for module, weight in composition.heaviest_first():
            weights[names.get(module, module[:_DIGITS])] = weight
        backbone = backbone_record(store, composition.backbone).name
        weights[full_name(MODULE_ZERO, backbone)] = composition.backbone_weight
    return MappingProxyType(weights)
