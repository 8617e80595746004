"""Twins in other folds, and targets that stand out."""

import pytest

from moma_cl.records.records import ModuleKind


@pytest.fixture
def add(add_task):
    """Add a task of energies; nothing more is computed than its first answers."""
    options = {"target": "energy", "module": ModuleKind.NONE, "compose": False}
    return lambda rows, **others: add_task("task", rows, **options, **others)


def test_a_target_that_is_off_is_named_and_kept(add, made_up):
    rows = made_up(180)
    rows[70]["energy"] += 5.0
    added = add(rows)
    assert added.rows == 180
    first = added.checks.doubts[0]
    assert first.id == "row-70"
    assert first.deviations > 8
    assert abs(first.target - first.expected) == pytest.approx(5.0, abs=1.0)
    assert added.checks.n_doubts == len(added.checks.doubts) < 10


def test_a_twin_in_an_earlier_fold_is_named(add, made_up):
    rows = [
        {**row, "fold": ("train", "validation", "held-out")[i % 3]}
        for i, row in enumerate(made_up(60))
    ]
    copy = {**rows[0], "id": "twin", "fold": "held-out", "energy": rows[0]["energy"] + 1e-3}
    added = add([*rows, copy], fold_column="fold")
    (twin,) = [t for t in added.checks.twins if t.id == "twin"]
    assert (twin.fold, twin.twin, twin.twin_fold) == ("held-out", "row-0", "train")


def test_a_structure_under_another_id_is_named_whatever_its_fold(add, add_data, made_up):
    rows = made_up(60)
    added = add([*rows, {**rows[7], "id": "again"}])
    (twin,) = added.checks.repeats
    assert (twin.id, twin.twin, added.checks.n_repeats) == ("again", "row-7", 1)
    assert twin.fold == twin.twin_fold
    assert added.checks.n_twins == 0
    # of rows that are added later, too, whether or not a predictor has learned them
    more = add_data("task", [{**rows[8], "id": "later"}], compose=False)
    assert [(twin.id, twin.twin) for twin in more.checks.repeats] == [
        ("again", "row-7"),
        ("later", "row-8"),
    ]


def test_formulas_in_one_fold_each_have_no_twins(add, made_up):
    assert add(made_up(170)).checks.n_twins == 0


def test_nothing_is_said_of_few_rows(add, made_up):
    rows = made_up(12)
    rows[3]["energy"] += 50.0
    assert add(rows).checks.n_doubts == 0
