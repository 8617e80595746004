"""Standardising embeddings, so that each feature counts by how much it tells structures apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Least spread of a feature over the mean spread. In crystals of one element nothing deviates from
# atom to atom but by rounding, which must not become the yardstick for compounds.
MIN_SPREAD = 0.1


def centre_and_spread(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find what to subtract from embeddings and what to divide them by.

    Parameters
    ----------
    embeddings
        One row each, shape ``(n_rows, n_features)``.

    Returns
    -------
    tuple[FloatArray, FloatArray]
        Means and standard deviations, each of shape ``(n_features,)``; the deviation has a floor,
        and is infinite where nothing varies at all, so that such a feature does not count.
    """
    centre, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    spread = np.maximum(spread, MIN_SPREAD * spread.mean())
    negligible = 1e-6 * max(1.0, float(np.abs(embeddings).max()))
    return centre, np.where(spread > negligible, spread, np.inf)
