"""What a laboratory brings to each night of a year: new tasks, deliveries, corrections."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

FIRST_ROWS = 36  # of a new task
ALKALI, HALOGENS = ("Li", "Na", "K", "Rb", "Cs"), ("F", "Cl", "Br", "I")
ALKALINE, CHALCOGENS = ("Mg", "Ca", "Sr", "Ba"), ("O", "S", "Se", "Te")
RADII = {
    name: 0.7 + 0.1 * place
    for place, name in enumerate((*ALKALI, *ALKALINE, *HALOGENS, *CHALCOGENS))
}
PAIRS = [(c, a) for c in ALKALI for a in HALOGENS] + [(c, a) for c in ALKALINE for a in CHALCOGENS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What happens in one night, the same in both runs."""

    number: int
    new_task: str | None
    deliveries: tuple[tuple[str, str, list[dict[str, Any]]], ...]  # folder, file, rows
    retracted: tuple[str, tuple[str, ...]] | None  # task, ids


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What should be in the hub: targets by id, of each task."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    written: int = 0


def plan_year(nights: int, seed: int) -> tuple[list[Night], Ledger]:
    """Draw a year; what is drawn depends on the seed alone."""
    draw, ledger = random.Random(seed), Ledger()
    return [_plan_night(number, draw, ledger) for number in range(nights)], ledger


def _plan_night(number: int, draw: random.Random, ledger: Ledger) -> Night:
    new = f"task_{number // 7:02d}" if number % 7 == 0 else None
    deliveries: list[tuple[str, str, list[dict[str, Any]]]] = []
    if new is not None:
        ledger.rows[new] = {}
        _take(ledger, new, range(FIRST_ROWS))
    for task in draw.sample(sorted(ledger.rows), k=1) if draw.random() < 0.7 else ():
        first = FIRST_ROWS + 1000 * number
        rows = _take(ledger, task, range(first, first + draw.randint(2, 6)))
        deliveries.append((task, f"night-{number:03d}.jsonl", rows))
    if draw.random() < 0.1:  # a correction; its file is named to come after the night's own
        task = draw.choice(sorted(ledger.rows))
        row = made_up_row(task, _number(draw.choice(sorted(ledger.rows[task]))), number)
        ledger.rows[task][row["id"]] = row["value"]
        ledger.written += 1
        deliveries.append((f"{task}/replace", f"night-{number:03d}.mended.jsonl", [row]))
    retracted = None
    if draw.random() < 0.1:
        task = draw.choice(sorted(ledger.rows))
        ids = tuple(draw.sample(sorted(ledger.rows[task]), k=2))
        for row_id in ids:
            del ledger.rows[task][row_id]
        retracted = (task, ids)
    return Night(number=number, new_task=new, deliveries=tuple(deliveries), retracted=retracted)


def _take(ledger: Ledger, task: str, numbers: range) -> list[dict[str, Any]]:
    rows = [made_up_row(task, number) for number in numbers]
    ledger.rows[task].update({row["id"]: row["value"] for row in rows})
    ledger.written += len(rows)
    return rows


def _number(row_id: str) -> int:
    return int(row_id.rpartition("-")[2])


def made_up_row(task: str, number: int, mended: int = 0) -> dict[str, Any]:
    """Make a rock salt under strain; every task weighs size and anion in its own way."""
    cation, anion = PAIRS[number % len(PAIRS)]
    strain = 0.002 * (number // len(PAIRS) % 50) + 1e-5 * (number // 1000)
    half = (RADII[cation] + RADII[anion]) * (1.0 + strain)
    taste = int(task.rpartition("_")[2])
    value = -3.0 / half + 0.02 * taste * RADII[anion] + 0.01 * ((number * 7 + taste) % 5) / 5
    lattice = [[0.0, half, half], [half, 0.0, half], [half, half, 0.0]]
    structure = {
        "lattice": lattice,
        "species": [cation, anion],
        "frac_coords": [[0.0] * 3, [0.5] * 3],
    }
    return {"id": f"r-{number}", "structure": structure, "value": value + 1e-3 * mended}
