"""Molecules: atoms without a cell, which are answered in a box with vacuum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.structures.crystals import Crystal
from moma_store.errors import InvalidInputError

VACUUM = 15.0
"""Empty space between a molecule and its images, Å; more than any backbone's cutoff."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Molecule:
    """Atoms without a cell, or with one that lacks a vector: a molecule, chain or layer.

    Attributes
    ----------
    atomic_numbers
        Atomic number of each atom, shape ``(n_atoms,)``.
    positions
        Cartesian positions, shape ``(n_atoms, 3)``, Å.
    cell
        Lattice vectors as rows, zero where there is none, shape ``(3, 3)``, Å.
    """

    atomic_numbers: IntArray
    positions: FloatArray
    cell: FloatArray


def structure_of(
    atomic_numbers: IntArray,
    positions: FloatArray,
    cell: FloatArray,
    periodic: ArrayLike | None = None,
) -> Crystal | Molecule:
    """Tell a crystal, which has three lattice vectors, from a molecule, chain or layer.

    Parameters
    ----------
    atomic_numbers
        Atomic number of each atom, shape ``(n_atoms,)``.
    positions
        Cartesian positions, shape ``(n_atoms, 3)``, Å.
    cell
        Lattice vectors as rows, zero where there is none, shape ``(3, 3)``, Å.
    periodic
        Whether the structure is periodic along each vector, shape ``(3,)``; a vector along which
        it is not counts as none. By default it is periodic along all.

    Returns
    -------
    Crystal | Molecule
        A crystal if there are three vectors; they must not lie in a plane.
    """
    if periodic is not None:
        cell = np.where(np.asarray(periodic)[:, None], cell, 0.0)
    if not cell.any(axis=1).all():
        return Molecule(atomic_numbers=atomic_numbers, positions=positions, cell=cell)
    return Crystal(
        lattice=cell, atomic_numbers=atomic_numbers, frac_coords=fractional(positions, cell)
    )


def boxed(molecule: Molecule) -> Crystal:
    """Give a molecule the lattice vectors it lacks, at right angles and with `VACUUM`.

    A molecule without atoms, with numbers that are not finite, or with parallel vectors is refused.
    """
    positions, cell = molecule.positions, molecule.cell.copy()
    if len(positions) == 0:
        raise InvalidInputError("the molecule has no atoms", code="invalid-input.no-atoms")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise InvalidInputError("a position is not finite", code="invalid-input.not-finite")
    lacking = ~cell.any(axis=1)
    # The last directions of a singular value decomposition are at right angles to all vectors.
    directions = np.linalg.svd(cell[~lacking])[2][3 - lacking.sum() :] if cell.any() else np.eye(3)
    along = positions @ directions.T
    low, high = along.min(axis=0), along.max(axis=0)
    cell[lacking] = directions * (high - low + VACUUM)[:, None]
    centred = positions + (VACUUM / 2 - low) @ directions
    return Crystal(
        lattice=cell,
        atomic_numbers=molecule.atomic_numbers,
        frac_coords=fractional(centred, cell),
    )


def fractional(positions: FloatArray, lattice: FloatArray) -> FloatArray:
    """Express Cartesian positions (Å), shape ``(n_atoms, 3)``, in lattice vectors (rows, Å)."""
    try:
        return np.linalg.solve(lattice.T, positions.T).T.astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise InvalidInputError(
            "the lattice vectors lie in a plane", code="invalid-input.zero-volume"
        ) from error
