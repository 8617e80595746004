"""Geometry of lattices: how thick a cell is, and the most compact cell of the same lattice."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray


def heights(lattice: FloatArray) -> FloatArray:
    """Distances between opposite faces of a cell.

    A vector shorter than ``r`` has fractional coordinates within ``r / heights`` of zero, which
    says how many neighbouring cells a search with cutoff ``r`` must look at.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape ``(3, 3)``, Å; linearly independent.

    Returns
    -------
    FloatArray
        Height of the cell along each lattice vector, shape ``(3,)``, Å.
    """
    reciprocal = np.linalg.inv(lattice)  # its vectors are columns
    return np.asarray(1.0 / np.linalg.norm(reciprocal, axis=0))


def heights_of_many(lattices: FloatArray) -> FloatArray:
    """Distances between opposite faces of many cells, up to rounding those of `heights`.

    Lattice vectors have shape ``(n_structures, 3, 3)``, Å; heights ``(n_structures, 3)``, Å.
    """
    faces = np.cross(lattices[:, [1, 2, 0]], lattices[:, [2, 0, 1]])
    volumes = np.abs(np.einsum("ij,ij->i", lattices[:, 0], faces[:, 0]))
    return np.asarray(volumes[:, None] / np.linalg.norm(faces, axis=2))


def reduced_basis(lattice: FloatArray) -> FloatArray:
    """Find three short vectors that span the same lattice, by Minkowski reduction.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape ``(3, 3)``, Å; linearly independent.

    Returns
    -------
    FloatArray
        Lattice vectors as rows, the shortest first, shape ``(3, 3)``, Å. The first is a shortest
        vector of the lattice.
    """
    from ase.geometry import minkowski_reduce  # few structures need it

    reduced: FloatArray = minkowski_reduce(lattice)[0]
    return reduced
