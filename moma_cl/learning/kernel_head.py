"""The kernel head: ridge regression on embeddings, solved in closed form within seconds.

Its kernel is a Matérn of embeddings, plus a linear one of the modules' opinions where these help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.learning.leave_one_out import repeated
from moma_cl.learning.standardisation import centre_and_spread
from moma_cl.recipe import KernelSettings

SELECTION_ROWS = 1200  # rows on which length scale and ridge are chosen: an eigenvalue problem each


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KernelHead:
    """Kernel ridge regressions that share their kernel and support.

    Attributes
    ----------
    centre, spread
        Standardisation of the embeddings, shape ``(n_features,)``.
    support
        Standardised embeddings the kernel is built on, shape ``(n_support, n_features)``.
    duals
        Coefficients, a column per regression, shape ``(n_support, n_fits)``.
    length
        Length scale of the kernel, in standardised embedding units.
    opinions
        Opinions of the support, times their weight in the kernel, shape
        ``(n_support, n_modules)``; no columns where they are not heard.
    """

    centre: FloatArray
    spread: FloatArray
    support: FloatArray
    duals: FloatArray
    length: float
    opinions: FloatArray

    @property
    def hears(self) -> bool:
        """Whether it takes opinions into account."""
        return bool(self.opinions.shape[1])

    def predict(self, embeddings: FloatArray, opinions: FloatArray | None = None) -> FloatArray:
        """Predict with every regression.

        Parameters
        ----------
        embeddings
            One row each, shape ``(n_rows, n_features)``.
        opinions
            One row each, shape ``(n_rows, n_modules)``; needed where it hears any.

        Returns
        -------
        FloatArray
            Normalised predictions, shape ``(n_rows, n_fits)``, dimensionless.
        """
        rows = (embeddings - self.centre) / self.spread
        kernel = matern(distances(rows, self.support), self.length)
        if self.hears and opinions is not None:
            kernel += opinions @ self.opinions.T
        return kernel @ self.duals

    def to_arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which the head is stored.

        Parameters
        ----------
        prefix
            Put before every name.

        Returns
        -------
        dict[str, NDArray[np.generic]]
            Float32 support, everything else in float64.
        """
        return {
            f"{prefix}centre": self.centre,
            f"{prefix}spread": self.spread,
            f"{prefix}support": self.support.astype(np.float32),
            f"{prefix}duals": self.duals,
            f"{prefix}length": np.array([self.length]),
            **({f"{prefix}opinions": self.opinions} if self.hears else {}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> KernelHead:
        """Read what :meth:`to_arrays` gave.

        Parameters
        ----------
        arrays
            Arrays of a blob.
        prefix
            What stands before every name.

        Returns
        -------
        KernelHead
            The head.
        """
        found = {
            name: arrays[prefix + name].astype(np.float64)
            for name in ("centre", "spread", "support", "duals", "length")
        }
        return cls(
            centre=found["centre"],
            spread=found["spread"],
            support=found["support"],
            duals=found["duals"],
            length=float(found["length"][0]),
            opinions=arrays.get(f"{prefix}opinions", np.zeros((0, 0))).astype(np.float64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """Length scale, ridge and weight of opinions, as leave-one-out errors chose them."""

    length_scale: float  # of the median distance
    ridge: float
    opinions: float  # of their linear kernel, against the Matérn's 1


def fit_kernel_head(
    embeddings: FloatArray,
    targets: FloatArray,
    settings: KernelSettings,
    *,
    groups: NDArray[np.integer] | None = None,
    choice: KernelChoice | None = None,
    subsets: list[NDArray[np.bool_]] | None = None,
    opinions: FloatArray | None = None,
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
        Length scale, ridge and weight of opinions; by default chosen by leave-one-out error.
    subsets
        Rows that each regression sees, shape ``(n_rows,)`` each; by default one sees all.
    opinions
        The modules', standardised, shape ``(n_rows, n_modules)``; by default there are none.

    Returns
    -------
    tuple[KernelHead, KernelChoice]
        The head, and the choice made.
    """
    kept = _sample(len(targets), settings.max_rows)
    rows, goal = embeddings[kept], targets[kept]
    centre, spread = centre_and_spread(rows)
    # rounded as it is stored, so that a reloaded head answers with the same bits
    standard = ((rows - centre) / spread).astype(np.float32).astype(np.float64)
    squared = distances(standard, standard)
    heard = np.zeros((len(kept), 0)) if opinions is None else opinions[kept]
    if choice is None:
        known = np.arange(len(targets)) if groups is None else groups
        choice = _choose(squared, heard, goal, known[kept], settings)
    length = choice.length_scale * _median_distance(squared)
    heard = heard if choice.opinions > 0 else heard[:, :0]
    kernel = matern(squared, length) + choice.opinions * (heard @ heard.T)
    masks = subsets if subsets is not None else [np.ones(len(targets), dtype=bool)]
    duals = np.zeros((len(kept), len(masks)))
    for column, mask in enumerate(masks):
        seen = np.flatnonzero(mask[kept])
        if len(seen) == 0:  # nothing but the mean is known
            continue
        duals[seen, column] = _solve(kernel[np.ix_(seen, seen)], goal[seen], choice.ridge)
    head = KernelHead(
        centre=centre,
        spread=spread,
        support=standard,
        duals=duals,
        length=length,
        opinions=choice.opinions * heard,
    )
    return head, choice


def matern(squared_distances: FloatArray, length: float) -> FloatArray:
    """Evaluate the Matérn kernel of smoothness 5/2.

    Parameters
    ----------
    squared_distances
        Any shape, in squared units of ``length``.
    length
        Length scale.

    Returns
    -------
    FloatArray
        Kernel, same shape, one at distance zero.

    References
    ----------
    Rasmussen, Williams, *Gaussian Processes for Machine Learning*, equation 4.17.
    """
    scaled = np.sqrt(squared_distances * (5.0 / length**2))
    kernel = 1.0 + scaled
    kernel += scaled**2 / 3.0
    kernel *= np.exp(np.negative(scaled, out=scaled))
    return np.asarray(kernel)


def distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared Euclidean distances between two sets of rows.

    Parameters
    ----------
    first
        Shape ``(n_first, n_features)``.
    second
        Shape ``(n_second, n_features)``.

    Returns
    -------
    FloatArray
        Shape ``(n_first, n_second)``.
    """
    # one product instead of a difference per pair: ten times faster, exact enough in float64
    products = first @ second.T
    squares = _squares(first)[:, None] + _squares(second)
    squares -= np.multiply(products, 2.0, out=products)
    return np.maximum(squares, 0.0, out=squares)


def _squares(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _choose(
    squared: FloatArray,
    opinions: FloatArray,
    targets: FloatArray,
    groups: NDArray[np.integer],
    settings: KernelSettings,
) -> KernelChoice:
    median = _median_distance(squared)
    kept = _sample(len(targets), SELECTION_ROWS)
    squared, targets = squared[np.ix_(kept, kept)], targets[kept]
    linear = opinions[kept] @ opinions[kept].T
    together = repeated(groups[kept])
    best, bar = KernelChoice(length_scale=1.0, ridge=1e-2, opinions=0.0), np.inf
    for weight in (0.0, *(settings.opinions if opinions.shape[1] else ())):
        for length_scale in settings.length_scales:
            kernel = matern(squared, length_scale * median) + weight * linear
            errors = _left_out_errors(kernel, targets, settings.ridges, together)
            ridge = min(errors, key=lambda one: errors[one])
            if errors[ridge] < bar:
                bar = errors[ridge]
                best = KernelChoice(length_scale=length_scale, ridge=ridge, opinions=weight)
        if weight == 0:  # opinions cost every answer an embedding by each module
            bar *= 1.0 - settings.opinions_worth
    return best


def _left_out_errors(
    kernel: FloatArray,
    targets: FloatArray,
    ridges: tuple[float, ...],
    together: list[NDArray[np.int64]],
) -> dict[float, float]:
    """Mean absolute leave-one-out error with each ridge; rows of a group are left out together."""
    values, vectors = np.linalg.eigh(kernel)
    projected = vectors.T @ targets
    errors = {}
    for ridge in ridges:
        inverse = 1.0 / (np.maximum(values, 0.0) + ridge)
        # leave-one-out residuals of kernel ridge: those of the rows G of a group, left out
        # together, are ((K + ridge)^-1_GG)^-1 alpha_G
        duals = vectors @ (inverse * projected)
        residual = duals / (vectors**2 @ inverse)
        for rows in together:
            block = (vectors[rows] * inverse) @ vectors[rows].T
            residual[rows] = np.linalg.lstsq(block, duals[rows])[0]
        errors[ridge] = float(np.abs(residual).mean())
    return errors


def _solve(kernel: FloatArray, targets: FloatArray, ridge: float) -> FloatArray:
    from scipy.linalg import cho_factor, cho_solve

    system = kernel + ridge * np.eye(len(kernel))
    return np.asarray(cho_solve(cho_factor(system, lower=True, overwrite_a=True), targets))


def _median_distance(squared: FloatArray) -> float:
    above = squared[np.triu_indices(len(squared), k=1)]
    median = float(np.sqrt(np.median(above))) if len(above) else 1.0
    return median if median > 0 else 1.0


def _sample(n_rows: int, n_kept: int) -> NDArray[np.int64]:
    """Spread a fixed number of rows evenly; all of them where there are fewer."""
    if n_rows <= n_kept:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, n_kept).round().astype(np.int64)
