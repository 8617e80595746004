"""Telling slabs, layers and molecules from bulk crystals."""

import numpy as np
import pytest

from moma_cl.structures.crystals import PackedCrystals
from moma_cl.structures.vacuum import LEAST_VACUUM, with_vacuum
from moma_cl.testing.crystals import crystal_of, example_crystals, supercell


def crystal(lattice, coords):
    return crystal_of(lattice, [29] * len(coords), coords)


def has_vacuum(*structures):
    return with_vacuum(PackedCrystals.pack(structures)).tolist()


SLAB = crystal(np.diag([3.0, 3.0, 20.0]), [[0, 0, 0.95], [0.5, 0.5, 0.05]])


def test_slabs_chains_and_molecules_have_vacuum_and_bulk_crystals_have_none():
    chain = crystal(np.diag([20.0, 20.0, 3.0]), [[0, 0, 0]])
    molecule = crystal(20 * np.eye(3), [[0.1, 0, 0], [0.2, 0, 0]])
    bulk = list(example_crystals().values())
    assert has_vacuum(SLAB, *bulk, chain, molecule) == [True, *[False] * len(bulk), True, True]


def test_van_der_waals_gaps_of_a_bulk_crystal_are_no_vacuum():
    graphite = crystal(
        [[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 3.35]], [[0, 0, 0], [1 / 3, 2 / 3, 0]]
    )
    assert has_vacuum(graphite) == [False]


@pytest.mark.parametrize("off", [-0.1, 0.1])
def test_the_gap_is_measured_between_planes_of_atoms(off):
    height = LEAST_VACUUM + 2.0 + off
    assert has_vacuum(
        crystal(np.diag([3.0, 3.0, height]), [[0, 0, 0], [0.5, 0.5, 2.0 / height]])
    ) == [off > 0]


def test_where_the_cell_begins_and_how_many_it_holds_does_not_matter():
    moved = crystal(SLAB.lattice, SLAB.frac_coords + np.array([0.3, 7.2, -0.4]))
    along = np.array([[0, 0, 0], [3, 0, 0], [6, -3, 0]])
    skewed = crystal(SLAB.lattice + along, SLAB.frac_coords)
    assert has_vacuum(moved, skewed, supercell(SLAB, (2, 1, 3))) == [True] * 3
