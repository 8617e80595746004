"""Pinned recipes: moved by hand only, and nothing more is computed than they touch."""

import json

import pytest

from moma_cl.hub import Hub
from moma_cl.recipe import Recipe
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import refs


@pytest.fixture
def hub(hub):
    """One task, up to date."""
    hubs.add_task(hub, "energy", 60)
    return hub


def kinds(changed):
    return {step.kind for step in changed.steps if step.status == "stale"}


def test_a_dry_run_says_what_would_be_computed_and_changes_nothing(hub):
    before = refs(hub)["recipes/energy"]
    changed = Hub(hub).set_recipe("energy", {"kernel": {"ridges": [0.5]}}, dry_run=True)
    assert changed.changes == {"kernel.ridges": (Recipe().to_doc()["kernel"]["ridges"], [0.5])}
    assert kinds(changed) == {"learner"}  # and the predictor after it
    assert {step.why for step in changed.steps} == {"its recipe changed", "after its learners"}
    assert refs(hub)["recipes/energy"] == before == changed.before != changed.after


def test_what_depends_on_the_change_is_computed_and_nothing_else(hub):
    done = Hub(hub).set_recipe("energy", {"module": {"epochs": 2}}).done
    assert {entry.kind for entry in done if entry.action == "derived"} == {"module"}
    assert Hub(hub).update() == []


def test_a_recipe_that_comes_back_computes_nothing(hub):
    first = refs(hub)["recipes/energy"]
    Hub(hub).set_recipe("energy", {"module": {"epochs": 2}})
    back = Hub(hub).set_recipe("energy", None)  # the task started with the hub's own
    assert back.after == first
    assert [entry for entry in back.done if entry.action == "derived"] == []
    assert {entry.action for entry in back.done} == {"module"}


def test_without_an_update_the_plan_has_it(hub):
    Hub(hub).set_recipe("energy", {"kernel": {"ridges": [0.5]}}, compose=False)
    assert {step.kind for step in Hub(hub).plan() if step.status == "stale"} == {"learner"}


def test_settings_of_a_later_release_are_not_added_to_a_pinned_document(hub):
    with Store.open(hub, write=True) as store, store.transaction("older") as transaction:
        before = store.ref("recipes/energy")
        older = json.loads(json.dumps(store.record(before)))
        del older["kernel"]["cv_folds"]
        digest = transaction.put_record(older)
        transaction.move_ref("recipes/energy", digest, expected=before)
    changed = Hub(hub).set_recipe("energy", {"module": {"epochs": 2}}, compose=False)
    assert list(changed.changes) == ["module.epochs"]
    with Store.open(hub) as store:
        assert "cv_folds" not in store.record(changed.after)["kernel"]


def test_the_same_settings_again_change_nothing(hub):
    changed = Hub(hub).set_recipe("energy", {"module": {"epochs": 3}})
    assert (changed.changes, changed.done, changed.after) == ({}, (), changed.before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernal": {}}, "'kernal' is unknown"),
        ({"module": {"epochs": 0}}, "at least 1"),
        ({"module": 3}, "expected a section"),
        ({"adapter_width": 16}, "the hub's is 32"),
    ],
)
def test_what_cannot_be_set_is_refused(hub, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        Hub(hub).set_recipe("energy", settings)


def test_a_task_that_is_not_there_is_named(hub):
    with pytest.raises(NotFoundError, match="did you mean 'energy'"):
        Hub(hub).set_recipe("enrgy", None)
