"""Golden predictions: a few answers kept with a predictor, which new software must give too.

A release of torch may round differently, one of moma-cl may have a fault, a GPU sums in another
order. None changes a digest. So a few answers are stored with each predictor when it is made. Where
the software has changed since, or the device is another, the predictor answers for the same
structures again before any others, and the answers are compared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.core.devices import CPU
from moma_cl.core.software import DEVICE, made_by
from moma_cl.learning.sampling import evenly_spaced
from moma_cl.predictors.artifact import GoldenAnswers, PredictorArtifact
from moma_cl.predictors.predictor import LoadedPredictor, assembled
from moma_cl.records.records import Predictor
from moma_cl.structures.crystals import PackedCrystals
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import MomaError

logger = logging.getLogger(__name__)

N_STRUCTURES = 4
TOLERANCE = 1e-5  # of the largest answer of its kind; other batches and cells round by less
USELESS = 1e-2  # beyond it the errors and intervals that were measured are those of another model


class ChangedAnswersError(MomaError):
    """A stored predictor gives other answers than when it was made."""

    code = "changed-answers"
    exit_code = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCheck:
    """How far a predictor's answers are from those it gave when it was made."""

    deviation: float | None  # largest, over the largest answer of its kind; none: no answers
    changed: tuple[tuple[str, str, str], ...]  # package or device, what it was then and is now

    @property
    def holds(self) -> bool:
        """Whether the answers are the same, as far as one can know."""
        return self.deviation is None or self.deviation <= TOLERANCE

    @property
    def told(self) -> str:
        """What has changed, in a clause."""
        return ", ".join(f"{name} {then} then, {now} now" for name, then, now in self.changed)


def golden_answers(
    workspace: Workspace, record: Predictor, artifact: PredictorArtifact
) -> GoldenAnswers:
    """Answer for a few rows of a predictor's dataset.

    The record needs no blob yet; the artifact is what the blob will hold, but for golden answers.
    """
    rows = workspace.rows(record.dataset)
    chosen = evenly_spaced(len(rows.ids), N_STRUCTURES)
    crystals = PackedCrystals.pack(workspace.crystals(rows, chosen))
    answers = _answers(assembled(workspace, record, artifact), crystals)
    return GoldenAnswers(crystals=crystals, answers=answers)


def golden_check(workspace: Workspace, predictor: LoadedPredictor) -> GoldenCheck:
    """Answer for the golden structures again, if software or device have changed, and compare."""
    then = {DEVICE: CPU, **predictor.record.made_by}
    now = {DEVICE: CPU, **made_by(workspace.device)}
    changed = tuple(
        (name, then.get(name, "none"), present)
        for name, present in now.items()
        if then.get(name) != present
    )
    golden = predictor.artifact.golden
    if golden is None or not changed:
        return GoldenCheck(deviation=None if golden is None else 0.0, changed=changed)
    answers = _answers(predictor, golden.crystals)
    return GoldenCheck(deviation=_deviation(golden.answers, answers), changed=changed)


def require_golden(workspace: Workspace, predictor: LoadedPredictor, digest: str) -> None:
    """Warn if a predictor's answers have changed with the software, refuse them if by much.

    Raises ``ChangedAnswersError`` if they have changed by more than one per cent; its message names
    the digest.
    """
    check = golden_check(workspace, predictor)
    if check.holds:
        return
    message = (
        f"predictor {digest[:12]} answers otherwise than when it was made, by "
        f"{check.deviation:.1e} of the largest answer; expected at most {TOLERANCE:.0e} "
        f"({check.told}); "
    )
    if check.deviation is not None and check.deviation > USELESS:
        raise ChangedAnswersError(message + "install the versions of then, or add the task anew")
    logger.warning("%sits errors and intervals were measured then", message)


def _answers(predictor: LoadedPredictor, crystals: PackedCrystals) -> FloatArray:
    listed = list(crystals)
    graphs = {one.name: one.to_graphs(listed) for one in predictor.backbones}
    given = predictor.answer(graphs, level=predictor.level)
    return np.stack([given.values, given.lower, given.upper, given.distances])


def _deviation(then: FloatArray, now: FloatArray) -> float:
    finite = np.isfinite(then)
    if not np.array_equal(then[~finite], now[~finite]):
        return float("inf")
    scale = np.abs(np.where(finite, then, 0.0)).max(axis=1, keepdims=True)
    difference = np.abs(np.where(finite, now, 0.0) - np.where(finite, then, 0.0))
    # NaN, which compares as no deviation at all, is the greatest
    return float(np.nan_to_num(difference / np.where(scale > 0, scale, 1.0), nan=np.inf).max())
