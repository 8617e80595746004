"""The demo from the command line, from nothing to predictions."""

import json
import subprocess
import sys

import pytest

from moma_cl.demo.data import MEASURED
from moma_cl.demo.demo import SETTINGS
from moma_cl.recipe import Recipe
from moma_cli.parameters import read_recipe


def moma_cl(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "moma_cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_recipe_file_repeats_the_demo_by_hand(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(dict(SETTINGS)))
    assert read_recipe(file, Recipe().to_doc()) == Recipe.from_doc(SETTINGS)


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    ended = moma_cl("demo", ".", cwd=tmp_path)
    assert ended.returncode == 4
    assert "not an empty folder" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_demo_leaves_a_hub_that_answers_and_a_picture(tmp_path):
    ended = moma_cl("demo", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "unchanged, bit for bit" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert "failed  " not in ended.stdout
    folder = tmp_path / "moma-demo"
    assert (folder / "weights.png").stat().st_size > 10_000

    listed = json.loads(moma_cl("--hub", folder / "hub", "--json", "tasks", cwd=tmp_path).stdout)
    assert {task["name"] for task in listed["data"]} == {measured.task for measured in MEASURED}
    modules = json.loads(moma_cl("--hub", folder / "hub", "--json", "modules", cwd=tmp_path).stdout)
    assert len(modules["data"]) == len(MEASURED)

    # by far outside of pure elements, while silicon is one of them
    rows = [line.split() for line in ended.stdout.splitlines() if line.endswith("has seen")]
    verdicts = {row[0]: "outside" in row for row in rows}
    assert verdicts == {"Si": False, "GaAs": True, "NaCl": True, "TiO2-rutile": True}

    plan = json.loads(moma_cl("--hub", folder / "hub", "--json", "plan", cwd=tmp_path).stdout)
    assert plan["status"] == "ok"
