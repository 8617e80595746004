"""Vacuum in cells: which structures are slabs, layers, chains or molecules, not bulk crystals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moma_cl.structures.crystals import PackedCrystals, by_size
from moma_cl.structures.lattices import heights_of_many

LEAST_VACUUM = 8.0
"""A gap this wide is vacuum, Å: atoms on both sides do not see each other. Van der Waals gaps of
bulk crystals have some 3 Å between the planes of atoms."""


def with_vacuum(crystals: PackedCrystals) -> NDArray[np.bool_]:
    """Find the structures whose cell has an empty slice between two of its faces.

    They must be structures that `moma_cl.structures.checks.check_crystal` accepts. The answer has
    shape ``(n_structures,)``.
    """
    gaps = np.zeros((len(crystals), 3))
    for stack in by_size(crystals):
        gaps[stack.places] = _widest_gaps(stack.frac_coords)
    widest = gaps * heights_of_many(crystals.lattices)
    return np.asarray(widest.max(axis=1) >= LEAST_VACUUM)


def _widest_gaps(frac_coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Widest slices without atoms as shares of each lattice vector, ``(n_structures, 3)``."""
    wrapped = np.sort(frac_coords - np.floor(frac_coords), axis=1)
    around = wrapped[:, :1] + 1.0  # the first atom once more, in the next cell
    return np.asarray(np.diff(np.concatenate([wrapped, around], axis=1), axis=1).max(axis=1))
