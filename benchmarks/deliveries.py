"""What 10,000 deliveries of one row cost, against one delivery of the same 10,000 rows.

What is timed is what a pass does about the inbox: it looks twice, reads the rows, stores them, and
puts the files away with their reports. What is learned from the rows is the same on both sides.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated_year import made_up_row
from moma_cl.automation import inbox
from moma_cl.automation.deliveries import add_deliveries
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.records.tasks import task_state
from moma_store.store import Store

N_ROWS = 10_000
FIRST_ROWS = 30
BAR = 2.0
FLAT = 1.5  # times the cost of the first tenth that the last may cost

_TASK = "task_00"


def run() -> list[dict[str, Any]]:
    """Deliver the same rows in both ways, each to a hub of its own."""
    rows = [made_up_row(_TASK, number) for number in range(FIRST_ROWS, FIRST_ROWS + N_ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        single, together = Path(folder) / "single", Path(folder) / "together"
        for hub in (single, together):
            _make_hub(hub)
        for row in rows:
            _deliver(single, f"{row['id']}.jsonl", [row])
        _deliver(together, "all.jsonl", rows)
        (theirs, cpu_theirs), _ = _timed(together)
        (ours, cpu_ours), each = _timed(single)
    name = f"{N_ROWS:,} deliveries of one row, against one of all rows"
    tenth = N_ROWS // 10
    first, last = float(np.mean(each[:tenth])), float(np.mean(each[-tenth:]))
    return [
        _row(name, ours, theirs, bar=BAR),
        _row(f"{name}: processor time", cpu_ours, cpu_theirs, bar=BAR),
        _row("a delivery of the last tenth, against one of the first", last, first, bar=FLAT),
    ]


def _make_hub(path: Path) -> None:
    hub = Hub(path)
    hub.init(backbone="cgcnn", starter=False)
    rows = [made_up_row(_TASK, number) for number in range(FIRST_ROWS)]
    hub.add_task(_TASK, rows, target="value", unit="eV/atom", module="none", compose=False)


def _deliver(hub: Path, name: str, rows: list[dict[str, Any]]) -> None:
    file = inbox.folder_of(hub, _TASK) / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _timed(hub: Path) -> tuple[tuple[float, float], list[float]]:
    """Give the time and processor time that the inbox takes, s, and the time of each delivery."""
    with Store.open(hub, write=True) as store:
        start, cpu = time.perf_counter(), time.process_time()
        done = add_deliveries(store, inbox.settled(hub, [_TASK], seconds=0.0), progress=quiet)
        took = time.perf_counter() - start, time.process_time() - cpu
        n_rows = task_state(store, _TASK).dataset.n_rows
    if n_rows != FIRST_ROWS + N_ROWS:
        raise RuntimeError(f"{n_rows} rows are stored, expected {FIRST_ROWS + N_ROWS}")
    return took, [entry.seconds for entry in done]


def _row(name: str, ours: float, theirs: float, *, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": ours / theirs,
        "bar": f"<= {bar:g} x",
        "holds": ours <= bar * theirs,
    }
