"""Difficulty: an estimate of how large the error for a structure is likely to be.

A structure is difficult if it is far from all known rows, and if the known rows nearest to it were
badly predicted themselves. Dividing errors by such an estimate before their quantile is taken makes
conformal intervals wide where errors are large, and leaves their coverage as it was.

References
----------
Papadopoulos, Gammerman, Vovk, *Normalized nonconformity measures for regression conformal
prediction* (AIA 2008); Lei et al., arXiv 1604.04173, section 5.2.

"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.learning.kernel_head import matern, squared_distances
from moma_cl.learning.leave_one_out import Groups, left_out_errors, repeated_rows
from moma_cl.learning.standardisation import centre_and_spread
from moma_cl.predictors.domain import Domain, Neighbours

N_NEIGHBOURS = 10  # whose errors are averaged
CONSTANT = 0.5  # share of the difficulty that is the same everywhere, over that of errors
LENGTH_SCALE = 0.5  # of the median distance
RIDGE = 1e-2
BLOCK_ROWS = 1500  # rows left out of one another: an inverse of this size each
NEAREST = 0.1  # of the mean distance; nearer rows weigh no more
LEAST = 1e-12  # of a scale


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Difficulty:
    """An estimate from a structure's nearest known rows."""

    errors: FloatArray  # absolute, leave-one-out, of normalised targets of known rows, (n_known,)
    mean_error: float  # what neighbours' errors are on average over the known rows
    mean_distance: float  # the same of the distance to neighbours, in units of the domain's reach
    neighbours: int  # over how many the distance is averaged

    @classmethod
    def fit(cls, errors: FloatArray, domain: Domain) -> Difficulty:
        """Measure mean error and mean distance among the known rows, the points of the domain.

        ``errors`` are absolute leave-one-out errors, shape ``(n_known,)``, of normalised targets.
        """
        errors = errors.astype(np.float32).astype(np.float64)  # as they are stored
        near = domain.among_known(max(N_NEIGHBOURS, domain.neighbours))
        raw = cls(
            errors=errors,
            mean_error=1.0,
            mean_distance=max(float(near.distances[:, : domain.neighbours].mean()), LEAST),
            neighbours=domain.neighbours,
        )
        return replace(raw, mean_error=max(float(raw._errors_near(near).mean()), LEAST))

    def of(self, near: Neighbours) -> FloatArray:
        """Estimate the difficulty of structures, shape ``(n_rows,)``, above zero; 2.5 is usual.

        `N_NEIGHBOURS` known rows or more must be given for each.
        """
        distance = near.distances[:, : self.neighbours].mean(axis=1)
        return np.asarray(CONSTANT + self._errors_near(near) + distance / self.mean_distance)

    def _errors_near(self, near: Neighbours) -> FloatArray:
        # the error of a row that is almost the structure itself counts most, but not alone
        distances, indices = near.distances[:, :N_NEIGHBOURS], near.indices[:, :N_NEIGHBOURS]
        weights = 1.0 / np.maximum(distances, NEAREST * self.mean_distance)
        mean = (weights * self.errors[indices]).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(mean / self.mean_error)


def kernel_left_out_errors(
    embeddings: FloatArray, targets: FloatArray, groups: Groups
) -> FloatArray:
    """Measure how well kernel ridge regression predicts each row from rows of other structures.

    One kernel and one ridge serve all tasks: this asks which rows are hard to predict, not how well
    they can be. Errors are target less prediction, shape ``(n_rows,)``, of normalised targets, from
    embeddings of shape ``(n_rows, n_features)``; rows of one group are left out together.
    """
    errors = np.zeros(len(targets))
    n_blocks = -(-len(targets) // BLOCK_ROWS)
    for first in range(n_blocks):  # every n-th row, so that blocks are alike
        rows = np.arange(first, len(targets), n_blocks)
        errors[rows] = _block_errors(embeddings[rows], targets[rows], groups[rows])
    return errors


def _block_errors(embeddings: FloatArray, targets: FloatArray, groups: Groups) -> FloatArray:
    centre, spread = centre_and_spread(embeddings)
    standard = (embeddings - centre) / spread
    squared = squared_distances(standard, standard)
    median = float(np.sqrt(np.median(squared))) or 1.0
    kernel = matern(squared, LENGTH_SCALE * median)
    inverse = np.linalg.inv(kernel + RIDGE * np.eye(len(kernel)))
    duals = inverse @ (targets - targets.mean())
    return left_out_errors(
        duals,
        np.diag(inverse),
        lambda rows: np.asarray(inverse[np.ix_(rows, rows)]),
        repeated_rows(groups),
    )
