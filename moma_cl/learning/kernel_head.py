"""The kernel head: ridge regression on embeddings, solved in closed form within seconds.

Its kernel is a Matérn kernel of embeddings, plus a linear kernel of what the readouts of modules
predict of their own properties, where that helps.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    length: float  # length scale of the kernel, in standardised embedding units
    readouts: FloatArray  # of the support, times their weight, (n_support, n_modules or 0)

    @property
    def uses_readouts(self) -> bool:
        """Whether its kernel has a linear part, of readout features."""
        return bool(self.readouts.shape[1])

    def predict(self, embeddings: FloatArray, readouts: FloatArray | None = None) -> FloatArray:
        """Predict with every regression.

        Parameters
        ----------
        embeddings
            One row each, shape ``(n_rows, n_features)``.
        readouts
            Readout features, shape ``(n_rows, n_modules)``; needed where it uses them.

        Returns
        -------
        FloatArray
            Normalised predictions, shape ``(n_rows, n_fits)``, dimensionless.
        """
        rows = (embeddings - self.centre) / self.spread
        kernel = matern(squared_distances(rows, self.support), self.length)
        if self.uses_readouts and readouts is not None:
            kernel += readouts @ self.readouts.T
        return kernel @ self.duals


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """Length scale, ridge and weight of readouts, as leave-one-out errors chose them."""

    length_scale: float  # of the median distance
    ridge: float
    readout_weight: float  # of the linear kernel, against the Matérn's 1


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
        Length scale, ridge and weight of readouts; by default chosen by leave-one-out error.
    subsets
        Rows that each regression sees, shape ``(n_rows,)`` each; by default one sees all.
    readouts
        Readout features of modules, shape ``(n_rows, n_modules)``; by default there are none.

    Returns
    -------
    tuple[KernelHead, KernelChoice]
        The head, and the choice made.
    """
    kept = evenly_spaced(len(targets), settings.max_rows)
    linear = np.zeros((len(kept), 0)) if readouts is None else readouts[kept]
    support = _Support.of(embeddings[kept], linear, targets[kept])
    if choice is None:
        choice = support.choose(kept if groups is None else groups[kept], settings)
    masks = [np.ones(len(kept), dtype=bool)] if subsets is None else [m[kept] for m in subsets]
    return support.head(choice, masks), choice


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Support:
    """The rows a kernel is built on, standardised, with their squared distances and targets."""

    centre: FloatArray
    spread: FloatArray
    rows: FloatArray
    squared: FloatArray
    readouts: FloatArray
    targets: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray, readouts: FloatArray, targets: FloatArray) -> Self:
        centre, spread = centre_and_spread(embeddings)
        # rounded as it is stored, so that a reloaded head answers with the same bits
        rows = ((embeddings - centre) / spread).astype(np.float32).astype(np.float64)
        return cls(
            centre=centre,
            spread=spread,
            rows=rows,
            squared=squared_distances(rows, rows),
            readouts=readouts,
            targets=targets,
        )

    def choose(self, groups: Groups, settings: KernelSettings) -> KernelChoice:
        """Choose on a sample, by leave-one-out error."""
        median = _median_distance(self.squared)
        kept = evenly_spaced(len(self.targets), SELECTION_ROWS)
        squared, targets = self.squared[np.ix_(kept, kept)], self.targets[kept]
        linear = self.readouts[kept] @ self.readouts[kept].T
        repeated = repeated_rows(groups[kept])
        best, bar = KernelChoice(length_scale=1.0, ridge=1e-2, readout_weight=0.0), np.inf
        for weight in (0.0, *(settings.opinions if self.readouts.shape[1] else ())):
            for scale in settings.length_scales:
                kernel = matern(squared, scale * median) + weight * linear
                errors = _errors_by_ridge(kernel, targets, settings.ridges, repeated)
                ridge = min(errors, key=lambda one: errors[one])
                if errors[ridge] < bar:
                    bar = errors[ridge]
                    best = KernelChoice(length_scale=scale, ridge=ridge, readout_weight=weight)
            if weight == 0:  # readouts cost every answer an embedding by each module
                bar *= 1.0 - settings.opinions_worth
        return best

    def head(self, choice: KernelChoice, masks: list[NDArray[np.bool_]]) -> KernelHead:
        """Solve the regression of each mask with the kernel that was chosen."""
        length = choice.length_scale * _median_distance(self.squared)
        readouts = self.readouts if choice.readout_weight > 0 else self.readouts[:, :0]
        kernel = matern(self.squared, length) + choice.readout_weight * (readouts @ readouts.T)
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
            length=length,
            readouts=choice.readout_weight * readouts,
        )


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
