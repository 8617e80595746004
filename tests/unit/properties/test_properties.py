"""Units, transforms and what determines what."""

import numpy as np
import pytest

from moma_cl.properties.table import (
    PROPERTIES,
    canonical_property,
    known_property,
    same_or_determines,
)
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import canonical_unit, convert
from moma_store.errors import InvalidInputError
from tests.helpers.processes import run_python


@pytest.mark.parametrize(
    ("value", "source", "wanted", "expected"),
    [
        (1.5, "eV/atom", "meV/atom", 1500.0),
        (1.0, "TPa", "GPa", 1000.0),
        (160.21766208, "GPa", "eV/Å³", 1.0),
        (1.0, "eV/A^2", "J/m^2", 16.02176634),
        (1.0, "THz", "cm^-1", 33.35640951981521),
        (1.0, "meV phonon", "THz", 0.2417989242),
        # a radian is no cycle: ν = ω / 2π, also by way of pint
        (1.0, "rad/ps", "THz", 0.15915494309),
        (1.0, "rad ps^-1", "cm^-1", 5.30883745888),
        (1.0, "THz", "rad/ps", 6.28318530718),
        (1.0, "rad/ns", "THz", 0.15915494309e-3),
        (360.0, "deg/ps", "THz", 1.0),
        (60.0, "rpm", "Hz", 1.0),
        (1.0, "1/ps", "THz", 1.0),
        (1.0, "rad/ns", "rad/ps", 1e-3),
        (96.48533212, "kJ/mol", "eV", 1.0),
        (23.0605478, "kcal/mol", "eV", 1.0),
        (2.0, "W/(cm K)", "W/(m K)", 200.0),
        (7.0, "%", "1", 0.07),
        (300, "K", "mK", 300_000.0),
        (1.0, "μC/cm²", "C/m²", 0.01),
        (2.5, "S/cm", "S/m", 250.0),
    ],
)
def test_conversions_match_published_factors(value, source, wanted, expected):
    assert convert(value, source, wanted) == pytest.approx(expected, rel=1e-8)


def test_arrays_convert_and_equal_units_keep_every_bit():
    values = np.array([0.1, -3.7, 1e300])
    assert convert(values, "GPa", "gpa") is values
    assert convert(values, "GPa", "MPa") == pytest.approx(values * 1000)


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("A", "Å"),
        ("eV/A^3", "eV/Å³"),
        ("J/m^2", "J/m²"),
        ("1/cm", "cm⁻¹"),
        ("", "1"),
        ("dimensionless", "1"),
        ("uB", "μB"),
        ("µB", "μB"),  # the micro sign
        ("g/cm^3", "g/cm³"),
        ("  W/(m  K) ", "W/(m K)"),
        ("m^2/(V s)", "m²/(V s)"),
        ("10^-6 K^-1", "10⁻⁶ K⁻¹"),
        ("cm-1", "cm⁻¹"),
        ("J/m2", "J/m²"),
        ("g/cm3", "g/cm³"),
        ("S cm-1", "S/cm"),
        ("J/molK", "J/(mol K)"),
    ],
)
def test_units_are_read_as_people_type_them(spelling, unit):
    assert canonical_unit(spelling) == unit


def test_an_unknown_unit_is_named_with_near_misses():
    with pytest.raises(
        InvalidInputError, match=r"'GPaa' is not known; did you mean .*GPa"
    ) as caught:
        convert(1.0, "GPaa", "GPa")
    assert caught.value.code == "invalid-input.unknown-unit"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [("eV", "GPa"), ("eV/atom", "eV"), ("eV/f.u.", "eV/atom"), ("meV", "meV phonon"), ("1", "K")],
)
def test_inconvertible_units_are_both_named(source, wanted):
    with pytest.raises(InvalidInputError) as caught:
        convert(1.0, source, wanted)
    assert caught.value.code == "invalid-input.inconvertible-unit"
    assert source in caught.value.message
    assert wanted in caught.value.message


@pytest.mark.parametrize("transform", list(Transform))
def test_transforms_have_inverses(transform):
    targets = np.array([1e-6, 0.5, 1.0, 320.0, 1e8])
    assert transform.inverse(transform.forward(targets)) == pytest.approx(targets, rel=1e-12)


def test_transforms_know_their_domain_and_do_not_overflow_loudly():
    assert Transform.NONE.defined_at(-3)
    assert not Transform.LOG10.defined_at(0)
    assert not Transform.LOG.defined_at(float("inf"))
    assert np.isinf(Transform.LOG10.inverse(np.array([400.0]))).all()
    targets = np.array([1.0, 2.0])
    assert Transform.NONE.forward(targets) is not targets


def test_the_table_is_consistent():
    seen = {}
    for entry in PROPERTIES.values():
        assert canonical_unit(entry.unit) == entry.unit
        assert entry.lower < entry.upper
        assert all(name in PROPERTIES for name in entry.determined_by)
        for name in (entry.name, *entry.aliases):
            assert seen.setdefault(name.lower(), entry.name) == entry.name


def test_aliases_lead_to_one_name_and_unknown_properties_stay():
    assert canonical_property("formation_energy_per_atom") == "formation_energy"
    assert canonical_property("heat_capacity_300K") == "heat_capacity"
    assert canonical_property(" My_Property ") == "my_property"
    assert known_property("tc").unit == "K"
    assert known_property("my_property") is None


def test_moduli_determine_poisson_ratio_but_not_anisotropy():
    assert same_or_determines("log10_bulk_modulus_vrh", "poisson_ratio")
    assert not same_or_determines("poisson_ratio", "bulk_modulus")
    assert not same_or_determines("bulk_modulus", "elastic_anisotropy")
    assert same_or_determines("band_gap_hse", "band_gap_pbe")
    assert same_or_determines("mine", "Mine")
    assert not same_or_determines("mine", "yours")


def test_the_table_is_read_without_numpy():
    run_python("import sys, moma_cl.properties.table; sys.exit('numpy' in sys.modules)")
