"""Targets that grow with the cell are refused, or learned per atom."""

import numpy as np
import pytest

from moma_cl.datasets.cell_growth import GROWS, least_exponent
from moma_cl.errors import InvalidInputError
from moma_cl.hub import Hub
from tests.helpers.hubs import record

GROWING = "invalid-input.grows-with-cell"


def repeated(structure, times):
    """The same crystal in a cell that is so many times as long."""
    coords = np.array(structure["frac_coords"])
    lattice = np.array(structure["lattice"], dtype=float)
    lattice[0] *= times
    copies = [(coords + np.array([copy, 0, 0])) / [times, 1, 1] for copy in range(times)]
    return {
        "lattice": lattice.tolist(),
        "species": structure["species"] * times,
        "frac_coords": np.vstack(copies).tolist(),
    }


@pytest.fixture
def totals(made_up):
    """Rows in cells of one to four times the size, with their total energies."""
    return [
        {
            "id": row["id"],
            "structure": repeated(row["structure"], 1 + index % 4),
            "total": row["energy"] * len(row["structure"]["species"]) * (1 + index % 4),
            "each": row["energy"],
        }
        for index, row in enumerate(made_up(40))
    ]


@pytest.mark.parametrize("unit", ["eV", "J/(mol K)", "1", "eV/K"])
def test_targets_that_grow_are_refused_whatever_they_are_called(add_task, totals, unit):
    with pytest.raises(InvalidInputError, match=r"--per-atom.*--intensive") as refused:
        add_task("task", totals, target="total", property="mine", unit=unit, dry_run=True)
    assert refused.value.code == GROWING


@pytest.mark.parametrize(
    ("name", "unit", "refused"),
    [
        ("total_energy", "eV", True),
        ("REF_energy", "Ha", True),
        ("formation_energy", "eV", True),
        ("volume", "Å^3", True),
        ("total_magnetization", "uB", True),
        ("formation_energy", "eV/atom", False),
        ("energy", "eV/f.u.", False),
        ("band_gap", "eV", False),
        ("vacancy_formation_energy", "eV", False),
        ("magnetization", "uB/atom", False),
    ],
)
def test_names_of_sums_over_a_cell_are_refused_where_cells_are_of_one_size(
    add_task, made_up, name, unit, refused
):
    def add():
        return add_task(
            "task", made_up(30), target="energy", property=name, unit=unit, dry_run=True
        )

    if refused:
        with pytest.raises(InvalidInputError) as error:
            add()
        assert error.value.code == GROWING
    else:
        assert add().added == 30


def test_what_does_not_grow_is_added_in_cells_of_any_size(add_task, totals):
    assert add_task("task", totals, target="each", unit="eV", dry_run=True).added == 40
    stated = add_task("task", totals, target="total", unit="eV", intensive=True, dry_run=True)
    assert stated.added == 40


def test_totals_per_atom_give_a_cell_and_its_double_one_answer_per_atom(
    hub, add_task, add_data, totals, made_up, write_rows
):
    add_task("task", totals, target="total", unit="eV", per_atom=True, module="none", compose=False)
    assert record(hub, "tasks/task")["unit"] == "eV/atom"
    crystals = [
        {"id": str(times), "structure": repeated(made_up(1)[0]["structure"], times)}
        for times in (1, 2)
    ]
    cell, double = Hub(hub).predict("task", write_rows(crystals))
    assert (cell.unit, cell.per_atom) == ("eV/atom", True)
    assert double.value == pytest.approx(cell.value, rel=1e-4)
    assert cell.value == pytest.approx(totals[0]["each"], abs=0.1)

    # what is added later is divided, too, unless it names a unit per atom
    row = {"id": "new", "structure": repeated(made_up(1, first=50)[0]["structure"], 3)}
    n_atoms = len(row["structure"]["species"])
    add_data("task", [{**row, "total": -2.0 * n_atoms}], compose=False)
    same = {"meV": -2000.0 * n_atoms, "eV/atom": -2.0, "meV/atom": -2000.0}
    for unit, value in same.items():
        again = add_data("task", [{**row, "total": value}], unit=unit, compose=False)
        assert (again.repeated, again.refusals) == (1, ())
    with pytest.raises(InvalidInputError):
        add_data("task", [{**row, "total": 1.0}], unit="GPa", compose=False)


def test_the_exponent_is_that_of_the_number_of_atoms():
    generator = np.random.default_rng(0)
    n_atoms = generator.integers(1, 40, size=120)
    each = generator.normal(size=120)
    assert least_exponent(each * n_atoms, n_atoms) > GROWS
    assert least_exponent(each, n_atoms) < GROWS
    assert least_exponent(-5.0 * n_atoms, n_atoms) == pytest.approx(1.0)
    assert least_exponent(each[:9] * n_atoms[:9], n_atoms[:9]) is None
    assert least_exponent(each, np.full(120, 8)) is None
    assert least_exponent(np.zeros(120), n_atoms) is None
