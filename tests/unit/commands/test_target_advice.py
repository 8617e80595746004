"""What the user of a task hears: that it has too few rows, and that a logarithm may be better."""

import pytest

from moma_cl.hub import Hub


def codes(added):
    return [str(advice.code) for advice in added.advice]


@pytest.mark.parametrize(("n_rows", "warned"), [(1, True), (9, True), (10, False)])
def test_fewer_than_ten_rows_are_warned_of(add_task, n_rows, warned):
    added = add_task("energy", n_rows, unit="eV/atom", dry_run=True)
    assert codes(added) == (["few-rows"] if warned else [])
    if warned:
        assert f"{n_rows} row" in added.advice[0].message
        assert "add-data energy" in added.advice[0].message


def test_rows_that_are_added_or_retracted_are_counted_anew(hub, add_task, add_data, made_up):
    add_task("energy", 9, unit="eV/atom", module="none", compose=False)
    assert codes(add_data("energy", made_up(1, first=9), compose=False)) == []
    assert codes(Hub(hub).retract("energy", ["row-0"], compose=False)) == ["few-rows"]


@pytest.mark.parametrize(
    ("options", "proposed"),
    [
        ({"property": "bulk_modulus", "unit": "GPa"}, True),
        ({"property": "bulk_modulus", "unit": "GPa", "transform": "log10"}, False),
        ({"property": "seebeck", "unit": "μV/K"}, False),
        ({"property": "mine", "unit": "GPa"}, False),
        ({"property": "log_kvrh", "unit": "GPa"}, False),
    ],
)
def test_a_logarithm_is_proposed_for_positive_properties(add_task, options, proposed):
    added = add_task("task", 30, target="modulus", dry_run=True, **options)
    assert codes(added) == (["try-log10"] if proposed else [])


def test_a_logarithm_is_not_proposed_where_there_is_a_zero(add_task, made_up):
    rows = made_up(30)
    rows[3]["gap"] = 0.0
    assert (
        codes(add_task("task", rows, target="gap", property="band_gap", unit="eV", dry_run=True))
        == []
    )
