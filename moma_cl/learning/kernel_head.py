"""The kernel head: ridge regression on embeddings, solved in closed form within seconds.

Its kernel is a Matérn kernel of embeddings, plus one of what readouts of modules predict of their
own properties, where that helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.learning.leave_one_out import Groups, left_out_errors, repeated_rows
from moma_cl.learning.sampling import evenly_spaced
from moma_cl.learning.standardisation import centre_and_spread
from moma_cl.recipe import KernelSettings

SELECTION_ROWS = 1200  # rows on which length scale and ridge are chosen: an eigenvalue problem each


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KernelHead:
    """Kernel ridge regressions that share their kernel and support."""

    centre: FloatArray  # of the embeddings, shape (n_features,)
    spread: FloatArray  # likewise; the embeddings are standardised by both
    support: FloatArray  # standardised embeddings it is built on, shape (n_support, n_features)
    duals: FloatArray  # coefficients, a column per regression, shape (n_support, n_fits)
    offsets: FloatArray  # added to what each regression predicts, shape (n_fits,)
    length: float  # length scale of the kernel, in standardised embedding units
    readouts: FloatArray  # features of the support, shape (n_support, n_readouts or 0)
    readout_weight: float = 0.0  # of the kernel of readouts, against 1 of that of embeddings
    readout_length: float = 1.0  # its length scale, in units of readout features

    @property
    def uses_readouts(self) -> bool:
        """Whether its kernel has a part of readout features."""
        return bool(self.readouts.shape[1])

    def predict(self, embeddings: FloatArray, readouts: FloatArray | None = None) -> FloatArray:
        """Predict with every regression.

        Parameters
        ----------
        embeddings
            One row each, shape ``(n_rows, n_features)``.
        readouts
            Readout features, shape ``(n_rows, n_readouts)``; needed where it uses them.

        Returns
        -------
        FloatArray
            Normalised predictions, shape ``(n_rows, n_fits)``, dimensionless.
        """
        rows = (embeddings - self.centre) / self.spread
        kernel = matern(squared_distances(rows, self.support), self.length)
        if self.uses_readouts and readouts is not None:
            squared = squared_distances(readouts, self.readouts)
            kernel += self.readout_weight * matern(squared, self.readout_length)
        return kernel @ self.duals + self.offsets

    def drawn_to(self, constants: FloatArray, share: float) -> Self:
        """Answer in between: a share of each regression, and the rest of a constant of its own.

        Parameters
        ----------
        constants
            Normalised, one for each regression, shape ``(n_fits,)``, dimensionless.
        share
            Of the regressions, between 0 and 1.

        Returns
        -------
        KernelHead
            The same at a share of 1; at 0 it answers nothing but the constants.
        """
        offsets = share * self.offsets + (1.0 - share) * constants
        return replace(self, duals=share * self.duals, offsets=offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """Length scales, ridge and weight of readouts, as leave-one-out errors chose them."""

    length_scale: float = 1.0  # of the median distance
    ridge: float = 1e-2
    readout_weight: float = 0.0  # of the kernel of readouts, against 1 of that of embeddings
    readout_length_scale: float = 1.0  # of the median distance of readouts


def fit_kernel_head(
    embeddings: FloatArray,
    targets: FloatArray,
    settings: KernelSettings,
    *,
    groups: Groups | None = None,
    choice: KernelChoice | None = None,
    subsets: list[NDArray[np.bool_]] | None = None,
    readouts: FloatArray | None = None,
) -> tuple[KernelHead, KernelChoice]:
    """Fit one regression, or one for each of several subsets of the rows.

    Parameters
    ----------
    embeddings
        One row each, shape ``(n_rows, n_features)``.
    targets
        Normalised targets, shape ``(n_rows,)``, dimensionless.
    settings
        The grid, and how many rows the kernel is built on.
    groups
        Rows of one number are the same structure and are left out together, shape ``(n_rows,)``;
        by default each is its own.
    choice
        Length scales, ridge and weight of readouts; by default chosen by leave-one-out error.
    subsets
        Rows that each regression sees, shape ``(n_rows,)`` each; by default one sees all.
    readouts
        Readout features, shape ``(n_rows, n_readouts)``; by default there are none.

    Returns
    -------
    tuple[KernelHead, KernelChoice]
        The head, and the choice made.
    """
    kept = evenly_spaced(len(targets), settings.max_rows)
    heard = np.zeros((len(kept), 0)) if readouts is None else readouts[kept]
    support = _Support.of(embeddings[kept], heard, targets[kept])
    if choice is None:
        choice = support.choose(kept if groups is None else groups[kept], settings)
    masks = [np.ones(len(kept), dtype=bool)] if subsets is None else [m[kept] for m in subsets]
    return support.head(choice, masks), choice


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Support:
    """The rows a kernel is built on, standardised, with their targets."""

    centre: FloatArray
    spread: FloatArray
    rows: FloatArray
    readouts: FloatArray
    targets: FloatArray
    distances: _Distances
    readout_distances: _Distances

    @classmethod
    def of(cls, embeddings: FloatArray, readouts: FloatArray, targets: FloatArray) -> Self:
        centre, spread = centre_and_spread(embeddings)
        # rounded as it is stored, so that a reloaded head answers with the same bits
        rows = ((embeddings - centre) / spread).astype(np.float32).astype(np.float64)
        return cls(
            centre=centre,
            spread=spread,
            rows=rows,
            readouts=readouts,
            targets=targets,
            distances=_Distances.between(rows),
            readout_distances=_Distances.between(readouts),
        )

    def choose(self, groups: Groups, settings: KernelSettings) -> KernelChoice:
        """Choose on a sample, by leave-one-out error: first without readouts, then with them.

        The length scale of embeddings stays in the second step: to try all pairs of scales would
        take many times as long.
        """
        kept = evenly_spaced(len(self.targets), SELECTION_ROWS)
        sample, repeated = self._only(kept), repeated_rows(groups[kept])
        scales = [KernelChoice(length_scale=scale) for scale in settings.length_scales]
        best, error = sample.best_of(scales, settings.ridges, repeated)
        if self.readouts.shape[1] == 0:
            return best
        pairs = product(settings.readout_weights, settings.readout_length_scales)
        heard = [replace(best, readout_weight=w, readout_length_scale=scale) for w, scale in pairs]
        with_readouts, less = sample.best_of(heard, settings.ridges, repeated)
        # readouts cost every answer: embeddings by each of the modules, for most learners
        return with_readouts if less < (1.0 - settings.readouts_worth) * error else best

    def _only(self, kept: IntArray) -> Self:
        return replace(
            self,
            targets=self.targets[kept],
            distances=self.distances.only(kept),
            readout_distances=self.readout_distances.only(kept),
        )

    def best_of(
        self, choices: Sequence[KernelChoice], ridges: tuple[float, ...], repeated: list[IntArray]
    ) -> tuple[KernelChoice, float]:
        """Find the choice, and the ridge for it, of the least mean absolute leave-one-out error."""
        best, least = KernelChoice(), np.inf
        for choice in choices:
            errors = _errors_by_ridge(self.kernel(choice), self.targets, ridges, repeated)
            ridge = min(errors, key=lambda one: errors[one])
            if errors[ridge] < least:
                best, least = replace(choice, ridge=ridge), errors[ridge]
        return best, least

    def kernel(self, choice: KernelChoice) -> FloatArray:
        """Evaluate the kernel between all rows."""
        kernel = self.distances.kernel(choice.length_scale)
        if choice.readout_weight > 0:
            heard = self.readout_distances.kernel(choice.readout_length_scale)
            kernel += choice.readout_weight * heard
        return kernel

    def head(self, choice: KernelChoice, masks: list[NDArray[np.bool_]]) -> KernelHead:
        """Solve the regression of each mask with the kernel that was chosen."""
        kernel = self.kernel(choice)
        duals = np.zeros((len(self.rows), len(masks)))
        for column, mask in enumerate(masks):
            seen = np.flatnonzero(mask)
            if len(seen) > 0:  # otherwise it predicts the mean
                system = kernel[np.ix_(seen, seen)]
                duals[seen, column] = _solve(system, self.targets[seen], choice.ridge)
        return KernelHead(
            centre=self.centre,
            spread=self.spread,
            support=self.rows,
            duals=duals,
            offsets=np.zeros(len(masks)),
            length=choice.length_scale * self.distances.median,
            readouts=self.readouts if choice.readout_weight > 0 else self.readouts[:, :0],
            readout_weight=choice.readout_weight,
            readout_length=choice.readout_length_scale * self.readout_distances.median,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Distances:
    """Distances between rows of features."""

    squared: FloatArray  # shape (n_rows, n_rows)
    median: float  # of the distances of all pairs

    @classmethod
    def between(cls, rows: FloatArray) -> Self:
        squared = squared_distances(rows, rows)
        return cls(squared=squared, median=_median_distance(squared))

    def only(self, kept: IntArray) -> Self:
        return replace(self, squared=self.squared[np.ix_(kept, kept)])

    def kernel(self, length_scale: float) -> FloatArray:
        return matern(self.squared, length_scale * self.median)


def matern(squared_distances: FloatArray, length: float) -> FloatArray:
    """Evaluate the Matérn kernel of smoothness 5/2, which is one at distance zero.

    Squared distances, of any shape, are in squared units of ``length``, the length scale.

    References
    ----------
    Rasmussen, Williams, *Gaussian Processes for Machine Learning*, equation 4.17.
    """
    scaled = np.sqrt(squared_distances * (5.0 / length**2))
    kernel = 1.0 + scaled
    kernel += scaled**2 / 3.0
    kernel *= np.exp(np.negative(scaled, out=scaled))
    return np.asarray(kernel)


def squared_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared Euclidean distances between two sets of rows, shape ``(n_first, n_second)``.

    The rows have shapes ``(n_first, n_features)`` and ``(n_second, n_features)``.
    """
    # one product instead of a difference per pair: ten times faster, exact enough in float64
    products = first @ second.T
    squares = _squares(first)[:, None] + _squares(second)
    squares -= np.multiply(products, 2.0, out=products)
    return np.maximum(squares, 0.0, out=squares)


def _squares(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _errors_by_ridge(
    kernel: FloatArray,
    targets: FloatArray,
    ridges: tuple[float, ...],
    repeated: list[IntArray],
) -> dict[float, float]:
    """Mean absolute leave-one-out error with each ridge."""
    values, vectors = np.linalg.eigh(kernel)
    projected = vectors.T @ targets
    errors = {}
    for ridge in ridges:
        inverse = 1.0 / (np.maximum(values, 0.0) + ridge)

        def block(rows: IntArray, inverse: FloatArray = inverse) -> FloatArray:
            return np.asarray((vectors[rows] * inverse) @ vectors[rows].T)

        duals, diagonal = vectors @ (inverse * projected), vectors**2 @ inverse
        left_out = left_out_errors(duals, diagonal, block, repeated)
        errors[ridge] = float(np.abs(left_out).mean())
    return errors


def _solve(kernel: FloatArray, targets: FloatArray, ridge: float) -> FloatArray:
    from scipy.linalg import cho_factor, cho_solve

    system = kernel + ridge * np.eye(len(kernel))
    return np.asarray(cho_solve(cho_factor(system, lower=True, overwrite_a=True), targets))


def _median_distance(squared: FloatArray) -> float:
    above = squared[np.triu_indices(len(squared), k=1)]
    median = float(np.sqrt(np.median(above))) if len(above) else 1.0
    return median if median > 0 else 1.0
