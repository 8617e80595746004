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


def within_bounds(
    answers: tuple[FloatArray, FloatArray, FloatArray],
    bounds: tuple[float, float],
    label_spread: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Keep answers and intervals inside what a property can be, and intervals wider than zero.

    A value outside is moved to the nearest bound. The end of its interval that faces the inside
    moves along, so that an interval that was all outside does not shrink to the bound; no value
    that the property can have is lost from an interval. Where the ends are equal, nothing tells
    how wide the interval has to be: it is then as wide as the known labels are spread around the
    value or, where they are equal too, from zero to twice the value.

    Parameters
    ----------
    answers
        Values, lower and upper ends, each of shape ``(n_rows,)``, in the task's unit.
    bounds
        Least and largest value of the property, same unit; infinite where there is none.
    label_spread
        Difference between the largest and the smallest label of the known rows, same unit.

    Returns
    -------
    tuple[FloatArray, FloatArray, FloatArray]
        The same three.
    """
    values, lower, upper = answers
    kept = np.clip(values, *bounds)
    with np.errstate(invalid="ignore"):  # infinite ends and values
        moved = np.where(kept == values, 0.0, kept - values)
    upper = np.where(moved != 0, np.maximum(upper + np.maximum(moved, 0), kept), upper)
    lower = np.where(moved != 0, np.minimum(lower + np.minimum(moved, 0), kept), lower)
    lower, upper = np.clip(lower, *bounds), np.clip(upper, *bounds)
    empty = lower >= upper
    half = label_spread / 2 or np.where(kept == 0, 1.0, np.abs(kept))
    lower = np.where(empty, np.clip(kept - half, *bounds), lower)
    upper = np.where(empty, np.clip(kept + half, *bounds), upper)
    return kept, lower, upper


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
