"""Recipe files."""

import pytest

from moma_cl.recipe import Recipe
from moma_cli.parameters import read_recipe
from moma_store.errors import InvalidInputError, NotFoundError

BASE = Recipe(threads=3).to_doc()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", "worth_it = 0.5\n[finetune]\nepochs = 7\n"),
        ("r.json", '{"worth_it": 0.5, "finetune": {"epochs": 7}}'),
    ],
)
def test_a_file_changes_what_it_names_and_nothing_else(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    recipe = read_recipe(file, BASE)
    assert (recipe.worth_it, recipe.finetune.epochs, recipe.threads) == (0.5, 7, 3)
    assert recipe.module == Recipe().module


@pytest.mark.parametrize("text", ["[finetune", "[finetune]\nepoch = 1", "finetune = 3", "\xff"])
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text):
    file = tmp_path / "r.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInputError):
        read_recipe(file, BASE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", "worth_it = inf"),
        ("r.toml", "worth_it = nan"),
        ("r.toml", "[kernel]\nridges = [1.0, -inf]"),
        ("r.toml", f"threads = {10**100}"),
        ("r.json", '{"worth_it": Infinity}'),
        ("r.json", '{"worth_it": 1e999}'),
        ("r.json", '{"finetune": {"head_learning_rate": NaN}}'),
        ("r.json", f'{{"finetune": {{"epochs": {"9" * 5000}}}}}'),
        ("r.json", "[" * 100_000),
        ("r.toml", "a = " + "[" * 100_000),
    ],
)
def test_endless_numbers_and_nesting_are_refused(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(InvalidInputError):
        read_recipe(file, BASE)


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="absent"):
        read_recipe(tmp_path / "absent.toml", BASE)
