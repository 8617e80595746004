"""Checks of a task's rows against each other: twins, and targets that stand out.

Neither refuses a row. A repeated structure may be one material under two names, and in two folds it
makes errors look smaller than they are. A target far from what its neighbours predict may be a
mistake, or a discovery.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from moma_cl.arraytypes import FloatArray
from moma_cl.core.threads import fixed_threads
from moma_cl.datasets.folds import FOLD_NAMES
from moma_cl.datasets.segments import LiveRows
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.difficulty import N_NEIGHBOURS, kernel_left_out_errors
from moma_cl.predictors.domain import Domain, points_of
from moma_cl.progress import quiet
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Predictor, Task
from moma_cl.records.refs import RefKind
from moma_cl.structures.fingerprints import known_in
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

MIN_ROWS = 30  # fewer do not tell which errors are usual
DOUBTFUL = 8.0  # robust deviations of the neighbours' errors: about one row in a hundred
MAX_NAMED = 100  # of each kind; all are counted
MAD = 1.4826  # median absolute deviation to standard deviation, of a normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A row whose structure is, within noise, that of another row."""

    id: str
    fold: str
    twin: str
    twin_fold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A row whose target is far from what its neighbours predict.

    Attributes
    ----------
    id
        Id of the row.
    target
        Its target, in the task's unit.
    expected
        What the other rows predict, in the task's unit.
    deviations
        Its error over the usual error of its neighbours, in robust deviations.
    """

    id: str
    target: float
    expected: float
    deviations: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChecks:
    """The rows of a task that somebody may want to look at.

    Attributes
    ----------
    n_twins
        Rows outside the training fold with a twin in an earlier one.
    twins
        The first of them.
    n_repeats
        Rows with an earlier twin, in whatever fold.
    repeats
        The first of them.
    n_doubts
        Rows whose targets stand out.
    doubts
        Of them the farthest out, farthest first.
    """

    n_twins: int
    twins: tuple[Twin, ...]
    n_repeats: int
    repeats: tuple[Twin, ...]
    n_doubts: int
    doubts: tuple[Doubt, ...]


def check_rows(store: Store, name: str, device: torch.device) -> RowChecks | None:
    """Check the rows of a task against each other; none where the task has no predictor."""
    digest = store.ref(RefKind.PREDICTOR.of(name))
    if digest is None:
        return None
    record = Predictor.from_doc(store.record(digest))
    recipe = Recipe.from_doc(record.settings)
    opened = Workspace(store=store, progress=quiet, device=device)
    with opened as workspace, fixed_threads(recipe.threads):
        rows = workspace.rows(store.ref(RefKind.DATASET.of(name)) or record.dataset)
        twins, repeats = _twins(rows), _repeats(rows)
        learned = workspace.rows(_learned(store, name, record))
        doubts = _doubts(workspace, record, recipe, learned) if len(learned.ids) >= MIN_ROWS else []
    return RowChecks(
        n_twins=len(twins),
        twins=tuple(twins[:MAX_NAMED]),
        n_repeats=len(repeats),
        repeats=tuple(repeats[:MAX_NAMED]),
        n_doubts=len(doubts),
        doubts=tuple(doubts[:MAX_NAMED]),
    )


def _learned(store: Store, name: str, champion: Predictor) -> str:
    """Give the digest of the rows that were embedded last, also for a predictor not promoted."""
    fitted = store.ref(RefKind.FITTED.of(name))
    return champion.dataset if fitted is None else Predictor.from_doc(store.record(fitted)).dataset


def _twins(rows: LiveRows) -> list[Twin]:
    """List the rows that judge and whose structure is that of a row in an earlier fold."""
    twins = []
    for fold in range(1, len(FOLD_NAMES)):
        own, earlier = rows.in_fold(fold), np.flatnonzero(rows.folds < fold)
        for row in own[known_in(rows.fingerprints[own], rows.fingerprints[earlier])]:
            same = known_in(rows.fingerprints[earlier], rows.fingerprints[row : row + 1])
            twins.append(_twin(rows, row, earlier[int(np.argmax(same))]))
    return twins


def _repeats(rows: LiveRows) -> list[Twin]:
    """List the rows whose structure is that of an earlier row."""
    _, first, same = np.unique(rows.fingerprints, return_index=True, return_inverse=True)
    before = first[same]
    return [_twin(rows, row, before[row]) for row in np.flatnonzero(before < np.arange(len(same)))]


def _twin(rows: LiveRows, row: np.int64, twin: np.int64) -> Twin:
    return Twin(
        id=rows.ids[row],
        fold=FOLD_NAMES[rows.folds[row]],
        twin=rows.ids[twin],
        twin_fold=FOLD_NAMES[rows.folds[twin]],
    )


def _doubts(workspace: Workspace, record: Predictor, recipe: Recipe, rows: LiveRows) -> list[Doubt]:
    composition = Composition.from_doc(workspace.store.record(record.compositions[0]))
    task = Task.from_doc(workspace.store.record(record.task))
    encoders = workspace.encoders(composition.backbone)
    vector = encoders.merged(composition)
    embedded = encoders.embeddings(composition.module, vector, rows, recipe.embedding)
    normaliser = Normaliser.fit(rows.targets, Transform(task.transform))
    targets = normaliser.forward(rows.targets)
    features = embedded.astype(np.float64)
    expected = targets - kernel_left_out_errors(features, targets, rows.fingerprints)
    errors = np.abs(targets - expected)
    points = points_of(embedded, encoders.backbone.feature_dim)
    domain = Domain.fit(points, N_NEIGHBOURS, elements=())
    deviations = errors / _usual(errors, domain)
    answers = normaliser.inverse(expected)
    order = np.argsort(-deviations, kind="stable")
    return [
        Doubt(
            id=rows.ids[row],
            target=float(rows.targets[row]),
            expected=float(answers[row]),
            deviations=float(deviations[row]),
        )
        for row in order[: int(np.sum(deviations > DOUBTFUL))]
    ]


def _usual(errors: FloatArray, domain: Domain) -> FloatArray:
    """Robust deviation of the errors near each row; nowhere less than that of all rows."""
    near = domain.among_known(N_NEIGHBOURS)
    median = np.median(errors[near.indices], axis=1)
    return np.asarray(MAD * np.maximum(np.maximum(median, np.median(errors)), 1e-12))
