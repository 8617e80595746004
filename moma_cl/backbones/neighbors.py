"""Neighbours of every atom of a periodic structure, by pymatgen's compiled search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.structures.crystals import Crystal

# Sites closer than this are one atom; neighbours this far beyond the cutoff still count, Å.
_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Neighbors:
    """Directed pairs of an atom and a neighbour, grouped by the atom."""

    centers: IntArray  # the atom, ascending, shape (n_pairs,)
    neighbors: IntArray  # the neighbour, shape (n_pairs,)
    images: IntArray  # cell that the neighbour is in, in lattice vectors, shape (n_pairs, 3)
    distances: FloatArray  # distance between the two, shape (n_pairs,), Å

    def __len__(self) -> int:
        return len(self.centers)

    def subset(self, chosen: NDArray[np.bool_] | IntArray) -> Neighbors:
        """Keep pairs by a mask, shape ``(n_pairs,)``, or by indices, shape ``(n_chosen,)``."""
        return Neighbors(
            centers=self.centers[chosen],
            neighbors=self.neighbors[chosen],
            images=self.images[chosen],
            distances=self.distances[chosen],
        )


def find_neighbors(crystal: Crystal, cutoff: float) -> Neighbors:
    """Find all pairs of atoms within the cutoff, Å, of each other, periodic images included.

    Both directions of every pair are there. An atom without neighbours is in no pair.
    """
    # imported here, so that training on prepared graphs does not need pymatgen
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions = np.ascontiguousarray(crystal.frac_coords @ crystal.lattice)
    centers, neighbors, images, distances = find_points_in_spheres(
        positions,
        positions,
        r=float(cutoff),
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(crystal.lattice, dtype=np.float64),
        tol=_TOLERANCE,
    )
    pairs = Neighbors(
        centers=centers,
        neighbors=neighbors,
        images=images.astype(np.int64),
        distances=distances,
    )
    # an atom is not its own neighbour, but its periodic images are
    return pairs.subset((centers != neighbors) | (distances > _TOLERANCE))


def joined(parts: Sequence[Neighbors], n_atoms: IntArray) -> Neighbors:
    """Put the pairs of structures end to end, for ``n_atoms``, shape ``(n_structures,)``, atoms.

    Atoms are numbered on from one structure to the next.
    """
    starts = np.repeat(np.cumsum(n_atoms) - n_atoms, [len(part) for part in parts])
    return Neighbors(
        centers=np.concatenate([part.centers for part in parts]) + starts,
        neighbors=np.concatenate([part.neighbors for part in parts]) + starts,
        images=np.concatenate([part.images for part in parts]),
        distances=np.concatenate([part.distances for part in parts]),
    )


def pair_directions(pairs: Neighbors) -> tuple[Neighbors, IntArray, IntArray]:
    """Match every pair with its reverse, so that both directions share one bond.

    A pair whose reverse is missing lies on the cutoff, where rounding puts one direction inside
    and the other outside. It is dropped, since messages vanish at the cutoff. What comes back are
    the pairs that are left, the bond of each, shape ``(n_pairs,)``, and the first pair of each
    bond, shape ``(n_bonds,)``.
    """
    keys = _bond_keys(pairs)
    _, first, bonds, counts = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    if (counts == 2).all():
        return pairs, bonds, first
    pairs = pairs.subset(counts[bonds] == 2)
    _, first, bonds = np.unique(_bond_keys(pairs), return_index=True, return_inverse=True)
    return pairs, bonds, first


def _bond_keys(pairs: Neighbors) -> IntArray:
    """Give both directions of a bond one integer, and different bonds different ones."""
    if len(pairs) == 0:
        return np.zeros(0, dtype=np.int64)
    span = 2 * int(np.abs(pairs.images).max()) + 1
    image = pairs.images @ np.array([span * span, span, 1])
    # an atom bonded to its own image: the sign of the image tells the directions apart
    reverse = (pairs.centers > pairs.neighbors) | ((pairs.centers == pairs.neighbors) & (image < 0))
    low = np.minimum(pairs.centers, pairs.neighbors)
    high = np.maximum(pairs.centers, pairs.neighbors)
    n_atoms = int(high.max()) + 1
    oriented = np.where(reverse, -image, image) + span**3 // 2
    keys: IntArray = (low * n_atoms + high) * span**3 + oriented
    return keys
