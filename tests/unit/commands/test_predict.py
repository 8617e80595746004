"""Predictions."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from moma_cl.commands.predict import SHARED, Earlier, row_key
from moma_cl.hub import Hub
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import KernelSettings
from moma_cl.records import champions as records
from moma_cl.records.records import ModuleKind
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store
from tests.helpers.hubs import record, refs


@pytest.fixture
def add(add_task):
    """Add a task of energies without a module."""
    options = {"target": "energy", "unit": "eV/atom", "module": ModuleKind.NONE}
    return lambda rows, **others: add_task("task", rows, **options | others)


def supercell(structure):
    """The same crystal, doubled along the first axis."""
    lattice = np.array(structure["lattice"])
    coords = np.array(structure["frac_coords"])
    lattice[0] *= 2
    doubled = np.vstack([coords * [0.5, 1, 1], coords * [0.5, 1, 1] + [0.5, 0, 0]])
    return {
        "lattice": lattice.tolist(),
        "species": structure["species"] * 2,
        "frac_coords": doubled.tolist(),
    }


def predictor_record(hub):
    return record(hub, "predictors/task")


def test_answers_have_value_interval_and_domain(hub, add, write_rows, made_up):
    add(200)
    rows = list(Hub(hub).iter_predictions("task", [write_rows(made_up(20, first=300))]))
    assert [row.id for row in rows] == [f"row-{i}" for i in range(300, 320)]
    assert all(row.status == "ok" and row.lower < row.value < row.upper for row in rows)
    assert {row.unit for row in rows} == {"eV/atom"}
    assert {row.applicability for row in rows} <= {"inside", "edge", "outside"}
    wider = list(
        Hub(hub).iter_predictions("task", [write_rows(made_up(20, first=300))], level=0.95)
    )
    assert all(w.upper >= r.upper for w, r in zip(wider, rows, strict=True))


def test_a_bad_row_costs_itself_only_and_order_is_kept(hub, add, write_rows, made_up):
    add(200)
    good = made_up(3)
    broken = {
        "id": "bad",
        "structure": {"lattice": [[0, 0, 0]] * 3, "species": [], "frac_coords": []},
    }
    path = write_rows([good[0], broken, good[1]])
    with path.open("a") as stream:
        stream.write("not json\n" + json.dumps(good[2]) + "\n")
    rows = list(Hub(hub).iter_predictions("task", [path]))
    assert [row.status == "ok" for row in rows] == [True, False, True, False, True]
    assert rows[1].id == "bad"
    assert rows[1].value is None
    assert rows[1].message


def test_a_structure_gets_the_same_answer_alone_in_a_batch_and_as_a_supercell(
    hub, add, write_rows, made_up
):
    add(200)
    rows = made_up(12)
    together = [row.value for row in Hub(hub).iter_predictions("task", [write_rows(rows)])]
    alone = [next(Hub(hub).iter_predictions("task", [write_rows([row])])).value for row in rows[:3]]
    doubled = [{**row, "structure": supercell(row["structure"])} for row in rows]
    as_supercells = [row.value for row in Hub(hub).iter_predictions("task", [write_rows(doubled)])]
    scale = np.abs(together).max()
    assert np.abs(np.subtract(together[:3], alone)).max() <= 1e-5 * scale
    assert np.abs(np.subtract(together, as_supercells)).max() <= 1e-5 * scale


@pytest.mark.parametrize(
    ("n_rows", "calibration"), [(5, "range"), (20, "cross-validation"), (100, "cross-validation")]
)
def test_few_rows_are_cross_validated_and_very_few_promise_their_range_only(
    hub, add, n_rows, calibration, write_rows, made_up
):
    add(n_rows)
    record = predictor_record(hub)
    assert record["calibration"] == calibration
    assert record["method"] == "kernel"
    assert record["held_out_mae"] is None
    rows = list(Hub(hub).iter_predictions("task", [write_rows(made_up(4, first=300))]))
    assert all(row.status == "ok" and np.isfinite(row.value) for row in rows)
    assert {row.calibration for row in rows} == {calibration}
    if calibration == "range":
        energies = [row["energy"] for row in made_up(n_rows)]
        assert {(row.lower, row.upper) for row in rows} == {(min(energies), max(energies))}


def test_one_formula_for_all_rows_is_divided_by_structure(hub, add, made_up):
    strains = [made_up(1, first=36 * i)[0] for i in range(170)]
    added = add(strains)
    assert added.grouping == "structure"
    assert min(added.folds.values()) > 0
    assert predictor_record(hub)["calibration"] == "held-out"


def test_a_fold_column_keeps_its_held_out_rows_also_of_a_small_task(hub, add, made_up):
    labelled = [
        {**row, "fold": ("train", "validation", "held-out")[i % 3]}
        for i, row in enumerate(made_up(60))
    ]
    labelled[0]["fold"] = None
    added = add(labelled, fold_column="fold")
    assert added.left_out == 1
    assert added.folds == {"train": 19, "validation": 20, "held-out": 20}
    record = predictor_record(hub)
    assert record["calibration"] == "cross-validation"
    assert record["n_train"] == 39
    assert record["held_out_mae"] is not None


def test_a_logarithmic_task_answers_in_its_unit_with_positive_intervals(
    hub, add, write_rows, made_up
):
    add(200, target="modulus", transform=Transform.LOG10)
    rows = list(Hub(hub).iter_predictions("task", [write_rows(made_up(10, first=300))]))
    assert all(0 < row.lower < row.value < row.upper for row in rows)


def test_an_earlier_champion_can_be_asked(hub, add, write_rows, add_data, made_up):
    add(100)
    first = predictor_record(hub)
    add_data("task", made_up(40, first=100))
    present = refs(hub)["predictors/task"]
    path = [write_rows(made_up(2))]
    assert next(Hub(hub).iter_predictions("task", path)).predictor == present
    (earlier,) = set(champions(hub)) - {present}
    assert next(Hub(hub).iter_predictions("task", path, at=earlier[:10])).predictor == earlier
    assert first != predictor_record(hub)


def champions(hub):
    with Store.open(hub) as store:
        return records.champions(store, "task")


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0])
def test_a_level_is_a_coverage(hub, add, level, write_rows, made_up):
    add(20)
    with pytest.raises(InvalidInputError, match="no coverage"):
        next(Hub(hub).iter_predictions("task", [write_rows(made_up(1))], level=level))


def test_unknown_tasks_and_predictors_are_named(hub, add, write_rows, made_up):
    add(20)
    path = [write_rows(made_up(1))]
    with pytest.raises(NotFoundError, match="did you mean 'task'"):
        next(Hub(hub).iter_predictions("taks", path))
    with pytest.raises(NotFoundError, match="just one like 'ffff'"):
        next(Hub(hub).iter_predictions("task", path, at="ffff"))


def test_ten_thousand_rows_of_which_a_third_is_bad(add, made_up, short_recipe):
    rows = made_up(10_000)
    for index, row in enumerate(rows):
        if index % 10 == 3:
            row["energy"] = None
        elif index % 10 == 5:
            row["structure"] = {**row["structure"], "species": ["Qq", "Cl"]}
        elif index % 10 == 7:
            row["structure"] = {**row["structure"], "frac_coords": [[0, 0, 0], [0, 0, 0.001]]}
    recipe = replace(short_recipe, kernel=KernelSettings(max_rows=300))
    added = add(rows, compose=False, recipe=recipe)
    assert (added.rows, len(added.refusals)) == (7000, 3000)
    codes = [refusal.code for refusal in added.refusals]
    assert {code: codes.count(code) for code in set(codes)} == {
        "missing-target": 1000,
        "unknown-element": 1000,
        "overlapping-atoms": 1000,
    }
    assert added.refusals[0].source.endswith(":4")


def test_an_answer_is_explained_by_known_rows_and_modules(hub, add, write_rows, made_up):
    add(200)
    (row,) = Hub(hub).iter_predictions("task", [write_rows(made_up(1))], explain=True)
    nearest = row.neighbours[0]
    assert (nearest.id, nearest.similarity) == ("row-0", pytest.approx(1.0, abs=1e-4))
    assert nearest.value == made_up(1)[0]["energy"]
    assert row.modules == {"backbone@cgcnn": 1.0}
    (plain,) = Hub(hub).iter_predictions("task", [write_rows(made_up(1))])
    assert (plain.neighbours, plain.modules, plain.value) == ((), {}, row.value)


def test_an_element_nobody_knows_puts_a_structure_outside(hub, add, write_rows, made_up):
    add(200)
    row = made_up(1)[0]
    row["structure"] = {**row["structure"], "species": ["Na", "At"]}
    (answer,) = Hub(hub).iter_predictions("task", [write_rows([row])])
    assert (answer.unseen_elements, answer.applicability) == (("At",), "outside")


def test_rows_that_were_answered_are_skipped_and_other_questions_refused(
    hub, add, write_rows, made_up
):
    add(200)
    path = [write_rows(made_up(5))]
    first = list(Hub(hub).iter_predictions("task", path))
    keys = Counter(row_key(row.id, row.source) for row in first[:3])
    shared = {name: getattr(first[0], name) for name in SHARED}
    left = Hub(hub).iter_predictions("task", path, earlier=Earlier(answered=keys, shared=shared))
    assert [row.id for row in left] == ["row-3", "row-4"]
    other = Earlier(answered=keys, shared={**shared, "level": 0.8})
    with pytest.raises(InvalidInputError, match=r"level 0\.8, now it would be 0\.9"):
        next(Hub(hub).iter_predictions("task", path, earlier=other))


def test_answers_keep_the_bounds_of_their_property(hub, add_task, write_rows, made_up):
    """Learned as it is, a modulus of small values would be answered with negative ones."""
    least = min(row["modulus"] for row in made_up(40))
    rows = [{**row, "modulus": (row["modulus"] - least) ** 3} for row in made_up(40)]
    add_task("soft", rows, target="modulus", property="bulk_modulus", unit="GPa", module="none")
    add_task("any", rows, target="modulus", unit="GPa", module="none")
    asked = write_rows(made_up(40, first=300))
    free = Hub(hub).predict("any", asked)
    assert min(free.values) < 0
    kept = Hub(hub).predict("soft", asked)
    assert min(kept.values) == 0
    assert all(0 <= row.lower <= row.value <= row.upper for row in kept)
    assert all(row.lower < row.upper for row in kept)


def test_a_task_of_one_row_has_an_interval(hub, add, write_rows, made_up):
    add(1)
    (row,) = Hub(hub).predict("task", write_rows(made_up(1)))
    assert row.value == pytest.approx(made_up(1)[0]["energy"])
    assert row.upper - row.lower == pytest.approx(2 * abs(row.value))


def test_a_structure_that_is_a_row_says_so_with_its_measured_value(
    hub, add, add_data, write_rows, made_up
):
    add(60)
    rows, opened = made_up(4), Hub(hub)
    asked = write_rows(
        [
            {"id": "same", "structure": rows[0]["structure"]},
            {"id": "double", "structure": supercell(rows[1]["structure"])},
            {"id": "other", "structure": made_up(1, first=90)[0]["structure"]},
            {"id": "retracted", "structure": rows[2]["structure"]},
        ],
        "asked.jsonl",
    )
    same, double, other, later = opened.predict("task", asked)
    assert (same.known, same.known_id) == (rows[0]["energy"], "row-0")
    assert (double.known, double.known_id) == (rows[1]["energy"], "row-1")
    assert same.value != same.known  # the answer stays the prediction
    assert (other.known, other.known_id) == (None, None)
    assert later.known_id == "row-2"

    opened.retract("task", ["row-2"], compose=False)
    add_data("task", made_up(1, first=90), compose=False)
    *_, other, later = opened.predict("task", asked)
    assert other.known_id == "row-90"
    assert (later.known, later.known_id) == (None, None)


def test_the_message_warns_where_errors_were_not_measured(hub, add, write_rows, made_up):
    add(5)
    (row,) = Hub(hub).predict("task", write_rows(made_up(1, first=90)))
    assert row.status == "ok"
    assert "too few rows" in row.message
