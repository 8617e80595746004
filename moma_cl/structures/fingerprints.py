"""Recognising a structure again, whatever cell, setting or order of atoms it is written in."""

from __future__ import annotations

from hashlib import blake2b
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS
from moma_cl.structures.formulas import reduced_counts

_CUTOFF = 6.0  # Å
_REFERENCE = 2.5  # Å, a bond of ordinary length
_GEOMETRY_BITS = 32
_FEATURE_BITS = 8
# Relative widths of the bins. The volume differs most between polymorphs; the others are means
# over many neighbours and vary less, by noise too.
_STEPS = np.array([0.01, 0.005, 0.005, 0.005])

# A number for each element, spread evenly over 0.5 to 1.5 by the golden ratio, so that structures
# which differ only in the sites of their elements differ in a feature.
_ELEMENT_WEIGHTS = 0.5 + (np.arange(len(SYMBOLS)) * 0.6180339887498949) % 1.0
_PERIODIC = np.ones(3, dtype=np.int64)


def reduced_formula(atomic_numbers: ArrayLike) -> str:
    """Write a composition, atomic numbers of shape ``(n_atoms,)``, as a key.

    It is the same for every cell of a crystal: symbols by atomic number, each with its count
    divided by the greatest common divisor, such as ``O2Ti1``; no formula that chemists write.
    """
    counts = reduced_counts(atomic_numbers)
    return "".join(f"{SYMBOLS[number]}{counts[number]}" for number in sorted(counts))


def fingerprint(crystal: Crystal) -> int:
    """Fingerprint of a structure: 32 bits of its formula, and four features of eight bits.

    The features are logarithms of intensive quantities: the volume per atom, and three means over
    atoms of sums over neighbours that fall smoothly to zero at 6 Å. So they do not depend on the
    order of the atoms, on the origin, on rotation or reflection, or on the choice of the cell.

    Each is rounded down to a multiple of 0.5 to 1 %, modulo 256 steps. Noise can therefore always
    move a feature over a boundary: displacements of 0.0001 Å do so in about two structures of a
    hundred. `known_in` allows for it; plain equality of fingerprints does not. On the other hand,
    polymorphs that differ by less than a step in all four features share a fingerprint, as most
    enantiomers and many stacking variants do. Two formulas share their 32 bits with a probability
    of 2e-10, and then their geometries would have to agree as well.

    The structure is one that `check_crystal` accepts.
    """
    formula = reduced_formula(crystal.atomic_numbers).encode()
    bits = int.from_bytes(blake2b(formula, digest_size=4).digest(), "big")
    for step in np.floor(_features(crystal) / _STEPS).astype(np.int64).tolist():
        bits = bits << _FEATURE_BITS | step % (1 << _FEATURE_BITS)
    return bits


def known_in(fingerprints: NDArray[np.uint64], reference: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Find structures that occur in a reference, tolerating noise.

    Parameters
    ----------
    fingerprints
        Fingerprints to look for, shape ``(n,)``.
    reference
        Fingerprints to look among, shape ``(n_reference,)``.

    Returns
    -------
    NDArray[np.bool_]
        True where the reference holds the same formula with every feature at most one step away,
        shape ``(n,)``.
    """
    shift = np.uint64(_GEOMETRY_BITS)
    occurs = np.isin(fingerprints, reference)
    same_formula = np.isin(fingerprints >> shift, np.unique(reference >> shift))
    candidates = np.flatnonzero(~occurs & same_formula)
    if len(candidates):
        nearby = _nearby(fingerprints[candidates])
        occurs[candidates] = np.isin(nearby, reference).any(axis=1)
    return occurs


def steps_apart(one: int, others: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the steps between the features of a fingerprint and of others of the same formula.

    `others` has shape ``(n,)``, the result ``(n, 4)``. At most one in each feature may be noise.
    """
    places = _FEATURE_BITS * np.arange(len(_STEPS), dtype=np.uint64)
    mask = np.uint64((1 << _FEATURE_BITS) - 1)
    ours, theirs = (
        ((np.atleast_1d(prints)[:, None] >> places) & mask).astype(np.int64)
        for prints in (np.uint64(one), others)
    )
    steps = np.abs(ours - theirs)
    return np.asarray(np.minimum(steps, (1 << _FEATURE_BITS) - steps))


def _nearby(fingerprints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """All fingerprints at most one step away in every feature, shape ``(n, 81)``."""
    places = _FEATURE_BITS * np.arange(len(_STEPS), dtype=np.uint64)
    mask = np.uint64((1 << _FEATURE_BITS) - 1)
    features = (fingerprints[:, None] >> places) & mask
    # Unsigned numbers wrap round, so that 2⁶⁴ - 1 is a step down.
    steps = np.array(list(product((-1, 0, 1), repeat=len(_STEPS)))).astype(np.uint64)
    moved = (features[:, None, :] + steps) & mask
    formula = fingerprints >> np.uint64(_GEOMETRY_BITS) << np.uint64(_GEOMETRY_BITS)
    nearby: NDArray[np.uint64] = (moved << places).sum(axis=2, dtype=np.uint64)
    return nearby | formula[:, None]


def _features(crystal: Crystal) -> FloatArray:
    """Logarithms of four intensive quantities, shape ``(4,)``."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cartesian = np.ascontiguousarray(crystal.frac_coords @ crystal.lattice)
    centres, neighbours, _, distances = find_points_in_spheres(
        cartesian,
        cartesian,
        r=_CUTOFF,
        pbc=_PERIODIC,
        lattice=np.ascontiguousarray(crystal.lattice),
        tol=1e-8,
    )
    others = distances > 1e-8  # an atom is found at its own place, too
    centres, neighbours, distances = centres[others], neighbours[others], distances[others]
    n_atoms = crystal.n_atoms
    weights = _ELEMENT_WEIGHTS[crystal.atomic_numbers]
    envelope = (1 - (distances / _CUTOFF) ** 2) ** 2
    cubes = (_REFERENCE / distances) ** 3
    short_range = envelope * cubes * cubes
    by_element = envelope * cubes * weights[centres] * weights[neighbours]
    by_atom = np.bincount(centres, weights=short_range, minlength=n_atoms)
    return np.array(
        [
            np.log(crystal.volume / n_atoms),
            np.log1p(short_range.sum() / n_atoms),
            np.log1p(by_element.sum() / n_atoms),
            np.log1p((by_atom @ by_atom) / n_atoms) / 2,  # how unequal the sites are
        ]
    )
