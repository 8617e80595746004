"""Crystals with symmetry, exact, rounded, nearly there or broken, and crystals that have a hand."""

import hypothesis.strategies as st
import numpy as np

from moma_cl.structures.crystals import Crystal
from moma_cl.testing.crystals import crystal_of, supercell

PREFIXES = (
    np.eye(3),
    np.diag([1.0, 1.0, 1.4]),
    np.diag([1.0, 1.3, 1.7]),
    np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 1.6]]),
    np.array([[0, 0.7, 0.7], [0.7, 0, 0.7], [0.7, 0.7, 0]]),
    np.array([[1, 0.1, 0], [0, 1.2, 0.3], [0.2, 0, 1.1]]),
)
SPECIAL = (0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75)


@st.composite
def symmetric_crystals(draw):
    """Special positions in special cells, some shaken by less or more than the tolerance."""
    lattice = draw(st.sampled_from(PREFIXES)) * draw(st.floats(3.5, 6.0))
    sites = draw(st.lists(st.tuples(*[st.sampled_from(SPECIAL)] * 3), min_size=1, max_size=6))
    positions = np.array(sorted(set(sites)))
    numbers = draw(
        st.lists(st.sampled_from([3, 8, 26]), min_size=len(positions), max_size=len(positions))
    )
    shaken = draw(st.sampled_from([0.0, 0.0, 1e-7, 1e-5, 1e-3]))
    noise = np.random.default_rng(len(numbers)).normal(scale=shaken, size=positions.shape)
    repeats = draw(st.sampled_from([(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1)]))
    return supercell(crystal_of(lattice, numbers, positions + noise), repeats)


def molybdenum_disulfide(decimals: int | None = None) -> Crystal:
    """One layer of it, 12 operations; coordinates may be rounded as data of 2D materials are."""
    lattice = np.array([[3.18, 0, 0], [-1.59, 3.18 * 0.75**0.5, 0], [0, 0, 20.0]])
    coords = np.array([[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5781], [2 / 3, 1 / 3, 0.4219]])
    if decimals is not None:
        lattice, coords = lattice.round(decimals), coords.round(decimals)
    return crystal_of(lattice, [42, 16, 16], coords)


def quartz() -> Crystal:
    """Alpha quartz, space group P3(2)21: three proper rotations by 120°, and no mirror."""
    a, c, u = 4.913, 5.405, 0.4697
    x, y, z = 0.4135, 0.2669, 0.1191
    lattice = [[a, 0, 0], [-a / 2, a * 0.75**0.5, 0], [0, 0, c]]
    silicon = [[u, 0, 2 / 3], [0, u, 1 / 3], [-u, -u, 0]]
    oxygen = [
        [x, y, z + 2 / 3],
        [-y, x - y, z + 1 / 3],
        [y - x, -x, z],
        [y, x, -z + 1 / 3],
        [-x, y - x, -z],
        [x - y, -y, -z + 2 / 3],
    ]
    return crystal_of(lattice, [14] * 3 + [8] * 6, silicon + oxygen)


def mirror_image(crystal: Crystal) -> Crystal:
    """The same crystal seen in a mirror."""
    return crystal_of(crystal.lattice * [1, 1, -1], crystal.atomic_numbers, crystal.frac_coords)


def racemate(crystal: Crystal) -> Crystal:
    """A crystal and its inverse far apart in one cell, so that an inversion swaps the two."""
    lattice = crystal.lattice * [[1], [1], [3]]
    coords = crystal.frac_coords % 1.0 / [1, 1, 3]
    both = np.vstack([coords, -coords])
    return crystal_of(lattice, [*crystal.atomic_numbers] * 2, both)
