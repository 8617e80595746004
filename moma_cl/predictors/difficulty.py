"""Difficulty: how large the error for a structure is likely to be, before anybody knows it.

Two things make a structure difficult: that nothing like it is known, and that what is like it was
badly predicted itself. Dividing errors by such an estimate before their quantile is taken makes
conformal intervals wide where errors are large, and leaves their coverage as it was.

References
----------
Papadopoulos, Gammerman, Vovk, *Normalized nonconformity measures for regression conformal
prediction* (AIA 2008); Lei et al., arXiv 1604.04173, section 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.learning.kernel_head import distances as squared_distances
from moma_cl.learning.kernel_head import matern
from moma_cl.learning.leave_one_out import repeated
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
    """An estimate from a structure's nearest known rows.

    Attributes
    ----------
    errors
        Absolute leave-one-out errors of the known rows, shape ``(n_known,)``, normalised targets.
    mean_error
        What neighbours' errors are on average over the known rows.
    mean_distance
        The same of the distance to neighbours, in units of the domain's reach.
    neighbours
        Over how many the distance is averaged.
    """

    errors: FloatArray
    mean_error: float
    mean_distance: float
    neighbours: int

    @classmethod
    def fit(cls, errors: FloatArray, domain: Domain) -> Difficulty:
        """Learn what is usual among known rows.

        Parameters
        ----------
        errors
            Absolute leave-one-out errors, shape ``(n_known,)``, normalised targets.
        domain
            Where the known rows lie.

        Returns
        -------
        Difficulty
            The estimate.
        """
        errors = errors.astype(np.float32).astype(np.float64)  # as they are stored
        near = domain.among_known(max(N_NEIGHBOURS, domain.neighbours))
        raw = cls(
            errors=errors,
            mean_error=1.0,
            mean_distance=max(float(near.distances[:, : domain.neighbours].mean()), LEAST),
            neighbours=domain.neighbours,
        )
        return cls(
            errors=errors,
            mean_error=max(float(raw._errors_near(near).mean()), LEAST),
            mean_distance=raw.mean_distance,
            neighbours=raw.neighbours,
        )

    def of(self, near: Neighbours) -> FloatArray:
        """Estimate.

        Parameters
        ----------
        near
            The known rows nearest to each structure: `N_NEIGHBOURS` or more.

        Returns
        -------
        FloatArray
            Shape ``(n_rows,)``, above zero; two and a half is usual.
        """
        distance = near.distances[:, : self.neighbours].mean(axis=1)
        return np.asarray(CONSTANT + self._errors_near(near) + distance / self.mean_distance)

    def _errors_near(self, near: Neighbours) -> FloatArray:
        # a row that is all but known counts for more than the others, but not alone
        distances, indices = near.distances[:, :N_NEIGHBOURS], near.indices[:, :N_NEIGHBOURS]
        weights = 1.0 / np.maximum(distances, NEAREST * self.mean_distance)
        mean = (weights * self.errors[indices]).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(mean / self.mean_error)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which the estimate is stored.

        Returns
        -------
        dict[str, NDArray[np.generic]]
            Arrays by name.
        """
        scale = [self.mean_error, self.mean_distance, float(self.neighbours)]
        return {
            "difficulty_errors": self.errors.astype(np.float32),
            "difficulty_scale": np.array(scale),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Difficulty | None:
        """Read what :meth:`to_arrays` gave.

        Parameters
        ----------
        arrays
            Arrays of a blob.

        Returns
        -------
        Difficulty | None
            The estimate; none where all intervals are of one width.
        """
        if "difficulty_scale" not in arrays:
            return None
        mean_error, mean_distance, neighbours = (
            arrays["difficulty_scale"].astype(np.float64).tolist()
        )
        return cls(
            errors=arrays["difficulty_errors"].astype(np.float64),
            mean_error=mean_error,
            mean_distance=mean_distance,
            neighbours=int(neighbours),
        )


def left_out_errors(
    embeddings: FloatArray, targets: FloatArray, groups: NDArray[np.integer]
) -> FloatArray:
    """Say how well each row is predicted from the others, by kernel ridge in closed form.

    One kernel for all tasks and one ridge: this asks which rows are hard to predict, not how well
    they can be. The errors of the rows ``G`` of one group, left out together, are
    ``((K + ridge)⁻¹_GG)⁻¹ α_G``.

    Parameters
    ----------
    embeddings
        One row each, shape ``(n_rows, n_features)``.
    targets
        Normalised targets, shape ``(n_rows,)``, dimensionless.
    groups
        Rows of one number are the same structure and are left out together, shape ``(n_rows,)``.

    Returns
    -------
    FloatArray
        Target less prediction, shape ``(n_rows,)``, dimensionless.
    """
    errors = np.zeros(len(targets))
    n_blocks = -(-len(targets) // BLOCK_ROWS)
    for first in range(n_blocks):  # every n-th row, so that blocks are alike
        rows = np.arange(first, len(targets), n_blocks)
        errors[rows] = _left_out_errors(embeddings[rows], targets[rows], groups[rows])
    return errors


def _left_out_errors(
    embeddings: FloatArray, targets: FloatArray, groups: NDArray[np.integer]
) -> FloatArray:
    centre, spread = centre_and_spread(embeddings)
    standard = (embeddings - centre) / spread
    squared = squared_distances(standard, standard)
    median = float(np.sqrt(np.median(squared))) or 1.0
    kernel = matern(squared, LENGTH_SCALE * median)
    inverse = np.linalg.inv(kernel + RIDGE * np.eye(len(kernel)))
    duals = inverse @ (targets - targets.mean())
    errors = duals / np.diag(inverse)
    for rows in repeated(groups):
        errors[rows] = np.linalg.lstsq(inverse[np.ix_(rows, rows)], duals[rows])[0]
    return np.asarray(errors)
