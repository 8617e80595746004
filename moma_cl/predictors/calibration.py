"""Calibration: what a predictor stores so that its answers come with intervals and a domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import Arrays, FloatArray
from moma_cl.datasets.split import Roles
from moma_cl.predictors.difficulty import N_NEIGHBOURS, Difficulty, left_out_errors
from moma_cl.predictors.domain import MEASURES, Domain, points_of
from moma_cl.predictors.intervals import conformal_quantile
from moma_cl.recipe import PredictorSettings

MIN_DECIDING_ROWS = 30  # fewer cannot tell whether widths should vary
DECIDING_LEVELS = (0.7, 0.8, 0.9)  # several: a quantile of few rows says little


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answered:
    """A task's rows, and what the head that answers says of those it had not seen.

    Attributes
    ----------
    embeddings
        Of all rows by the composed encoder, shape ``(n_rows, n_features)``.
    feature_dim
        Width of the node features.
    targets
        Normalised, shape ``(n_rows,)``.
    fingerprints
        Fingerprint of each structure, shape ``(n_rows,)``.
    elements
        Atomic numbers that occur in the rows learned from, ascending.
    roles
        What each row is used for.
    validation, held_out
        Normalised answers for the rows of these roles; of a cross-validation, ``validation`` is
        not looked at.
    """

    embeddings: FloatArray
    feature_dim: int
    targets: FloatArray
    fingerprints: NDArray[np.uint64]
    elements: tuple[int, ...]
    roles: Roles
    validation: FloatArray
    held_out: FloatArray

    @property
    def learned(self) -> NDArray[np.int64]:
        """Rows that the answering head has learned from or was chosen by, ascending."""
        return learned_rows(self.roles)


def learned_rows(roles: Roles) -> NDArray[np.int64]:
    """List the rows that a predictor knows: those fitted and those that decided.

    Parameters
    ----------
    roles
        What each row of its dataset is used for.

    Returns
    -------
    NDArray[np.int64]
        Row indices, ascending; the points of its domain are in this order.
    """
    return np.sort(np.concatenate([roles.train, roles.validation]))


def calibrate(answered: Answered, settings: PredictorSettings) -> Arrays:
    """Learn the domain, and on held-out rows how wide intervals must be.

    Parameters
    ----------
    answered
        Rows and answers.
    settings
        Version of the algorithm, and over how many neighbours distances are averaged.

    Returns
    -------
    Arrays
        Arrays of the predictor's blob.
    """
    roles, version = answered.roles, min(settings.version, max(MEASURES))
    points = points_of(answered.embeddings, answered.feature_dim, version=version)
    domain = Domain.fit(
        points[answered.learned],
        settings.neighbours,
        elements=answered.elements,
        version=version,
    )
    residuals = np.abs(answered.held_out - answered.targets[roles.held_out])
    order = np.argsort(residuals, kind="stable")
    arrays: Arrays = {**domain.to_arrays(), "held_out_residuals": residuals[order]}
    difficulty = _difficulty(answered, domain) if version > 1 else None
    if difficulty is None:
        return arrays
    near = domain.nearest(points[roles.held_out], max(N_NEIGHBOURS, domain.neighbours))
    return {**arrays, **difficulty.to_arrays(), "held_out_difficulty": difficulty.of(near)[order]}


def _difficulty(answered: Answered, domain: Domain) -> Difficulty | None:
    """Fit a difficulty if validation rows say that dividing by it makes intervals shorter."""
    deciding = answered.roles.validation
    if len(deciding) < MIN_DECIDING_ROWS or len(answered.roles.held_out) == 0:
        return None
    learned = answered.learned
    errors = left_out_errors(
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
