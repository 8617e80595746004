"""``update`` is killed: the next one finishes, derives the same, and nothing stored anew."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from moma_cl.commands import maintenance
from tests.helpers import hubs
from tests.helpers.hubs import memo_results
from tests.helpers.processes import answering

# Forks an update for each line "HUB KIND VALUE": "event N" kills itself at the N-th step of its
# derivations and refs, "after S" is killed after S seconds, "never 0" runs to its end. The answer
# is whether it ended by itself, how long it took, and the keys that it began to derive.
NURSERY = """
import os, signal, sys, time
from pathlib import Path
import moma_cl.derivations.predictor, moma_cl.derivations.promotion, moma_cl.reconciling.derivation_job, moma_cl.automation.drift
from moma_cl.derivations import derive, finetuned_learners
from moma_cl.hub import Hub
from moma_cl.reconciling.commits import Commits

def work(hub, last, begun):
    events = 0
    def event():
        nonlocal events
        events += 1
        if events == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def watched(function):
        def call(*arguments, **options):
            event()
            result = function(*arguments, **options)
            event()
            return result
        return call
    def noting(workspace, derivations, derive_all=derive.derive_all):
        for derivation in derivations:
            os.write(begun, derivation.key.encode() + b"\\n")
        return derive_all(workspace, derivations)
    derive.derive_all = noting
    derive.derive = watched(derive.derive)
    finetuned_learners.finetuning_start = watched(finetuned_learners.finetuning_start)
    Commits.put = watched(Commits.put)
    Commits.move = watched(Commits.move)
    Hub(hub).update()

print("ready", flush=True)
for line in sys.stdin:
    hub, kind, value = line.split()
    reading, writing = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Path(hub), int(value) if kind == "event" else -1, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    if kind == "after":
        time.sleep(float(value))
        os.kill(child, signal.SIGKILL)
    received = b""
    while part := os.read(reading, 65536):
        received += part
    os.close(reading)
    status = os.waitpid(child, 0)[1]
    ended = "ended" if status == 0 else "killed" if os.WIFSIGNALED(status) else "failed"
    print(ended, time.monotonic() - start, *received.decode().split(), flush=True)
"""


AT_ONCE = 4
"""Learners of a task that are begun together, at most."""


@pytest.fixture(scope="module")
def stale_hub(tmp_path_factory):
    """A hub with two tasks of which only the first answers are known."""
    recipe = hubs.short_recipe(1, worth_it=-1.0)
    hub = hubs.make_hub(tmp_path_factory.mktemp("stale") / "hub", recipe)
    for target in ("energy", "gap"):
        hubs.add_task(hub, target, 160, compose=False)
    return hub


@pytest.fixture(scope="module")
def nursery():
    with answering(NURSERY) as ask:
        yield ask


def run(nursery, hub: Path, kind: str, value: float) -> tuple[bool, float, list[str]]:
    ended, seconds, *begun = nursery(f"{hub} {kind} {value}").split()
    assert ended != "failed"
    return ended == "ended", float(seconds), begun


def finished(nursery, hub: Path, orders) -> tuple[int, int]:
    """Follow orders until an update ends by itself; nothing stored is begun again."""
    begun_in_all = 0
    for kills, (kind, value) in enumerate(orders):
        stored = memo_results(hub)
        ended, _, begun = run(nursery, hub, kind, value)
        assert not set(begun) & stored.keys()
        begun_in_all += len(begun)
        if ended:
            return kills, begun_in_all
    raise AssertionError("no update ended")


@pytest.fixture(scope="module")
def undisturbed(nursery, stale_hub, tmp_path_factory):
    hub = shutil.copytree(stale_hub, tmp_path_factory.mktemp("undisturbed") / "hub")
    before = memo_results(hub)
    ended, seconds, begun = run(nursery, hub, "never", 0)
    assert ended
    assert sorted(begun) == sorted(memo_results(hub).keys() - before.keys())
    return memo_results(hub), seconds, len(begun)


def same_as(undisturbed, hub: Path) -> bool:
    return memo_results(hub) == undisturbed and not maintenance.verify(hub, deep=True).problems


def test_updates_killed_again_and_again_get_there(
    nursery, stale_hub, undisturbed, tmp_path, reached
):
    hub = shutil.copytree(stale_hub, tmp_path / "hub")
    # every third to thirteenth step is far enough for each update to store something
    steps = (("event", n) for n in (3, 6, 9, 12, 7, 13, 11) * 20)
    kills, begun = finished(nursery, hub, steps)
    assert same_as(undisturbed[0], hub)
    assert undisturbed[2] <= begun <= undisturbed[2] + AT_ONCE * kills
    reached(f"kill -9 of update at a derivation's boundary, one after the other: {kills}")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_an_update_killed_at_any_boundary_ends_like_an_undisturbed_one(
    nursery, stale_hub, undisturbed, tmp_path, reached
):
    boundary = 0
    while True:
        boundary += 1
        hub = shutil.copytree(stale_hub, tmp_path / "hub")
        kills, begun = finished(nursery, hub, [("event", boundary), ("never", 0)])
        assert same_as(undisturbed[0], hub)
        assert begun <= undisturbed[2] + AT_ONCE
        shutil.rmtree(hub)
        if not kills:
            break
    assert boundary > undisturbed[2]
    reached(f"kill -9 of update at every boundary of its derivations: {boundary - 1}")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_an_update_killed_at_any_moment_ends_like_an_undisturbed_one(
    nursery, stale_hub, undisturbed, tmp_path, reached
):
    generator = random.Random(0)
    kills = 0
    while kills < 50:
        hub = shutil.copytree(stale_hub, tmp_path / "hub")
        moment = generator.uniform(0.0, undisturbed[1])
        killed, _ = finished(nursery, hub, [("after", moment), ("never", 0)])
        kills += killed
        assert same_as(undisturbed[0], hub)
        shutil.rmtree(hub)
    reached(f"kill -9 of update at a random moment: {kills}")
