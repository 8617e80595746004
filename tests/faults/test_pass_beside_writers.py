"""Rows come and tasks change, from another process, at any moment of a pass; it may be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moma_cl.commands import maintenance
from moma_cl.hub import Hub
from moma_cl.reconciling.pass_lock import LOCK
from moma_store.locking import FileLock
from tests.helpers import hubs
from tests.helpers.hubs import refs
from tests.helpers.processes import answering
from tests.helpers.rows import made_up_rows

# Forks an update for each line "HUB": each of its derivations takes 0.3 s longer. It answers with
# the process that makes the pass; "wait" answers with its exit status.
NURSERY = """
import os, sys, time
from pathlib import Path
import moma_cl.derivations.predictor, moma_cl.derivations.promotion, moma_cl.automation.drift
from moma_cl.derivations import derive
from moma_cl.hub import Hub

def slow(workspace, derivations, derive_all=derive.derive_all):
    time.sleep(0.3)
    return derive_all(workspace, derivations)

print("ready", flush=True)
child = 0
for line in sys.stdin:
    if line.strip() == "wait":
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = 1
        try:
            derive.derive_all = slow
            Hub(Path(line.strip())).update()
            code = 0
        finally:
            os._exit(code)
    print(child, flush=True)
"""

SECONDS = 5.0  # s, in which each command answers on a machine that is busy; benchmarks ask for 1
DERIVED = ("tasks/", "datasets/", "recipes/", "compositions/", "modules/", "fitted/")


@pytest.fixture(scope="module")
def stale_hub(tmp_path_factory):
    """A hub with two tasks of which only the first answers are known."""
    recipe = hubs.short_recipe(1, worth_it=-1.0)
    hub = hubs.make_hub(tmp_path_factory.mktemp("stale") / "hub", recipe)
    for target in ("energy", "gap"):
        hubs.add_task(hub, target, 60, compose=False)
    return hub


@pytest.fixture(scope="module")
def nursery():
    with answering(NURSERY) as ask:
        yield ask


def commands(generator: random.Random) -> list[Callable[[Path], object]]:
    """Draw commands that change the two tasks, in an order that makes sense."""
    n_rows, retracted = generator.randint(1, 8), generator.randint(0, 59)
    chosen = [
        lambda hub: hubs.add_data(hub, "energy", made_up_rows(n_rows, first=60), compose=False),
        lambda hub: Hub(hub).retract("energy", [f"row-{retracted}"], compose=False),
        lambda hub: Hub(hub).set_recipe("energy", {"estimate": {"k": 3}}, compose=False),
        lambda hub: hubs.add_data(hub, "gap", made_up_rows(n_rows, first=60), compose=False),
    ]
    generator.shuffle(chosen)
    return [*chosen[: generator.randint(2, 4)], lambda hub: Hub(hub).remove_task("gap")]


def lived_through(nursery, hub: Path, seed: int, *, kill: bool) -> bool:
    """Let commands come at random moments of a pass; say whether it was still at work after them.

    One that is killed is killed among the first of them.
    """
    generator = random.Random(seed)
    work = commands(generator)
    process = int(nursery(hub))
    killed = generator.randrange(2) if kill else -1
    for place, command in enumerate(work):
        time.sleep(generator.uniform(0.0, 0.5))
        start = time.monotonic()
        command(hub)
        assert time.monotonic() - start < SECONDS
        if place == killed:
            os.kill(process, signal.SIGKILL)
    at_work = FileLock.is_held(hub / LOCK)
    status = int(nursery("wait"))
    assert status in ({0, signal.SIGKILL} if kill else {0})
    return status == signal.SIGKILL if kill else at_work


def state(hub: Path) -> dict[str, str]:
    return {name: digest for name, digest in refs(hub).items() if name.startswith(DERIVED)}


def one_after_the_other(hub: Path, seed: int) -> dict[str, str]:
    for command in commands(random.Random(seed)):
        command(hub)
    Hub(hub).update()
    return state(hub)


@pytest.mark.fault("commands of other processes at random moments of a pass")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kill", [False, True], ids=["to its end", "killed"])
@pytest.mark.parametrize("n_seeds", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_commands_at_any_moment_of_a_pass(nursery, stale_hub, tmp_path, reached, n_seeds, kill):
    met = 0
    for seed in range(n_seeds):
        hub, other = (shutil.copytree(stale_hub, tmp_path / name) for name in ("hub", "other"))
        beside = lived_through(nursery, hub, seed, kill=kill)
        met += beside
        if kill or not beside:
            Hub(hub).update()
        assert state(hub) == one_after_the_other(other, seed)
        assert Hub(hub).plan() == []
        assert not maintenance.verify(hub, deep=True).problems
        for path in (hub, other):
            shutil.rmtree(path)
    assert met
    what = "that is killed" if kill else "that takes them up"
    reached(f"commands at random moments of a pass {what}: {met}")
