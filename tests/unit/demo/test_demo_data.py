"""The demo's data: crystals of the elements, measured values, compounds."""

import json

import pytest

from moma_cl.datasets.intake import read_task_rows
from moma_cl.demo.data import (
    MEASURED,
    contradictory,
    crystals_of_elements,
    write_compounds,
    write_rows,
)
from moma_cl.properties.units import canonical_unit
from moma_cl.readers.dispatch import read_rows
from moma_cl.records.task_spec import TaskSpec
from moma_cl.structures.checks import check_crystal

ELEMENTS = frozenset(range(1, 95))


@pytest.fixture(scope="module")
def elements():
    return crystals_of_elements(ELEMENTS)


def test_every_known_element_is_built_or_named_as_left_out(elements):
    named = {crystal.symbol for crystal in elements.crystals}
    assert len(named) == len(elements.crystals) > 60
    assert len(named) + len(elements.not_built) + len(elements.other_phase) == len(ELEMENTS)


def test_carbon_is_left_out_because_its_cell_is_diamond_and_its_values_are_graphites(elements):
    assert "C" in elements.other_phase


def test_molybdenum_is_left_out_of_the_moduli_only(elements, tmp_path):
    assert "Mo" in contradictory(elements)
    for measured in MEASURED:
        path = tmp_path / "rows.jsonl"
        write_rows(path, measured, elements)
        assert ("Mo-bcc" in ids(path)) is not measured.modulus


def test_gases_have_a_melting_point_but_no_conductivity_of_the_solid(elements, tmp_path):
    by_task = {measured.task: measured for measured in MEASURED}
    for task, present in (("melting_point", True), ("thermal_conductivity", False)):
        write_rows(tmp_path / task, by_task[task], elements)
        assert ("Ar-fcc" in ids(tmp_path / task)) is present


@pytest.mark.parametrize("measured", MEASURED, ids=lambda measured: measured.task)
def test_every_row_written_is_added(measured, elements, tmp_path):
    path = tmp_path / "rows.jsonl"
    n_rows = write_rows(path, measured, elements)
    canonical_unit(measured.unit)
    intake = read_task_rows(
        [path],
        TaskSpec(target=measured.task, unit="1", transform=measured.transform, fold_column=None),
        elements=ELEMENTS,
        appended=False,
    )
    assert (len(intake.ids), intake.refusals) == (n_rows, ())
    assert n_rows >= 50


def test_compounds_have_the_atoms_of_their_conventional_cells(tmp_path):
    rows = list(read_rows(write_compounds(tmp_path)))
    assert [row.error for row in rows] == [None] * 4
    assert [check_crystal(row.crystal, elements=ELEMENTS) for row in rows] == [None] * 4
    assert {row.id: row.crystal.n_atoms for row in rows} == {
        "Si": 8,
        "GaAs": 8,
        "NaCl": 8,
        "TiO2-rutile": 6,
    }


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]
