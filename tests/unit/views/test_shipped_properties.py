"""Which module of the package answers for a name."""

import pytest

from moma_cl.starter import modules as starter_modules
from moma_cl.views import shipped_properties as view
from moma_cl.views.shipped_properties import (
    ShippedProperty,
    choose_properties,
    choose_property,
    shipped_properties,
)
from moma_store.errors import InvalidInputError


def shipped(name, target, *, prop=None, mae=1.0, module=None, backbone="chgnet"):
    return ShippedProperty(
        name=name,
        property=prop or name,
        target=target,
        unit="eV",
        mae=mae,
        mae_of_median=2.0,
        n_held_out=10,
        n_train=100,
        module=module or f"mp_{target}",
        digest=f"{backbone}-{target}",
        backbone=backbone,
    )


PBE = shipped("band_gap", "band_gap_pbe")
HSE = shipped("band_gap_hse", "band_gap_hse", prop="band_gap", mae=0.1)
OTHER = shipped("band_gap", "band_gap_pbe", mae=0.5, backbone="sevennet", module="sn_gap")
TC = shipped("critical_temperature", "tc")
ALL = [HSE, PBE, TC]


@pytest.mark.parametrize(
    ("asked", "expected", "others"),
    [
        ("band_gap", PBE, ("band_gap_hse",)),
        (" Band_Gap ", PBE, ("band_gap_hse",)),
        ("egap", PBE, ("band_gap_hse",)),
        ("band_gap_pbe", PBE, ()),
        ("band_gap_hse", HSE, ()),
        ("mp_band_gap_hse", HSE, ()),
        ("critical_temperature", TC, ()),
        ("tc", TC, ()),
    ],
)
def test_a_property_goes_by_any_of_its_names(asked, expected, others):
    one = choose_property(asked, ALL)
    assert (one.chosen, one.others) == (expected, others)


def test_a_remark_says_what_is_meant_where_a_name_may_mean_several():
    assert choose_property("band_gap", ALL).remark == (
        "band_gap_pbe is meant; there are also band_gap_hse"
    )
    assert choose_property("band_gap_hse", ALL).remark == ""


def test_of_two_modules_of_one_column_the_one_that_errs_less_answers():
    assert choose_property("band_gap", [PBE, OTHER]).chosen == OTHER
    assert choose_property("mp_band_gap_pbe", [PBE, OTHER]).chosen == PBE


def test_an_unknown_property_is_told_what_there_is():
    with pytest.raises(InvalidInputError, match=r"'density'; answered are band_gap_hse, band_gap"):
        choose_property("density", ALL)
    with pytest.raises(InvalidInputError, match="did you mean 'band_gap_hse'"):
        choose_property("band_gap_hes", ALL)


def test_names_are_divided_by_commas_and_each_module_answers_once(monkeypatch):
    monkeypatch.setattr(view, "shipped_properties", lambda: ALL)
    chosen = choose_properties("tc, band_gap,band_gap_pbe,")
    assert [one.chosen for one in chosen] == [TC, PBE]
    assert choose_properties(["tc", "band_gap"]) == choose_properties("tc,band_gap")


@pytest.mark.parametrize("names", ["", " , ", []])
def test_no_name_is_refused(names):
    with pytest.raises(InvalidInputError, match="no property is named"):
        choose_properties(names)


def test_the_package_answers_these_properties():
    listed = {entry.name: entry for entry in shipped_properties()}
    assert {"band_gap", "band_gap_hse", "formation_energy", "bulk_modulus"} <= listed.keys()
    assert len(listed) == 12
    assert listed["band_gap"].target == "band_gap_pbe"
    assert listed["formation_energy"].module == "mp_formation_energy@chgnet"
    assert (listed["bulk_modulus"].unit, listed["heat_of_formation"].unit) == ("GPa", "eV/f.u.")
    for entry in listed.values():
        assert 0 < entry.mae < entry.mae_of_median
        assert entry.n_held_out > 0


def test_a_package_without_archives_answers_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(starter_modules, "FOLDER", tmp_path)
    assert shipped_properties() == []
    with pytest.raises(InvalidInputError, match="answered are none"):
        choose_properties("band_gap")
