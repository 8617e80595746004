"""What 10,000 deliveries of one row cost a pass, against one delivery of the same 10,000 rows.

A pass adds the rows, puts the files away with a report for each, measures drift and fits a kernel
head to the rows, the least that it can learn. What it does about the inbox
is timed by itself, too: looks, reading, storing, reports.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planned_nights import made_up_row
from moma_cl.automation import inbox
from moma_cl.automation.deliveries import add_deliveries
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.recipe import PredictorSettings, Recipe
from moma_cl.reconciling.pass_actions import PassAction
from moma_cl.records.tasks import task_state
from moma_store.store import Store

N_ROWS = 10_000
FIRST_ROWS = 30
BAR = 2.0
FLAT = 1.5  # times the cost of the first tenth that the last may cost

_TASK = "task_00"

Timed = tuple[float, list[float]]
"""Processor time, s, and the time that each delivery took, s."""


def run() -> list[dict[str, Any]]:
    """Deliver the same rows in both ways, each to a hub of its own, for each measurement."""
    name = f"{N_ROWS:,} deliveries of one row, against one of all rows"
    (ours, each), (theirs, _) = _both_ways(_inbox)
    tenth = N_ROWS // 10
    first, last = float(np.mean(each[:tenth])), float(np.mean(each[-tenth:]))
    (pass_ours, _), (pass_theirs, _) = _both_ways(_pass)
    return [
        _row(f"{name}: a pass", pass_ours, pass_theirs, bar=BAR),
        _row(f"{name}: the inbox alone", ours, theirs),
        _row("a delivery of the last tenth, against one of the first", last, first, bar=FLAT),
    ]


def _both_ways(timed: Callable[[Path], Timed]) -> tuple[Timed, Timed]:
    """Time what single rows cost, and what one file of all costs."""
    rows = [made_up_row(_TASK, number) for number in range(FIRST_ROWS, FIRST_ROWS + N_ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        single, together = Path(folder) / "single", Path(folder) / "together"
        for hub in (single, together):
            _make_hub(hub)
        for row in rows:
            _deliver(single, f"{row['id']}.jsonl", [row])
        _deliver(together, "all.jsonl", rows)
        theirs = timed(together)
        return timed(single), theirs


def _make_hub(path: Path) -> None:
    hub = Hub(path)
    # The least that can be learned: a kernel head, and no fine-tuning.
    recipe = Recipe(predictor=PredictorSettings(min_rows_training=10 * N_ROWS))
    hub.init(backbones=["cgcnn"], recipe=recipe, starter=False)
    rows = [made_up_row(_TASK, number) for number in range(FIRST_ROWS)]
    hub.add_task(_TASK, rows, target="value", unit="eV/atom", module="none", compose=False)


def _deliver(hub: Path, name: str, rows: list[dict[str, Any]]) -> None:
    file = inbox.folder_of(hub, _TASK) / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _pass(hub: Path) -> Timed:
    start = time.process_time()
    done = Hub(hub).update(settle=0.0)
    took = time.process_time() - start
    failed = [entry.text for entry in done if entry.action == PassAction.FAILED]
    if failed:
        raise RuntimeError(failed[0])
    with Store.open(hub) as store:
        _check(store)
    return took, []


def _inbox(hub: Path) -> Timed:
    with Store.open(hub, write=True) as store:
        start = time.process_time()
        done = add_deliveries(store, inbox.settled(hub, [_TASK], seconds=0.0), progress=quiet)
        took = time.process_time() - start
        _check(store)
    return took, [entry.seconds for entry in done]


def _check(store: Store) -> None:
    n_rows = task_state(store, _TASK).dataset.n_rows
    if n_rows != FIRST_ROWS + N_ROWS:
        raise RuntimeError(f"{n_rows} rows are stored, expected {FIRST_ROWS + N_ROWS}")


def _row(name: str, ours: float, theirs: float, *, bar: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": ours / theirs,
        "bar": None if bar is None else f"<= {bar:g} x",
        "holds": None if bar is None else ours <= bar * theirs,
    }
