"""Promotions that wait for somebody: nothing learned from rows in another unit answers before."""

import shutil
from pathlib import Path

import pytest

from moma_cl.automation.status import status
from moma_cl.hub import Hub
from moma_cl.views.log import log
from moma_store.errors import NotFoundError
from tests.helpers import hubs
from tests.helpers.hubs import refs

EV_IN_KJ_PER_MOL = 96.485


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    """A hub with a cross-validated task."""
    hub = hubs.make_hub(tmp_path_factory.mktemp("founded") / "hub")
    hubs.add_task(hub, "energy", 60, unit="eV/atom", module="none")
    return hub


@pytest.fixture
def hub(founded, tmp_path):
    return Path(shutil.copytree(founded, tmp_path / "hub"))


def wrong_unit(rows):
    return [{**row, "energy": EV_IN_KJ_PER_MOL * row["energy"]} for row in rows]


def answer(hub, made_up):
    (row,) = Hub(hub).predict("energy", [made_up(1, first=75)[0]])
    return row.value


def held(hub):
    (task,) = status(hub).tasks
    return task.held


def actions(added):
    return [d.action for d in added.done if d.kind == "predictor" and d.action != "derived"]


def test_rows_in_another_unit_are_learned_and_do_not_answer(hub, add_data, made_up):
    champion, before = refs(hub)["predictors/energy"], answer(hub, made_up)
    added = add_data("energy", wrong_unit(made_up(12, first=60)))
    assert actions(added) == ["held"]
    assert refs(hub)["predictors/energy"] == champion
    assert answer(hub, made_up) == before
    assert "values about 9" in held(hub)
    assert "another unit?" in held(hub)
    assert Hub(hub).update(settle=0.0) == []  # nothing is done again, and nothing is forgotten
    assert "another unit?" in held(hub)


def test_a_held_promotion_is_confirmed_once(hub, add_data, made_up):
    champion = refs(hub)["predictors/energy"]
    because = {d.text for d in add_data("energy", wrong_unit(made_up(12, first=60))).done}
    confirmed = Hub(hub).confirm("energy")
    assert (confirmed.before, confirmed.after) == (champion, refs(hub)["fitted/energy"])
    assert confirmed.because in because
    assert refs(hub)["predictors/energy"] == confirmed.after
    assert held(hub) is None
    assert log(hub, limit=1)[0].action == "confirm"
    assert refs(hub, "holds/") == {}
    with pytest.raises(NotFoundError, match="no promotion of task 'energy' is held"):
        Hub(hub).confirm("energy")


def test_rows_that_are_retracted_hold_nothing(hub, add_data, made_up):
    add_data("energy", wrong_unit(made_up(12, first=60)))
    champion, before = refs(hub)["predictors/energy"], answer(hub, made_up)
    rest = Hub(hub).retract("energy", [f"row-{n}" for n in range(60, 72)])
    assert actions(rest) == ["promoted"]
    assert held(hub) is None
    assert refs(hub)["predictors/energy"] != champion
    assert answer(hub, made_up) == pytest.approx(before, abs=1e-4)
    (task,) = status(hub).tasks
    assert not task.drifted


def test_rows_that_are_corrected_hold_nothing(hub, add_data, made_up):
    add_data("energy", wrong_unit(made_up(12, first=60)))
    assert held(hub) is not None
    assert actions(add_data("energy", made_up(12, first=60), replace=True)) == ["promoted"]
    assert held(hub) is None


def test_many_good_rows_do_not_hide_a_few_wrong_ones(hub, add_data, made_up):
    add_data("energy", wrong_unit(made_up(4, first=60)))
    champion = refs(hub)["predictors/energy"]
    added = add_data("energy", made_up(80, first=64))
    assert actions(added) == ["held"]
    assert "on the 4 rows of rows.jsonl" in held(hub)
    assert refs(hub)["predictors/energy"] == champion


def test_a_correction_in_another_unit_does_not_answer(hub, add_data, made_up):
    before = answer(hub, made_up)
    assert actions(add_data("energy", wrong_unit(made_up(12)), replace=True)) == ["held"]
    assert answer(hub, made_up) == before


def test_rows_too_few_for_drift_are_held_where_they_make_other_answers_worse(
    hub, add_data, made_up
):
    before = answer(hub, made_up)
    (row,) = made_up(1, first=60)
    added = add_data("energy", [{**row, "energy": 1000.0 * row["energy"]}])
    assert actions(added) == ["held"]
    assert "not expected (p = 0.01" in held(hub)
    assert "make other answers worse: its data is newer; on the 60 rows that both" in held(hub)
    assert answer(hub, made_up) == before


def test_rows_of_the_same_kind_are_promoted_with_the_figures(hub, add_data, made_up):
    added = add_data("energy", made_up(12, first=60))
    assert actions(added) == ["promoted"]
    (text,) = [d.text for d in added.done if d.action == "promoted"]
    assert "on the 60 rows that both have, mean error" in text
    assert held(hub) is None


def test_an_earlier_champion_that_answers_again_holds_nothing(hub, add_data, made_up):
    add_data("energy", made_up(12, first=60))
    add_data("energy", wrong_unit(made_up(12, first=72)))
    assert held(hub) is not None
    Hub(hub).rollback("energy")
    assert held(hub) is None
    detail = log(hub, limit=1)[0].detail
    assert detail["because"].endswith(f"in place of {detail['before'][:12]}")


def test_a_removed_task_leaves_no_hold_behind(hub, add_data, made_up):
    add_data("energy", wrong_unit(made_up(12, first=60)))
    Hub(hub).remove_task("energy")
    assert refs(hub, "holds/") == {}
