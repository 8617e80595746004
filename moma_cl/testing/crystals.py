"""Small crystals of different bonding and symmetry, for tests of backbones."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.structures.crystals import Crystal


def example_crystals() -> dict[str, Crystal]:
    """Make a conventional cell of rock salt, diamond, a perovskite and a triclinic cell by name."""
    face_centers = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    primitive = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    oxygens = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    triclinic = np.array([[4.1, 0.2, -0.3], [0.7, 5.0, 0.4], [-0.5, 0.9, 6.2]])
    sites = [[0.02, 0.05, 0.11], [0.55, 0.43, 0.31], [0.13, 0.61, 0.72], [0.68, 0.09, 0.83]]
    return {
        "rock salt": crystal_of(
            5.64 * np.eye(3), [11] * 4 + [17] * 4, np.vstack([face_centers, face_centers + 0.5])
        ),
        "diamond": crystal_of(5.43 * primitive, [14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        "perovskite": crystal_of(
            3.905 * np.eye(3), [38, 22, 8, 8, 8], [[0, 0, 0], [0.5, 0.5, 0.5], *oxygens]
        ),
        "low symmetry": crystal_of(triclinic, [3, 15, 16, 8], sites),
    }


def isolated_atom() -> Crystal:
    """Make a structure without edges: one argon atom in a cell of 30 Å."""
    return crystal_of(30.0 * np.eye(3), [18], [[0.1, 0.2, 0.3]])


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Repeat a cell along each lattice vector: the same structure in a larger cell."""
    counts = np.array(repeats)
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1)
    images = crystal.frac_coords[:, None] + shifts.reshape(-1, 3)
    return Crystal(
        lattice=crystal.lattice * counts[:, None],
        atomic_numbers=np.repeat(crystal.atomic_numbers, int(counts.prod())),
        frac_coords=images.reshape(-1, 3) / counts,
    )


def rotation(seed: int) -> FloatArray:
    """Draw a rotation: an orthogonal matrix of determinant 1, shape ``(3, 3)``."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    proper: FloatArray = matrix * np.sign(np.linalg.det(matrix))
    return proper


def crystal_of(lattice: object, atomic_numbers: object, frac_coords: object) -> Crystal:
    """Make a crystal of anything that numpy makes arrays of."""
    return Crystal(
        lattice=np.array(lattice, dtype=np.float64),
        atomic_numbers=np.array(atomic_numbers, dtype=np.int64),
        frac_coords=np.array(frac_coords, dtype=np.float64).reshape(-1, 3),
    )


def is_apart(site: FloatArray, sites: object, lattice: FloatArray, distance: float) -> bool:
    """Say whether a fractional site is farther than a distance (Å) from all images of others."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    separations = (site - np.array(sites).reshape(-1, 3))[:, None] + images
    return bool(np.linalg.norm(separations @ lattice, axis=-1).min(initial=np.inf) > distance)
