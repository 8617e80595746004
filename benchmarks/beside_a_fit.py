"""How long `add-data` takes at 50 random moments of a pass that fits, and what becomes of the fit.

The passes are processes of their own, as a daemon or cron starts them; rows come to the tasks that
are fitted. In the end the hub must be the one in which the same rows came first and one pass after.
On a busy machine, `chrt -R -r 1` gives the command real-time priority, and the passes none.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import at_most
from benchmarks.planned_nights import made_up_row
from moma_cl.hub import Hub
from moma_cl.recipe import Recipe, TrainingSettings
from moma_cl.reconciling.pass_actions import PassAction
from moma_cl.reconciling.pass_lock import LOCK
from moma_store.locking import FileLock
from moma_store.store import Store

N_MOMENTS = 50
AT_ONCE = 8  # moments in one pass
PAUSE = 1.5  # s, the longest between two of them
FIRST_ROWS = 200
EPOCHS = 60
BAR = 1.0  # s

_TASKS = ("task_00", "task_01")
_DERIVED = ("tasks/", "datasets/", "recipes/", "compositions/", "modules/", "fitted/")
_PASS = "import sys; from moma_cl.hub import Hub; Hub(sys.argv[1]).update()"


def run() -> list[dict[str, Any]]:
    """Add rows during passes, and once more with no pass."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        hub, other = Path(folder) / "hub", Path(folder) / "other"
        _make_hub(hub)
        shutil.copytree(hub, other)
        added: list[tuple[str, int]] = []
        during: list[float] = []
        rounds = 0
        while len(during) < N_MOMENTS:
            seconds = _beside_a_pass(hub, generator, added)
            during += seconds
            rounds += 1
        alone = [_add(other, task, number)[0] for task, number in added]
        Hub(hub).update()
        Hub(other).update()
        differing = _state(hub).items() ^ _state(other).items()
    name = f"add-data at {len(during)} random moments of {rounds} passes that fit"
    return [
        at_most(f"{name}: the longest", max(during), None, "s", max(during), BAR),
        at_most(
            f"{name}: the median; with no pass",
            statistics.median(during),
            statistics.median(alone),
            "s",
            statistics.median(during) / statistics.median(alone),
            None,
        ),
        at_most(f"{name}: refs that differ", len(differing), None, "refs", len(differing), 0),
    ]


def _beside_a_pass(
    hub: Path, generator: random.Random, added: list[tuple[str, int]]
) -> list[float]:
    """Start a pass and add a row several times while it goes on; give how long each took, s."""
    process = subprocess.Popen([sys.executable, "-c", _PASS, str(hub)])
    while not FileLock.is_held(hub / LOCK) and process.poll() is None:
        time.sleep(0.01)
    during = []
    for _ in range(AT_ONCE):
        time.sleep(generator.uniform(0.0, PAUSE))
        task, number = generator.choice(_TASKS), FIRST_ROWS + len(added)
        seconds, beside = _add(hub, task, number)
        added.append((task, number))
        if beside:
            during.append(seconds)
    if process.wait():
        raise RuntimeError(f"the pass exited {process.returncode}")
    stale = Hub(hub).plan()
    if during and stale and len(during) == AT_ONCE:
        raise RuntimeError(f"the pass left {stale[0]}")
    return during


def _add(hub: Path, task: str, number: int) -> tuple[float, bool]:
    """Add a row; give how long that took, s, and whether a pass was going on."""
    start = time.perf_counter()
    added = Hub(hub).add_data(
        task, [made_up_row(task, number)], compose=FileLock.is_held(hub / LOCK)
    )
    seconds = time.perf_counter() - start
    if added.added != 1:
        raise RuntimeError(f"{added.added} rows were added to {task}, expected 1")
    return seconds, PassAction.LEFT_TO_ANOTHER in {entry.action for entry in added.done}


def _state(hub: Path) -> dict[str, str]:
    with Store.open(hub) as store:
        refs = store.refs()
    return {name: digest for name, digest in refs.items() if name.startswith(_DERIVED)}


def _make_hub(hub: Path) -> None:
    settings = TrainingSettings(epochs=EPOCHS, batch_size=32, patience=EPOCHS)
    recipe = Recipe(threads=1, worth_it=-1.0, finetune=settings, module=settings)
    Hub(hub).init(backbone="cgcnn", recipe=recipe)
    for task in _TASKS:
        rows = [made_up_row(task, number) for number in range(FIRST_ROWS)]
        Hub(hub).add_task(task, rows, target="value", unit="1", compose=False)
