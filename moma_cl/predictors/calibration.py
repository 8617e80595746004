"""Calibration: what a predictor learns so that its answers have intervals and a domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.split import Split
from moma_cl.predictors.difficulty import N_NEIGHBOURS, Difficulty, kernel_left_out_errors
from moma_cl.predictors.domain import SINGLE, Domain, Neighbours, points_of
from moma_cl.predictors.intervals import conformal_quantile
from moma_cl.recipe import PredictorSettings

MIN_DECIDING_ROWS = 30  # fewer cannot tell whether widths should vary
DECIDING_LEVELS = (0.7, 0.8, 0.9)  # several: a quantile of few rows says little


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answered:
    """A task's rows, and predictions of those that were not fitted."""

    embeddings: FloatArray  # of all rows by the composed encoder, shape (n_rows, n_features)
    feature_dim: int  # width of the node features
    targets: FloatArray  # normalised, shape (n_rows,)
    fingerprints: NDArray[np.uint64]  # fingerprint of each structure, shape (n_rows,)
    elements: tuple[int, ...]  # atomic numbers that occur in the rows learned from, ascending
    split: Split  # what each row is used for
    validation: FloatArray  # normalised answers for this fold's rows; unused if cross-validated
    held_out: FloatArray  # normalised answers for the rows of this fold


def learned_rows(split: Split) -> IntArray:
    """List the known rows of a predictor: those that were fitted and those that decided.

    They ascend; the points of its domain are in this order.
    """
    return np.sort(np.concatenate([split.train, split.validation]))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibrated:
    """The domain, and how wide intervals must be."""

    domain: Domain  # where the known rows are
    residuals: FloatArray  # absolute errors on held-out rows, ascending, (n_held_out,), normalised
    difficulty: Difficulty | None = None  # none where all intervals are of one width
    residual_difficulty: FloatArray | None = None  # of the same held-out rows, (n_held_out,)

    def half_widths(self, near: Neighbours, level: float) -> FloatArray | float:
        """Give half the width of intervals of normalised targets, whose coverage is ``level``.

        It is one for all structures, or one for each, shape ``(n_rows,)``.
        """
        if self.difficulty is None or self.residual_difficulty is None:
            return conformal_quantile(self.residuals, level)
        scores = self.residuals / self.residual_difficulty
        return conformal_quantile(scores, level) * self.difficulty.of(near)


def calibrate(
    answered: Answered, settings: PredictorSettings, *, precision: np.dtype[Any] = SINGLE
) -> Calibrated:
    """Learn the domain, and on held-out rows how wide intervals must be.

    The points of the domain are stored in ``precision``.
    """
    split = answered.split
    points = points_of(answered.embeddings, answered.feature_dim)
    domain = Domain.fit(
        points[learned_rows(split)],
        settings.neighbours,
        elements=answered.elements,
        precision=precision,
    )
    residuals = np.abs(answered.held_out - answered.targets[split.held_out])
    order = np.argsort(residuals, kind="stable")
    difficulty = _difficulty(answered, domain)
    if difficulty is None:
        return Calibrated(domain=domain, residuals=residuals[order])
    near = domain.nearest(points[split.held_out], max(N_NEIGHBOURS, domain.neighbours))
    return Calibrated(
        domain=domain,
        residuals=residuals[order],
        difficulty=difficulty,
        residual_difficulty=difficulty.of(near)[order],
    )


def _difficulty(answered: Answered, domain: Domain) -> Difficulty | None:
    """Fit a difficulty if validation rows say that dividing by it makes intervals shorter."""
    deciding = answered.split.validation
    if len(deciding) < MIN_DECIDING_ROWS or len(answered.split.held_out) == 0:
        return None
    learned = learned_rows(answered.split)
    errors = kernel_left_out_errors(
        answered.embeddings[learned], answered.targets[learned], answered.fingerprints[learned]
    )
    difficulty = Difficulty.fit(np.abs(errors), domain)
    near = domain.among_known(max(N_NEIGHBOURS, domain.neighbours))
    estimated = difficulty.of(near)[np.searchsorted(learned, deciding)]
    residuals = np.abs(answered.validation - answered.targets[deciding])
    varying = _mean_width(residuals, estimated)
    return difficulty if varying < _mean_width(residuals, np.ones(len(deciding))) else None


def _mean_width(residuals: FloatArray, difficulty: FloatArray) -> float:
    """Geometric mean over some levels of how wide intervals would be on average."""
    scores = residuals / difficulty
    widths = [conformal_quantile(scores, level) for level in DECIDING_LEVELS]
    return float(np.exp(np.mean(np.log(np.maximum(widths, 1e-300)))) * difficulty.mean())
