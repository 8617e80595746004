"""Small made-up crystals and hubs for all tests, and the count of the faults they survive."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from moma_cl.recipe import ModuleSettings, Recipe, TrainingSettings

ALKALI = ("Li", "Na", "K", "Rb", "Cs")
ALKALINE = ("Mg", "Ca", "Sr", "Ba")
HALOGENS = ("F", "Cl", "Br", "I")
CHALCOGENS = ("O", "S", "Se", "Te")
RADII = dict(
    zip((*ALKALI, *ALKALINE, *HALOGENS, *CHALCOGENS), np.linspace(0.7, 2.2, 17), strict=True)
)


def rocksalt(cation: str, anion: str, strain: float = 0.0) -> dict[str, object]:
    """The primitive cell of a rocksalt, its lattice constant made from made-up radii."""
    half = (RADII[cation] + RADII[anion]) * (1.0 + strain)
    lattice = [[0.0, half, half], [half, 0.0, half], [half, half, 0.0]]
    return {
        "lattice": lattice,
        "species": [cation, anion],
        "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
    }


def made_up_rows(n_rows: int, *, first: int = 0) -> list[dict[str, object]]:
    """Rocksalts under various strains, with targets that depend on size and strain."""
    pairs = [(c, a) for c in ALKALI for a in HALOGENS] + [
        (c, a) for c in ALKALINE for a in CHALCOGENS
    ]
    rows = []
    for index in range(first, first + n_rows):
        cation, anion = pairs[index % len(pairs)]
        strain = 0.01 * (index // len(pairs))
        size = (RADII[cation] + RADII[anion]) * (1.0 + strain)
        rows.append(
            {
                "id": f"row-{index}",
                "structure": rocksalt(cation, anion, strain),
                "energy": -3.0 / size + 0.1 * RADII[anion],
                "modulus": float(np.exp(4.0 - size)),
                "gap": RADII[cation] / RADII[anion],
            }
        )
    return rows


@pytest.fixture(scope="session")
def made_up():
    """Rows by number, as dictionaries."""
    return made_up_rows


@pytest.fixture
def write_rows(tmp_path):
    """Write rows as JSON lines and give the path."""

    def write(rows: list[dict[str, object]], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="session")
def short_recipe() -> Recipe:
    """One thread, and trainings of a second."""
    training = TrainingSettings(epochs=3, batch_size=32, patience=3)
    return Recipe(
        threads=1, finetune=training, module=ModuleSettings(epochs=3, batch_size=32, patience=3)
    )


@pytest.fixture
def graph_processes(monkeypatch):
    """The processes that are started to build graphs."""
    from moma_cl.graphs import build

    processes = []
    original = build._started

    def start(name):
        processes.append(original(name))
        return processes[-1]

    monkeypatch.setattr(build, "_started", start)
    return processes


_REACHED = pytest.StashKey[list[str]]()


@pytest.fixture
def reached(request):
    """Call with a line to be printed once the run is over."""
    lines = request.config.stash.setdefault(_REACHED, [])
    return lines.append


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))


def pytest_terminal_summary(terminalreporter, config):
    lines = list(config.stash.get(_REACHED, []))
    cases = Counter(
        fault
        for report in terminalreporter.stats.get("passed", [])
        for name, fault in report.user_properties
        if name == "fault"
    )
    lines += [f"{fault}: {number}" for fault, number in sorted(cases.items())]
    if lines:
        terminalreporter.section("faults survived")
        for line in lines:
            terminalreporter.line(line)
