"""Targets in the unit of the row, the header or the command, and what a property cannot be."""

import numpy as np
import pytest

from moma_cl.datasets.intake import read_task_rows
from moma_cl.datasets.target_column import TargetColumn, split_header
from moma_cl.properties.table import unit_of_task
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import canonical_unit, convert
from moma_cl.records.task_spec import TaskSpec
from moma_store.errors import InvalidInputError
from tests.helpers.rows import write_rows


def column(name="k", *, unit="1", default_unit=None, measured="k", transform=Transform.NONE):
    spec = TaskSpec(target=name, unit=unit, property=measured, transform=transform)
    return TargetColumn(spec=spec, unit=default_unit)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bulk_modulus", ("bulk_modulus", None)),
        ("bulk_modulus [GPa]", ("bulk_modulus", "GPa")),
        ("bulk modulus(GPa)", ("bulk modulus", "GPa")),
        ("kappa [W/(m K)]", ("kappa", "W/(m K)")),
        ("kappa (W/(m K))", ("kappa", "W/(m K)")),
        ("[GPa]", ("[GPa]", None)),
        ("peak [cm-1]", ("peak", "cm-1")),
        ("peak (DFT)", ("peak (DFT)", None)),
        ("peak [GGA+U]", ("peak [GGA+U]", None)),
        ("modulus (kbarr)", ("modulus", "kbarr")),  # misspelt: the unit is refused
        ("", ("", None)),
    ],
)
def test_units_are_taken_off_headers(header, expected):
    assert split_header(header) == expected


def test_the_nearest_unit_counts():
    target = column(unit="GPa", default_unit="TPa")
    assert target.read({"k": 2}) == 2000
    assert target.read({"k [MPa]": 2}) == 0.002
    assert target.read({"k [MPa]": 2, "unit": "kbar"}) == pytest.approx(0.2)
    assert target.read({"k": 2, "k_unit": "Pa", "unit": "kbar"}) == pytest.approx(2e-9)
    assert target.read({"k": 2, "unit": None}) == 2000
    assert column(unit="GPa").read({"k": 2}) == 2
    assert column("k [MPa]", unit="GPa").read({"k [MPa]": 2}) == 0.002


def test_brackets_that_hold_no_unit_belong_to_the_name():
    target = column("k (DFT)", unit="GPa")
    assert target.read({"k (DFT)": 2, "k (HSE)": 3}) == 2
    with pytest.raises(InvalidInputError) as caught:
        column("k", unit="GPa").read({"k (DFT)": 2})
    assert caught.value.code == "invalid-input.missing-target"


@pytest.mark.parametrize(("cell", "hinted"), [("624,6", True), ("1.624,6", True), ("high", False)])
def test_a_decimal_comma_is_told_apart(cell, hinted):
    with pytest.raises(InvalidInputError, match="not a number") as caught:
        column(unit="GPa").read({"k": cell})
    assert ("decimal comma" in caught.value.message) == hinted


def test_two_columns_that_differ_in_their_unit_are_refused():
    values = {"k [GPa]": 1.0, "k (MPa)": 1000.0}
    with pytest.raises(InvalidInputError, match=r"'k \[GPa\]' and 'k \(MPa\)' are both") as caught:
        column(unit="GPa").read(values)
    assert caught.value.code == "invalid-input.repeated-column"
    assert column("k (MPa)", unit="GPa").read(values) == 1.0
    assert column(unit="GPa").read({"k": 2.0, **values}) == 2.0


def test_a_transform_sees_the_converted_value():
    celsius = column(transform=Transform.LOG10, unit="K", default_unit="degC")
    assert celsius.read({"k": -20.0}) == pytest.approx(253.15)
    with pytest.raises(InvalidInputError) as caught:
        celsius.read({"k": -300.0})
    assert caught.value.code == "invalid-input.outside-transform"


@pytest.mark.parametrize(
    ("unit", "code"), [("eV", "inconvertible-unit"), ("parrots", "unknown-unit")]
)
def test_a_row_with_a_wrong_unit_is_refused_alone(tmp_path, unit, code):
    structure = {
        "lattice": (4.2 * np.eye(3)).tolist(),
        "species": ["Cs", "Cl"],
        "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    }
    path = tmp_path / "rows.jsonl"
    units = ["GPa", unit, "MPa", None]
    rows = [
        {"id": str(n), "structure": structure, "k": n - 1, "unit": u} for n, u in enumerate(units)
    ]
    write_rows(path, rows)
    intake = read_task_rows([path], TaskSpec(target="k", unit="GPa", property="bulk_modulus"))
    assert intake.targets.tolist() == [-1, 0.001, 2]
    assert [(refusal.id, refusal.code) for refusal in intake.refusals] == [("1", code)]
    assert unit in intake.refusals[0].message
    # what a modulus cannot be is kept, and named
    assert [(flag.id, flag.code) for flag in intake.flagged] == [("0", "outside-bounds")]
    assert "bulk_modulus lies between 0 and inf GPa" in intake.flagged[0].message


def test_bounds_are_in_the_unit_of_the_task():
    assert column(unit="mK", measured="tc").bounds() == (0, np.inf)
    assert column(unit="1", measured="poissons_ratio").bounds() == (-1, 0.5)
    assert column(unit="%", measured="poisson_ratio").bounds() == pytest.approx((-100, 50))
    assert column(unit="1", measured="log_last_phdos_peak").bounds() is None
    assert column(unit="GPa", measured="mine").bounds() is None
    assert column(unit="GPa", measured="k_vrh").bounds() == (0, np.inf)
    assert column("log_kvrh", unit="GPa", measured="k_vrh").bounds() is None  # negative below 1 GPa


def test_a_known_property_brings_its_unit():
    assert unit_of_task(None, "k_vrh") == "GPa"
    assert unit_of_task("mbar", "k_vrh") == "mbar"
    with pytest.raises(InvalidInputError, match="--unit"):
        unit_of_task(None, "mine")


@pytest.mark.parametrize(
    ("value", "source", "unit", "expected"),
    [
        (25.0, "degC", "K", 298.15),
        (1.0, "mbar", "GPa", 1e-7),
        (3.0, "1/GPa", "1/TPa", 3000.0),
        (1.0, "MPa m^0.5", "Pa m^0.5", 1e6),
        (1.0, "Ha/bohr^3", "GPa", 29421.0157),
        (2.0, "electron_volt", "meV", 2000.0),
        (1.0, "Ry/atom", "eV/atom", 13.605693),
    ],
)
def test_units_beyond_the_table_convert(value, source, unit, expected):
    assert convert(value, source, unit) == pytest.approx(expected, rel=1e-6)
    assert convert(np.array([value]), source, unit)[0] == pytest.approx(expected, rel=1e-6)
    assert canonical_unit(canonical_unit(source)) == canonical_unit(source)


@pytest.mark.parametrize(
    ("source", "unit"),
    [("kJ/kg", "GPa"), ("J/mol", "eV"), ("Ry/f.u.", "eV/atom"), ("kbar/atom", "kbar")],
)
def test_units_beyond_the_table_are_both_named(source, unit):
    with pytest.raises(InvalidInputError) as caught:
        convert(1.0, source, unit)
    assert caught.value.code == "invalid-input.inconvertible-unit"
    assert source in caught.value.message
    assert unit in caught.value.message


@pytest.mark.parametrize(
    "unit",
    ["9^9^9", "m**99**9", "m^999999", "(((", "eV/", "e" * 100, "__import__('os')", "m^-", "\0"],
)
def test_no_text_makes_the_parser_of_units_run_wild(unit):
    with pytest.raises(InvalidInputError, match="is not known"):
        canonical_unit(unit)
