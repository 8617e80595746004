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


SALT = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
SALT_4 = SALT.replace("Na Cl\n", "").replace("0 0 0\n.5 .5 .5\n", "0 0 0 Na\n.5 .5 .5 Cl\n")


@pytest.mark.parametrize(
    "text",
    [
        SALT,
        SALT.replace("Na Cl", "Na Cl ! of the cell"),
        SALT.replace("Na Cl\n1 1\n", "Na\nCl\n1\n1\n"),
        SALT.replace("Direct", "S\nDirect").replace(" 0\n.5 .5 .5", " 0 T F T\n.5 .5 .5 T T F"),
        SALT + "\n0 0 0\n1 1 1\n",  # velocities
        SALT_4,
        SALT_4.replace("Direct", "Selective\nDirect")
        .replace("0 Na", "0 T F T Na")
        .replace("5 Cl", "5 F F F Cl"),
    ],
)
def test_elements_of_a_poscar_are_those_of_its_blocks(tmp_path, text):
    row = read(tmp_path, text)
    assert row.error is None
    assert row.crystal.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_array_equal(row.crystal.frac_coords[1], [0.5] * 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SALT.replace("1 1\n", "2\n"), "names 2 elements, but has 1 numbers"),
        (SALT.replace("Na Cl", "Na Cl K"), "names 3 elements, but has 2 numbers"),
        (SALT + "0.2 0.2 0.2\n", "more positions than its 2 atoms"),
        (SALT_4.replace("1 1\n", "2\n"), "several elements together"),
        (SALT_4.replace("Na", "F F F").replace("Cl", "T F T"), "does not name its elements"),
    ],
)
def test_a_poscar_that_contradicts_itself_is_refused(tmp_path, text, message):
    row = read(tmp_path, text)
    assert row.error.code in {"parse-error", "missing-elements"}
    assert message in row.error.message


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
