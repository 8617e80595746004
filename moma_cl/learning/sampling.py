"""Samples that depend on numbers of rows alone."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import IntArray


def evenly_spaced(n_rows: int, n_kept: int) -> IntArray:
    """Spread a fixed number of row indices evenly; all of them where there are fewer."""
    if n_rows <= n_kept:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, n_kept).round().astype(np.int64)
