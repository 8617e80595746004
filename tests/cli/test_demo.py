"""The demo from the command line, from nothing to predictions."""

import json

import pytest

from moma_cl.demo.data import MEASURED
from moma_cl.demo.demo import SETTINGS
from moma_cl.recipe import Recipe
from moma_cli.parameters import read_recipe
from tests.helpers.processes import moma_cl


def test_the_recipe_file_repeats_the_demo_by_hand(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(dict(SETTINGS)))
    assert read_recipe(file, Recipe().to_doc()) == Recipe.from_doc(SETTINGS)


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    ended = moma_cl("demo", ".", cwd=tmp_path)
    assert ended.code == 4
    assert "not an empty folder" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_demo_leaves_a_hub_that_answers_and_a_picture(tmp_path):
    ended = moma_cl("demo", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "unchanged, bit for bit" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 100
    assert "failed  " not in ended.out
    folder = tmp_path / "moma-demo"
    assert (folder / "weights.png").stat().st_size > 10_000

    listed = moma_cl("--hub", folder / "hub", "--json", "tasks").envelope
    assert {task["name"] for task in listed["data"]} == {measured.task for measured in MEASURED}
    modules = moma_cl("--hub", folder / "hub", "--json", "modules").envelope
    assert len(modules["data"]) == len(MEASURED)

    # by far outside of pure elements, while silicon is one of them
    rows = [line.split() for line in ended.out.splitlines() if line.endswith("has seen")]
    verdicts = {row[0]: "outside" in row for row in rows}
    assert verdicts == {"Si": False, "GaAs": True, "NaCl": True, "TiO2-rutile": True}

    plan = moma_cl("--hub", folder / "hub", "--json", "plan").envelope
    assert plan["status"] == "ok"
