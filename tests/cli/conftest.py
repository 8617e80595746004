"""One small hub that all tests of the program read."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.processes import Ended, Program
from tests.helpers.rows import write_rows

RECIPE = """
threads = 1
[finetune]
epochs = 1
[module]
epochs = 1
"""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, made_up) -> Path:
    """A folder of rows: ``first``, ``more``, ``ask`` with a bad row in it, and a recipe."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "fast.toml").write_text(RECIPE)
    overlapping = {**made_up(1)[0], "id": "overlap"}
    overlapping["structure"] = {
        "lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "species": ["Na", "Cl"],
        "frac_coords": [[0, 0, 0], [0, 0, 0.01]],
    }
    write_rows(folder / "first.jsonl", [*made_up(60), overlapping])
    write_rows(folder / "more.jsonl", made_up(8, first=60))
    asked = made_up(3, first=80)
    write_rows(folder / "ask.jsonl", [asked[0], overlapping, asked[1], asked[2]])
    write_rows(folder / "bad.jsonl", [overlapping])
    return folder


@pytest.fixture(scope="session")
def made_hub(tmp_path_factory, inputs) -> tuple[Program, dict[str, Ended]]:
    """A hub with the tasks ``energy`` and ``gap``, and what making it printed."""
    program = Program(tmp_path_factory.mktemp("hubs") / "hub")
    printed = {
        "init": program.ok("init", "--backbone", "cgcnn", "--recipe", inputs / "fast.toml"),
        "energy": program.ok(
            *("add-task", "energy", inputs / "first.jsonl", "--target", "energy"),
            *("--unit", "eV/atom", "--report", inputs / "refused.json"),
        ),
        "gap": program.ok(
            *("add-task", "gap", inputs / "first.jsonl", "--target", "gap"),
            *("--unit", "eV", "--property", "band gap", "--module", "none", "--json"),
        ),
    }
    return program, printed


@pytest.fixture(scope="session")
def hub(made_hub) -> Program:
    """The program on the hub that all tests share; they only read it."""
    return made_hub[0]


@pytest.fixture
def own_hub(hub, tmp_path) -> Program:
    """The program on a copy of the hub, to be changed."""
    return Program(Path(shutil.copytree(hub.hub, tmp_path / "hub")))
