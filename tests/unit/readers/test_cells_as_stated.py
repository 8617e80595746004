"""Cells and coordinates are what a file says: scaling of POSCAR files, atoms outside of the cell."""

import json

import numpy as np
import pytest

from moma_cl.readers.dispatch import read_rows
from moma_cl.structures.checks import check_crystal

SCALE = 5.43
SILICON = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def poscar(scaling, mode, site, lattice=SILICON):
    """The text of a POSCAR file with two silicon atoms."""
    rows = [" ".join(map(repr, map(float, row))) for row in [*lattice, [0, 0, 0], site]]
    return "\n".join(["Si", scaling, *rows[:3], "Si", "2", mode, *rows[3:]]) + "\n"


def read(tmp_path, text):
    """The only row of a POSCAR file."""
    (tmp_path / "POSCAR").write_text(text)
    (row,) = read_rows([tmp_path / "POSCAR"])
    return row


@pytest.mark.parametrize("mode", ["Direct", "Cartesian"])
@pytest.mark.parametrize("scaling", ["5.43", f"{-(5.43**3) / 4!r}", "5.43 5.43 5.43", "5.43 ! Å"])
def test_a_poscar_is_scaled_by_a_factor_or_a_volume(tmp_path, mode, scaling):
    crystal = read(tmp_path, poscar(scaling, mode, [0.25] * 3)).crystal
    np.testing.assert_allclose(crystal.lattice, SCALE * SILICON, atol=1e-9)
    np.testing.assert_allclose(crystal.frac_coords[1], [0.25] * 3, atol=1e-9)


@pytest.mark.parametrize(("mode", "site"), [("Direct", [0.5] * 3), ("Cartesian", [0.5, 1.5, 0.5])])
def test_three_factors_scale_x_y_and_z(tmp_path, mode, site):
    """They scale the Cartesian components of all vectors, not one vector each."""
    lattice = [[1, 2, 0], [0, 0, 1], [0, 1, 0]]
    crystal = read(tmp_path, poscar("4 5 6", mode, site, lattice)).crystal
    np.testing.assert_allclose(crystal.lattice, [[4, 10, 0], [0, 0, 6], [0, 5, 0]])
    np.testing.assert_allclose(crystal.frac_coords[1], [0.5] * 3)


@pytest.mark.parametrize("scaling", ["1 1", "0", "1 -1 1", "nan", "inf", "", "a", "1 1 1 1"])
def test_other_scalings_are_refused(tmp_path, scaling):
    row = read(tmp_path, poscar(scaling, "Direct", [0.25] * 3))
    assert row.error.code == "parse-error"
    assert "second line" in row.error.message


@pytest.mark.parametrize("cells", [3, 3000, -100_000])
def test_atoms_far_outside_of_the_cell_are_moved_into_it(tmp_path, cells):
    sites = [[0, 0, 0], [0.5 + cells, 0.5, 0.5 - cells]]
    document = {"lattice": (4.2 * np.eye(3)).tolist(), "species": ["Cs", "Cl"]}
    (tmp_path / "a.json").write_text(json.dumps(document | {"frac_coords": sites}))
    (row,) = read_rows([tmp_path / "a.json"])
    np.testing.assert_allclose(row.crystal.frac_coords, [[0] * 3, [0.5] * 3], atol=1e-9)


def test_atoms_near_the_cell_stay_where_they_are(tmp_path):
    sites = [[-0.25, 1.5, 0], [0.5, 0.5, 0.5]]
    document = {"lattice": (4.2 * np.eye(3)).tolist(), "species": ["Cs", "Cl"]}
    (tmp_path / "a.json").write_text(json.dumps(document | {"frac_coords": sites}))
    (row,) = read_rows([tmp_path / "a.json"])
    assert row.crystal.frac_coords.tolist() == sites


def test_coordinates_without_digits_left_are_not_moved(tmp_path):
    """They are refused instead."""
    document = {"lattice": (4.2 * np.eye(3)).tolist(), "species": ["Cs"]}
    (tmp_path / "a.json").write_text(json.dumps(document | {"frac_coords": [[1e7, 0, 0]]}))
    (row,) = read_rows([tmp_path / "a.json"])
    assert check_crystal(row.crystal).code == "coordinates-out-of-range"
