"""What a command costs that has nothing to do: ``--help``, and ``plan`` and ``update`` of a hub."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from moma_cl.hub import Hub
from moma_cl.recipe import KernelSettings, Recipe, TrainingSettings

N_TASKS = 20
N_ROWS = 40
REPEATS = 15
HEAVY = ("torch", "zarr", "scipy", "pymatgen", "clarabel", "pint")

BARE = "pass"
EMPTY_TYPER = """
import sys
import typer
app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
for number in range({n_commands}):
    @app.command(f"command-{{number}}")
    def command() -> None:
        "Do nothing."
sys.argv = ["program", "--help"]
app()
"""


def run() -> list[dict[str, Any]]:
    """Measure medians, ours and theirs in turn."""
    n_commands = len([line for line in _help().splitlines() if line.startswith("  ")]) - 7
    empty = EMPTY_TYPER.format(n_commands=n_commands)
    ours, theirs = _medians([["-m", "moma_cli", "--help"], ["-c", empty]])
    rows = [_row("moma-cl --help, against an empty Typer program", ours, theirs, 1.3)]
    with tempfile.TemporaryDirectory() as folder:
        hub = _hub(Path(folder))
        before = _files(hub)
        for command in ("plan", "update"):
            arguments = ["-m", "moma_cli", "--hub", str(hub), command]
            ours, bare = _medians([arguments, ["-c", BARE]])
            name = f"{command}, {N_TASKS} tasks, nothing stale, more than a bare start"
            rows.append(
                {
                    "name": name,
                    "ours": ours,
                    "theirs": bare,
                    "unit": "s",
                    "ratio": ours - bare,
                    "bar": "<= 0.3 s more",
                    "holds": ours - bare <= 0.3,
                }
            )
            rows.append(_imports(name, arguments))
        rows.append(
            {
                "name": "files that changed meanwhile, but the record of passes",
                "ours": sum(_files(hub).get(k) != v for k, v in before.items()),
                "theirs": 0,
                "unit": "files",
                "ratio": None,
                "bar": "0",
                "holds": _files(hub) == before,
            }
        )
    return rows


def _row(name: str, ours: float, theirs: float, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": ours / theirs,
        "bar": f"<= {bar} x",
        "holds": ours <= bar * theirs,
    }


def _imports(name: str, arguments: list[str]) -> dict[str, Any]:
    code = (
        "import sys, runpy; sys.argv = ['moma-cl'] + sys.argv[1:]\n"
        "try:\n runpy.run_module('moma_cli', run_name='__main__')\n"
        f"finally:\n print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments[2:]], capture_output=True, text=True, check=False
    )
    found = json.loads(ended.stderr.strip().splitlines()[-1].replace("'", '"'))
    return {
        "name": f"{name}: heavy imports",
        "ours": len(found),
        "theirs": 0,
        "unit": "modules",
        "ratio": None,
        "bar": "0",
        "holds": not found,
    }


def _help() -> str:
    return subprocess.run(
        [sys.executable, "-m", "moma_cli", "--help"], capture_output=True, text=True, check=True
    ).stdout


def _medians(commands: list[list[str]]) -> list[float]:
    """Median seconds of each, run in turn."""
    seconds: list[list[float]] = [[] for _ in commands]
    for _ in range(REPEATS):
        for command, measured in zip(commands, seconds, strict=True):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]


def _hub(folder: Path) -> Path:
    """Make a hub with many small tasks, each with a module, and bring it up to date."""
    training = TrainingSettings(epochs=1)
    recipe = Recipe(
        threads=1,
        finetune=training,
        module=TrainingSettings(epochs=1),
        kernel=KernelSettings(ridges=(1e-2,)),
    )
    hub = folder / "hub"
    Hub(hub).init(backbones=["cgcnn"], recipe=recipe)
    for number in range(N_TASKS):
        path = folder / f"{number}.jsonl"
        path.write_text("".join(json.dumps(_rocksalt(i, number)) + "\n" for i in range(N_ROWS)))
        Hub(hub).add_task(f"task-{number}", [path], target="y", unit="1", compose=False)
    Hub(hub).update()
    return hub


def _rocksalt(index: int, number: int) -> dict[str, Any]:
    half = 2.0 + 0.02 * index
    species = [["Li", "Na", "K", "Rb", "Cs"][index % 5], ["F", "Cl", "Br", "I"][index // 5 % 4]]
    return {
        "id": f"row-{index}",
        "structure": {
            "lattice": [[0, half, half], [half, 0, half], [half, half, 0]],
            "species": species,
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        },
        "y": half ** (1 + number / 10),
    }


def _files(hub: Path) -> dict[str, bytes]:
    """Read every file that a write would change; LMDB's lock table is for readers too.

    A pass with nothing to do is recorded as well, for `status`.
    """
    paths = [path for path in hub.rglob("*") if path.is_file()]
    skipped = {"lock.mdb", "writer.lock", "pass.lock", "passes.json"}
    return {str(path): path.read_bytes() for path in paths if path.name not in skipped}
