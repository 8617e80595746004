"""Vacuum in cells: which structures are slabs, layers, chains or molecules, not bulk crystals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moma_cl.structures.crystals import PackedCrystals, SameSize, by_size
from moma_cl.structures.lattices import heights_of_many

LEAST_VACUUM = 8.0
"""A gap this wide is vacuum, Å: atoms on both sides do not see each other. Van der Waals gaps of
bulk crystals have some 3 Å between the planes of atoms."""


def with_vacuum(crystals: PackedCrystals) -> NDArray[np.bool_]:
    """Find the structures whose cell has an empty slice between two of its faces.

    Parameters
    ----------
    crystals
        Structures that `moma_cl.structures.validation.check_crystal` accepts.

    Returns
    -------
    NDArray[np.bool_]
        Shape ``(n_structures,)``.
    """
    found = np.zeros(len(crystals), dtype=bool)
    for stack in by_size(crystals):
        found[stack.places] = _widest_gaps(stack) >= LEAST_VACUUM
    return found


def _widest_gaps(stack: SameSize) -> NDArray[np.float64]:
    """Widest slices without atoms along any lattice vector, shape ``(n_structures,)``, Å."""
    wrapped = np.sort(stack.frac_coords - np.floor(stack.frac_coords), axis=1)
    around = wrapped[:, :1] + 1.0  # the first atom once more, in the next cell
    gaps = np.diff(np.concatenate([wrapped, around], axis=1), axis=1).max(axis=1)
    return np.asarray((gaps * heights_of_many(stack.lattices)).max(axis=1))
