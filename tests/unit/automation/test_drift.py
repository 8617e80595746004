"""Drift: said only where the champion errs beyond chance on rows it has not seen."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from moma_cl.automation import drift
from moma_cl.automation.status import status
from moma_cl.hub import Hub
from moma_cl.reconciling.holds import DRIFT_LEVEL
from moma_cl.records.records import Drift
from moma_cl.views.log import log
from moma_cl.views.show import show
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import refs


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    hub = hubs.make_hub(tmp_path_factory.mktemp("founded") / "hub")
    hubs.add_task(hub, "energy", 60, unit="eV/atom", module="none")
    return hub


@pytest.fixture
def hub(founded, tmp_path):
    return Path(shutil.copytree(founded, tmp_path / "hub"))


def said_of_hold(added):
    (held,) = [d.text for d in added.done if d.action == "held"]
    return held


def shifted(rows, by):
    return [{**row, "energy": row["energy"] + by} for row in rows]


def test_false_alarms_are_as_rare_as_promised(monkeypatch):
    monkeypatch.setattr(drift, "N_RESAMPLES", 199)
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        errors = abs(generator.standard_t(2, size=108))  # heavy tails
        alarms += drift.chance_of_larger(errors[:8], errors[8:]) <= 0.05
    assert alarms <= 12  # 5 expected


def test_probabilities_are_those_of_counting_by_hand():
    # one of six rows is new and has the largest error
    found = drift.chance_of_larger(np.array([9.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found == pytest.approx(1 / 6, abs=0.02)
    assert drift.chance_of_larger(np.ones(3), np.ones(50)) == 1.0


def test_larger_errors_of_a_few_rows_are_found():
    reference = np.abs(np.random.default_rng(0).normal(size=100))
    assert drift.chance_of_larger(reference[:5] + 5.0, reference) <= DRIFT_LEVEL


def test_without_a_promise_there_is_nothing_to_break():
    assert drift.chance_of_larger(np.ones(3), None) is None
    assert drift.chance_of_larger(np.ones(3), np.zeros(0)) is None


def test_rows_unlike_the_learned_ones_are_drift_once_and_told_everywhere(hub, add_data, made_up):
    taken = add_data("energy", shifted(made_up(12, first=60), 9.0))
    (said,) = [d for d in taken.done if d.kind == "drift"]
    assert (said.action, "drift" in said.text) == ("drift", True)
    (entry,) = [e for e in log(hub) if e.action == "drift"]
    assert entry.detail["drifted"] is True
    assert entry.detail["mae"] > 5 > entry.detail["reference_mae"]
    shown = show(hub, "energy").document["drift"]
    assert (shown["rows"], shown["drifted"]) == (12, True)
    (task,) = status(hub).tasks
    assert task.drift == Drift.from_doc(shown)
    assert (task.drifted, task.held) == (True, said_of_hold(taken))
    assert [d for d in Hub(hub).update() if d.kind == "drift"] == []


def test_rows_like_the_learned_ones_are_only_measured(add_data, made_up):
    taken = add_data("energy", made_up(6, first=60))
    (said,) = [d for d in taken.done if d.kind == "drift"]
    assert said.action == "measured"


def test_it_is_measured_before_the_rows_are_learned(hub, add_data, made_up):
    champion = refs(hub)["predictors/energy"]
    add_data("energy", made_up(12, first=60), compose=False)
    (said,) = [d for d in Hub(hub).update() if d.kind == "drift"]
    assert said.action == "measured"
    with Store.open(hub) as store:
        measured = Drift.from_doc(store.record(store.ref("drift/energy")))
        assert measured.predictor == champion != store.ref("predictors/energy")


def test_corrections_far_from_what_was_expected_are_drift_and_others_are_not(add_data, made_up):
    near = add_data("energy", shifted(made_up(12), 0.01), replace=True)
    assert [d.action for d in near.done if d.kind == "drift"] == ["measured"]
    far = add_data("energy", shifted(made_up(12), 9.0), replace=True)
    assert [d.action for d in far.done if d.kind == "drift"] == ["drift"]


def test_rows_that_are_there_already_tell_nothing(add_data, made_up):
    again = [{**row, "id": f"again-{row['id']}"} for row in made_up(12)]
    assert [d for d in add_data("energy", again).done if d.kind == "drift"] == []


def test_the_worst_of_many_groups_is_found_and_chance_is_not():
    generator = np.random.default_rng(5)
    reference, sizes = abs(generator.normal(size=200)), np.array([40, 3, 60, 40])
    errors = abs(generator.normal(size=143))
    assert drift.chance_of_a_worse_group(errors, sizes, reference) > 0.05
    errors[40:43] += 6.0
    assert drift.chance_of_a_worse_group(errors, sizes, reference) <= DRIFT_LEVEL / 2
    assert drift.chance_of_a_worse_group(np.ones(143), sizes, np.ones(200)) == 1.0


def test_false_alarms_are_as_rare_where_the_worst_group_is_asked(monkeypatch):
    monkeypatch.setattr(drift, "N_RESAMPLES", 199)
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        errors = abs(generator.standard_t(2, size=120))
        chance = drift.chance_of_a_worse_group(errors[:20], np.array([4, 10, 6]), errors[20:])
        alarms += chance <= 0.05
    assert alarms <= 12  # 5 expected


def test_a_removed_task_leaves_no_drift_behind(hub, add_data, made_up):
    add_data("energy", made_up(6, first=60))
    Hub(hub).remove_task("energy")
    assert refs(hub, "drift/") == {}
