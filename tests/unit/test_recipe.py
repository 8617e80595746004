"""Recipes."""

import json

import pytest

from moma_cl.recipe import Recipe, default_recipe
from moma_store.errors import InvalidInputError


def test_a_recipe_survives_its_record():
    recipe = default_recipe()
    assert Recipe.from_doc(json.loads(json.dumps(recipe.to_doc()))) == recipe


def test_settings_that_are_not_given_take_their_defaults():
    recipe = Recipe.from_doc({"finetune": {"epochs": 7}, "threads": 3})
    assert recipe.finetune.epochs == 7
    assert recipe.finetune.batch_size == Recipe().finetune.batch_size
    assert recipe.threads == 3


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ({"finetune": {"epoch": 7}}, "'finetune.epoch' is unknown"),
        ({"fine": {}}, "'fine' is unknown"),
        ({"finetune": {"epochs": "7"}}, "'finetune.epochs' is '7'"),
        ({"finetune": {"epochs": True}}, "'finetune.epochs' is True"),
        ({"finetune": 7}, "expected a section"),
        ({"kernel": {"ridges": [1, "x"]}}, "a list of numbers"),
    ],
)
def test_a_wrong_setting_is_named(doc, said):
    with pytest.raises(InvalidInputError, match=said):
        Recipe.from_doc(doc)


def test_a_section_carries_the_threads_since_rounding_depends_on_them():
    assert Recipe(threads=5).section("weights")["threads"] == 5
    assert Recipe(threads=5).section("weights") != Recipe(threads=6).section("weights")
    kernel_differs = Recipe.from_doc({"kernel": {"max_rows": 5}})
    assert kernel_differs.section("weights", "threads") == Recipe().section("weights", "threads")


def test_whole_numbers_are_good_for_real_settings():
    assert Recipe.from_doc({"worth_it": 0}).worth_it == 0.0
