"""What the front door costs: importing the package, and a warm answer for one structure.

The last row compares a thousand structures from memory with the same as a file on the command line.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

from moma_cl import Hub
from moma_cl.recipe import Recipe, TrainingSettings

REPEATS = 15
N_ROWS = 160
N_STRUCTURES = 1000


def run() -> list[dict[str, Any]]:
    """Measure, ours and a bare Python in turn."""
    ours, bare = _medians("import moma_cl"), _medians("pass")
    rows = [_row("import moma_cl, more than bare Python", ours - bare, 0.030)]
    with tempfile.TemporaryDirectory() as folder:
        hub = _hub(Path(folder))
        structure = _structure(3)
        structure.make_supercell([[2, 0, 0], [0, 2, 0], [0, 0, 1]])
        hub.predict("y", [structure])
        rows.append(_row("Hub.predict warm, 8 atoms", _median(hub, structure), 0.015))
        rows.append(_same_bits(hub, Path(folder)))
    return rows


def _row(name: str, seconds: float, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": seconds,
        "theirs": None,
        "unit": "s",
        "ratio": None,
        "bar": f"<= {bar} s",
        "holds": seconds <= bar,
    }


def _medians(code: str) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _median(hub: Hub, structure: Structure) -> float:
    seconds = []
    for _ in range(10 * REPEATS):
        start = time.perf_counter()
        hub.predict("y", [structure])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _hub(folder: Path) -> Hub:
    """Make a hub of CHGNet with one task, whose first predictor answers."""
    training = TrainingSettings(epochs=1)
    recipe = Recipe(threads=1, finetune=training, module=training)
    hub = Hub.create(folder / "hub", backbones=["chgnet"], recipe=recipe, starter=False)
    rows = [{"id": str(i), "structure": _structure(i), "y": 1 / (2 + i)} for i in range(N_ROWS)]
    hub.add_task("y", rows, target="y", unit="1")
    return hub


def _structure(index: int) -> Structure:
    species = [["Li", "Na", "K", "Rb", "Cs"][index % 5], ["F", "Cl", "Br", "I"][index // 5 % 4]]
    half = 2.0 + 0.001 * index
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, species, [[0, 0, 0], [0.5, 0.5, 0.5]])


def _same_bits(hub: Hub, folder: Path) -> dict[str, Any]:
    structures = [_structure(index) for index in range(N_STRUCTURES)]
    file = folder / "ask.jsonl"
    lines = [json.dumps({"id": str(i), "structure": s.as_dict()}) for i, s in enumerate(structures)]
    file.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "moma_cli", "--hub", str(hub.path), "predict", "y", str(file)]
    ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    by_command = [row["value"] for row in json.loads(ended.stdout)["data"]]
    by_python = hub.predict("y", structures).values.tolist()
    different = sum(a != b for a, b in zip(by_command, by_python, strict=True))
    return {
        "name": f"{N_STRUCTURES:,} structures from memory and by the command line",
        "ours": different,
        "theirs": 0,
        "unit": "answers that differ",
        "ratio": None,
        "bar": "0",
        "holds": different == 0,
    }
