"""The program in processes of its own, and one small hub that all its tests read."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
threads = 1
[finetune]
epochs = 1
[module]
epochs = 1
"""
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("MOMA_CL_", "PYTHON"))
} | {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The one JSON object on stdout; more or less than one fails."""
        return json.loads(self.out)


class Program:
    """Calls ``moma-cl`` for one hub."""

    def __init__(self, hub: Path) -> None:
        self.hub = hub

    def command(self, *arguments: object) -> list[str]:
        """The whole command line."""
        return [sys.executable, "-m", "moma_cli", "--hub", str(self.hub), *map(str, arguments)]

    def __call__(self, *arguments: object) -> Ended:
        ended = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def ok(self, *arguments: object) -> Ended:
        """Call, and insist on success."""
        ended = self(*arguments)
        assert ended.code == 0, ended
        return ended

    def json(self, *arguments: object) -> Any:
        """Call with ``--json``, insist on success, and give the data."""
        return self.ok(*arguments, "--json").envelope["data"]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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
    write(folder / "first.jsonl", [*made_up(60), overlapping])
    write(folder / "more.jsonl", made_up(8, first=60))
    asked = made_up(3, first=80)
    write(folder / "ask.jsonl", [asked[0], overlapping, asked[1], asked[2]])
    write(folder / "bad.jsonl", [overlapping])
    return folder


@pytest.fixture(scope="session")
def made_hub(tmp_path_factory, inputs) -> tuple[Program, dict[str, Ended]]:
    """A hub with the tasks ``energy`` and ``gap``, and what making it printed."""
    program = Program(tmp_path_factory.mktemp("hubs") / "hub")
    said = {
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
    return program, said


@pytest.fixture(scope="session")
def hub(made_hub) -> Program:
    """The program on the hub that all tests share; they only read it."""
    return made_hub[0]


@pytest.fixture
def own_hub(hub, tmp_path) -> Program:
    """The program on a copy of the hub, to be changed."""
    return Program(Path(shutil.copytree(hub.hub, tmp_path / "hub")))
