"""Recipes."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import pytest

from moma_cl.recipe import Recipe, section
from moma_store.errors import InvalidInputError


def test_a_recipe_survives_its_record():
    recipe = Recipe.from_doc({"kernel": {"ridges": [1, 2]}, "threads": 3})
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
        ({"estimate": {"estimator": "kNN"}}, "expected 'knn', 'ridge'"),
        ({"estimate": {"version": 99}}, "'estimate.version' is 99"),
        ({"estimate": {"k": 0}}, "at least 1"),
        ({"threads": 0}, "'threads' is 0; expected at least 1"),
    ],
)
def test_a_wrong_setting_is_named(doc, said):
    with pytest.raises(InvalidInputError, match=said):
        Recipe.from_doc(doc)


def test_a_section_carries_the_threads_since_rounding_depends_on_them():
    five, six = (section(Recipe(threads=n).to_doc(), "weights") for n in (5, 6))
    assert five["threads"] == 5
    assert five != six
    kernel_differs = Recipe.from_doc({"kernel": {"max_rows": 5}})
    assert section(kernel_differs.to_doc(), "weights") == section(Recipe().to_doc(), "weights")


def test_a_setting_that_a_later_release_brings_changes_no_key():
    document = Recipe().to_doc()
    del document["kernel"]["max_rows"]
    assert "max_rows" not in section(document, "kernel")["kernel"]
    assert Recipe.from_doc(document).kernel.max_rows == Recipe().kernel.max_rows


def test_whole_numbers_are_good_for_real_settings():
    assert Recipe.from_doc({"worth_it": 0}).worth_it == 0.0


def numbers(settings: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Name every setting that is a number or, second, a list of numbers."""
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            yield from numbers(value, (*path, entry.name))
        elif not isinstance(value, bool | str):
            yield (*path, entry.name), isinstance(value, tuple)


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, 1e300, -1e300, 10**400, -(10**40)]
)
def test_no_number_may_be_endless_or_absurd(value):
    settings = list(numbers(Recipe()))
    assert len(settings) > 50
    for path, listed in settings:
        document = [value] if listed else value
        for name in reversed(path):
            document = {name: document}
        with pytest.raises(InvalidInputError, match=f"recipe setting '{'.'.join(path)}' is "):
            Recipe.from_doc(document)


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ({"predictor": {"interval_level": 1.0}}, "less than 1"),
        ({"predictor": {"interval_level": 0}}, "more than 0"),
        ({"finetune": {"ema_decay": 1.0}}, "less than 1"),
        ({"kernel": {"ridges": [1e-3, 0.0]}}, "'kernel.ridges' is 0.0; expected more than 0"),
        ({"kernel": {"ridges": []}}, "'kernel.ridges' is empty"),
        ({"module": {"rounded_bits": 17}}, "at most 16"),
        ({"threads": 2**31}, "at most 1024"),
    ],
)
def test_the_ends_of_ranges(doc, said):
    with pytest.raises(InvalidInputError, match=said):
        Recipe.from_doc(doc)


def test_good_ends_of_ranges():
    doc = {
        "kernel": {"readout_weights": [], "readouts_worth": -1.0},
        "finetune": {"rounded_bits": 0, "warmup": 1, "ema_decay": 0, "head_learning_rate": 0.0},
        "worth_it": -1,
        "retrain_factor": 1,
    }
    assert Recipe.from_doc(Recipe.from_doc(doc).to_doc()) == Recipe.from_doc(doc)
