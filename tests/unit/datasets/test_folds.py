"""Folds depend on the group and the salt alone."""

import numpy as np
import pytest

from moma_cl.datasets.folds import (
    FOLD_NAMES,
    Fold,
    assign_folds,
    choose_grouping,
    codes_of,
    cv_groups,
    fold_of,
)
from moma_cl.records.records import Grouping


def test_shares_are_70_15_15():
    counts = np.bincount([FOLD_NAMES.index(fold_of(f"formula-{i}", "salt")) for i in range(20_000)])
    assert counts / 20_000 == pytest.approx([0.70, 0.15, 0.15], abs=0.01)


def test_a_fold_is_pinned_for_ever():
    # Changing the hash would move rows of existing hubs between folds.
    folds = [fold_of(key, "salt") for key in ("O2Ti1", "Na1Cl1", "Si1", "C1", "O1Mg1")]
    assert folds == ["train", "train", "validation", "train", "held-out"]


def test_salt_and_key_are_kept_apart():
    folds = [(fold_of(f"b{i}", "a"), fold_of(f"{i}", "ab")) for i in range(200)]
    assert any(one is not other for one, other in folds)


def test_a_formula_is_in_one_fold_and_later_rows_move_nothing():
    formulas = [f"A{i % 40}" for i in range(200)]
    prints = np.arange(200, dtype=np.uint64)
    folds = assign_folds(formulas, prints, Grouping.FORMULA, "salt")
    assert folds.dtype == np.uint8
    for formula in set(formulas):
        assert (
            len({int(f) for f, name in zip(folds, formulas, strict=True) if name == formula}) == 1
        )
    first = assign_folds(formulas[:50], prints[:50], Grouping.FORMULA, "salt")
    assert np.array_equal(first, folds[:50])


def test_structures_of_one_formula_spread_over_the_folds():
    folds = assign_folds(
        ["C1"] * 500, np.arange(500, dtype=np.uint64) << np.uint64(40), Grouping.STRUCTURE, "salt"
    )
    assert set(folds.tolist()) == {0, 1, 2}


def test_the_structure_decides_when_formulas_are_few_or_one_prevails():
    assert choose_grouping([f"A{i}" for i in range(19)]) is Grouping.STRUCTURE
    assert choose_grouping([f"A{i}" for i in range(20)]) is Grouping.FORMULA
    assert choose_grouping(["C1"] * 20 + [f"A{i}" for i in range(80)]) is Grouping.FORMULA
    assert choose_grouping(["C1"] * 21 + [f"A{i}" for i in range(79)]) is Grouping.STRUCTURE
    assert choose_grouping([]) is Grouping.STRUCTURE


def test_fold_names_become_codes():
    assert codes_of(["held-out", "train", Fold.VALIDATION]).tolist() == [2, 0, 1]


def test_cross_validation_keeps_groups_whole_and_parts_even():
    formulas = [f"A{i % 35}" for i in range(105)]
    parts = cv_groups(formulas, np.zeros(105, np.uint64), Grouping.FORMULA, "salt")
    assert np.bincount(parts).tolist() == [12, 12, 12, 12, 12, 9, 9, 9, 9, 9]
    for formula in set(formulas):
        assert (
            len({int(p) for p, name in zip(parts, formulas, strict=True) if name == formula}) == 1
        )


def test_cross_validation_has_as_many_parts_as_groups_allow():
    prints = np.array([5, 5, 9, 9, 9], dtype=np.uint64)
    parts = cv_groups(["C1"] * 5, prints, Grouping.STRUCTURE, "salt")
    assert sorted(set(parts.tolist())) == [0, 1]
    assert parts[0] == parts[1]
    assert cv_groups([], np.zeros(0, np.uint64), Grouping.FORMULA, "salt").tolist() == []
