"""Crystals as plain arrays: one structure, or many packed end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray

MAX_FRACTIONAL = 1e6
"""Fractional coordinates beyond this have lost too many digits to be wrapped into the cell."""

_STACKED = 256  # which bounds the memory
_NEAR = 2.0  # coordinates up to here stay as given, lattice vectors


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Crystal:
    """One fully ordered periodic structure.

    Attributes
    ----------
    lattice
        Lattice vectors as rows, shape ``(3, 3)``, Å.
    atomic_numbers
        Atomic number of each site, shape ``(n_atoms,)``.
    frac_coords
        Fractional coordinates, shape ``(n_atoms, 3)``, in units of the lattice vectors.
    """

    lattice: FloatArray
    atomic_numbers: IntArray
    frac_coords: FloatArray

    @property
    def n_atoms(self) -> int:
        """Number of sites in the cell."""
        return len(self.atomic_numbers)

    @property
    def volume(self) -> float:
        """Cell volume, Å³."""
        return float(abs(np.linalg.det(self.lattice)))


def wrapped(crystal: Crystal) -> Crystal:
    """Move atoms that are far outside of the cell, as in unwrapped trajectories, into it.

    The search for neighbours takes the longer the farther atoms are from each other, and graphs
    round coordinates to float32. Atoms near the cell stay where they are.
    """
    reach = np.abs(crystal.frac_coords).max(axis=1, initial=0.0)
    far = (reach > _NEAR) & (reach <= MAX_FRACTIONAL)  # those beyond are refused later
    if not far.any():
        return crystal
    inside = crystal.frac_coords.copy()
    inside[far] -= np.floor(inside[far])
    return Crystal(
        lattice=crystal.lattice, atomic_numbers=crystal.atomic_numbers, frac_coords=inside
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PackedCrystals:
    """Many crystals in four arrays, the form in which segments store them.

    Attributes
    ----------
    lattices
        Lattice vectors as rows, shape ``(n_structures, 3, 3)``, Å.
    atomic_numbers
        Atomic numbers of all sites, shape ``(n_atoms_total,)``.
    frac_coords
        Fractional coordinates of all sites, shape ``(n_atoms_total, 3)``.
    offsets
        Structure ``i`` owns sites ``offsets[i]:offsets[i + 1]``, shape ``(n_structures + 1,)``.
    """

    lattices: FloatArray
    atomic_numbers: IntArray
    frac_coords: FloatArray
    offsets: IntArray

    @classmethod
    def pack(cls, crystals: Iterable[Crystal]) -> PackedCrystals:
        """Pack crystals in their order."""
        listed = list(crystals)
        counts = [crystal.n_atoms for crystal in listed]
        return cls(
            lattices=np.array([c.lattice for c in listed], dtype=np.float64).reshape(-1, 3, 3),
            atomic_numbers=np.concatenate(
                [np.zeros(0, np.int64), *(c.atomic_numbers for c in listed)]
            ).astype(np.int64),
            frac_coords=np.concatenate([np.zeros((0, 3)), *(c.frac_coords for c in listed)]).astype(
                np.float64
            ),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> PackedCrystals:
        """Take the four arrays out of a blob that holds them under their attribute names."""
        return cls(
            lattices=arrays["lattices"].astype(np.float64, copy=False),
            atomic_numbers=arrays["atomic_numbers"].astype(np.int64),
            frac_coords=arrays["frac_coords"].astype(np.float64, copy=False),
            offsets=arrays["offsets"].astype(np.int64, copy=False),
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the four arrays as they are stored, atomic numbers in one byte each."""
        return {
            "lattices": self.lattices,
            "atomic_numbers": self.atomic_numbers.astype(np.uint8),
            "frac_coords": self.frac_coords,
            "offsets": self.offsets,
        }

    def __len__(self) -> int:
        return len(self.lattices)

    def __getitem__(self, index: int) -> Crystal:
        start, stop = self.offsets[index], self.offsets[index + 1]
        return Crystal(
            lattice=self.lattices[index],
            atomic_numbers=self.atomic_numbers[start:stop],
            frac_coords=self.frac_coords[start:stop],
        )

    def __iter__(self) -> Iterator[Crystal]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SameSize:
    """Crystals with equally many sites, stacked so that all are looked at in one go.

    Attributes
    ----------
    places
        Where each of them stood, shape ``(n_structures,)``.
    lattices
        Lattice vectors as rows, shape ``(n_structures, 3, 3)``, Å.
    atomic_numbers
        Shape ``(n_structures, n_atoms)``.
    frac_coords
        Fractional coordinates, shape ``(n_structures, n_atoms, 3)``.
    """

    places: IntArray
    lattices: FloatArray
    atomic_numbers: IntArray
    frac_coords: FloatArray


def by_size(crystals: PackedCrystals) -> Iterator[SameSize]:
    """Stack crystals with others of their size, the smallest first.

    A stack holds some hundreds at most; every structure is in one.
    """
    sizes = np.diff(crystals.offsets)
    order = np.argsort(sizes, kind="stable")
    for alike in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        for start in range(0, len(alike), _STACKED):
            places = alike[start : start + _STACKED]
            sites = crystals.offsets[places][:, None] + np.arange(sizes[places[0]])
            yield SameSize(
                places=places,
                lattices=crystals.lattices[places],
                atomic_numbers=crystals.atomic_numbers[sites],
                frac_coords=crystals.frac_coords[sites],
            )
