"""Standardising embeddings, so that each feature counts by how much it tells structures apart."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray

# Least spread of a feature over the mean spread. In crystals of one element nothing deviates from
# atom to atom but by rounding, which must not become the yardstick for compounds.
MIN_SPREAD = 0.1
# Least spread over the mean size of the features: where all known structures are alike, others must
# not look like them.
MIN_RELATIVE_SPREAD = 1e-3


def centre_and_spread(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find what to subtract from embeddings, shape ``(n_rows, n_features)``, and to divide them by.

    They are means and standard deviations, each of shape ``(n_features,)``; the deviations have a
    floor above zero.
    """
    centre, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    size = float(np.abs(embeddings).mean())
    floor = max(MIN_SPREAD * float(spread.mean()), MIN_RELATIVE_SPREAD * size)
    return centre, np.maximum(spread, floor if floor > 0 else 1.0)
