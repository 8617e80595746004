import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st

from moma_cl.backbones.symmetry import TOLERANCE, symmetrise, unsymmetric
from moma_cl.testing.crystals import crystal_of, example_crystals, rotation, supercell
from tests.helpers.symmetric_crystals import molybdenum_disulfide, quartz, symmetric_crystals


def misfit(symmetric):
    """How far images are from their atoms, Å, given the shift that fits best."""
    coords, worst = symmetric.frac_coords, 0.0
    for matrix, images in zip(symmetric.rotations, symmetric.images, strict=True):
        off = coords[images] - coords @ matrix.T
        off -= off[0]
        off -= np.rint(off)
        worst = max(worst, np.abs((off - off.mean(axis=0)) @ symmetric.lattice).max())
    return worst


def lattice_misfit(symmetric):
    metric = symmetric.lattice @ symmetric.lattice.T
    turned = np.swapaxes(symmetric.rotations, 1, 2) @ metric @ symmetric.rotations
    return np.abs(turned - metric).max() / np.abs(metric).max()


@pytest.mark.parametrize(
    ("name", "n_operations", "n_cells"),
    [("rock salt", 48, 4), ("diamond", 48, 1), ("perovskite", 48, 1), ("low symmetry", 1, 1)],
)
def test_operations_of_well_known_crystals(name, n_operations, n_cells):
    found = symmetrise(example_crystals()[name])
    assert len(found.rotations) == n_operations
    assert found.n_cells == n_cells
    assert len(found.proper.rotations) == max(1, n_operations // 2)
    assert np.all(np.linalg.det(found.proper.rotations) > 0)


@given(symmetric_crystals())
@settings(max_examples=60, deadline=None)
def test_the_result_is_exactly_symmetric_and_close_to_the_crystal(crystal):
    found = symmetrise(crystal)
    assert misfit(found) < 1e-10
    assert lattice_misfit(found) < 1e-12
    assert found.n_cells * len(found.atomic_numbers) == crystal.n_atoms
    volume = abs(np.linalg.det(crystal.lattice))
    assert abs(np.linalg.det(found.lattice)) * found.n_cells == pytest.approx(volume, rel=1e-3)


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")
@given(symmetric_crystals())
@settings(max_examples=60, deadline=None)
def test_no_operation_is_missed(crystal):
    cell = (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)
    expected = spglib.get_symmetry(cell, symprec=TOLERANCE / 4)
    if expected is None:
        return
    found = symmetrise(crystal)
    assert len(found.rotations) * found.n_cells >= len(expected["rotations"])


def test_quartz_has_a_hand():
    found = symmetrise(quartz())
    assert len(found.rotations) == len(found.proper.rotations) == 6


def test_rounded_data_get_back_their_symmetry():
    exact, rounded = molybdenum_disulfide(), molybdenum_disulfide(decimals=5)
    assert len(symmetrise(rounded).rotations) == len(symmetrise(exact).rotations) == 12
    assert misfit(symmetrise(rounded)) < 1e-10


@pytest.mark.parametrize(("noise", "n_operations"), [(1e-6, 48), (1e-2, 1)])
def test_noise_below_the_tolerance_is_forgiven_and_above_it_is_not(noise, n_operations):
    crystal = example_crystals()["perovskite"]
    moves = np.random.default_rng(0).normal(scale=noise, size=(5, 3))
    shaken = crystal_of(
        crystal.lattice, crystal.atomic_numbers, crystal.frac_coords + moves / 3.905
    )
    assert len(symmetrise(shaken).rotations) == n_operations


def test_a_repeated_cell_is_the_primitive_one():
    crystal = example_crystals()["low symmetry"]
    found = symmetrise(supercell(crystal, (2, 1, 3)))
    assert found.n_cells == 6
    assert len(found.atomic_numbers) == crystal.n_atoms


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_turned_crystal_has_the_same_operations(seed):
    crystal = example_crystals()["diamond"]
    turned = crystal_of(
        crystal.lattice @ rotation(seed).T, crystal.atomic_numbers, crystal.frac_coords
    )
    assert len(symmetrise(turned).rotations) == 48


def test_a_crystal_without_symmetry_stays_as_it_is():
    crystal = example_crystals()["low symmetry"]
    found = unsymmetric(crystal)
    assert found.rotations.tolist() == [np.eye(3, dtype=int).tolist()]
    metric = found.lattice @ found.lattice.T
    volume = abs(np.linalg.det(crystal.lattice))
    assert np.sqrt(np.linalg.det(metric)) == pytest.approx(volume)
