"""Prediction intervals that promise their coverage without assuming a distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray


def conformal_quantile(scores: FloatArray, level: float) -> float:
    """Find the half-width that covers a new row with at least this probability.

    Parameters
    ----------
    scores
        Absolute errors on rows that decided nothing, shape ``(n_rows,)``, any unit.
    level
        Coverage, between 0 and 1.

    Returns
    -------
    float
        Half-width in the same unit; infinite where there are too few rows for the level.

    References
    ----------
    Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World* (2005); in this form Lei et
    al., arXiv 1604.04173, algorithm 2.
    """
    rank = math.ceil((len(scores) + 1) * level)
    if rank > len(scores):
        return math.inf
    return float(np.sort(scores)[rank - 1])


def cross_validation_interval(
    predictions: FloatArray, residuals: FloatArray, groups: NDArray[np.int64], level: float
) -> tuple[FloatArray, FloatArray]:
    """Give CV+ intervals from the models of a cross-validation.

    Parameters
    ----------
    predictions
        Of new rows by the model of each fold, shape ``(n_rows, n_folds)``, any unit.
    residuals
        Absolute out-of-fold errors, shape ``(n_known,)``, same unit.
    groups
        Fold of each known row, shape ``(n_known,)``.
    level
        Nominal coverage; at least ``2 * level - 1`` is guaranteed.

    Returns
    -------
    tuple[FloatArray, FloatArray]
        Lower and upper ends, each of shape ``(n_rows,)``, same unit; infinite where there are too
        few rows for the level.

    References
    ----------
    Barber et al., *Predictive inference with the jackknife+*, arXiv 1905.02928, section 3.
    """
    n_known = len(residuals)
    rank = math.ceil((n_known + 1) * level)
    if rank > n_known:
        infinite = np.full(len(predictions), np.inf)
        return -infinite, infinite
    centre = predictions[:, groups]
    lower = np.sort(centre - residuals, axis=1)[:, n_known - rank]
    upper = np.sort(centre + residuals, axis=1)[:, rank - 1]
    return lower, upper
