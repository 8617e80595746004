"""``update`` is killed: the next one finishes, derives the same, and nothing stored anew."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moma_cl.commands import maintenance
from moma_cl.hub import Hub
from moma_cl.recipe import ModuleSettings, Recipe, TrainingSettings
from moma_store.store import Store

# Forks an update for each line "HUB KIND VALUE": "event N" kills itself at the N-th step of its
# derivations and refs, "after S" is killed after S seconds, "never 0" runs to its end. The answer
# is whether it ended by itself, how long it took, and the keys that it began to derive.
NURSERY = """
import os, signal, sys, time
from pathlib import Path
import moma_cl.derivations.predictor, moma_cl.derivations.promotion, moma_cl.reconciling.derivation_job, moma_cl.automation.drift
from moma_cl.derivations import derive
from moma_cl.reconciling.composer import Composer

def work(hub, last, begun):
    events = 0
    def event():
        nonlocal events
        events += 1
        if events == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def watched(function, before=None):
        def call(*arguments, **options):
            event()
            if before is not None:
                before(*arguments)
            result = function(*arguments, **options)
            event()
            return result
        return call
    def note(bench, derivation):
        os.write(begun, derivation.key.encode() + b"\\n")
    derive.derive = watched(derive.derive, note)
    Composer._store = watched(Composer._store)
    Composer._move = watched(Composer._move)
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


@pytest.fixture(scope="module")
def stale_hub(tmp_path_factory, made_up):
    """A hub with two tasks of which only the first answers are known."""
    folder = tmp_path_factory.mktemp("stale")
    training = TrainingSettings(epochs=1, batch_size=64)
    recipe = Recipe(
        threads=1, finetune=training, module=ModuleSettings(epochs=1, batch_size=64), worth_it=-1.0
    )
    Hub(folder / "hub").init(backbone="cgcnn", recipe=recipe)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in made_up(160)))
    for target in ("energy", "gap"):
        options = {"target": target, "unit": "1", "compose": False}
        Hub(folder / "hub").add_task(target, [rows], **options)
    return folder / "hub"


@pytest.fixture(scope="module")
def nursery():
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def run(nursery, hub: Path, kind: str, value: float) -> tuple[bool, float, list[str]]:
    nursery.stdin.write(f"{hub} {kind} {value}\n")
    nursery.stdin.flush()
    ended, seconds, *begun = nursery.stdout.readline().split()
    assert ended != "failed"
    return ended == "ended", float(seconds), begun


def derived(hub: Path) -> dict[str, str]:
    with Store.open(hub) as store:
        return {key: memo.result for key, memo in store.memos().items()}


def finished(nursery, hub: Path, orders) -> tuple[int, int]:
    """Follow orders until an update ends by itself; nothing stored is begun again."""
    begun_in_all = 0
    for kills, (kind, value) in enumerate(orders):
        stored = derived(hub)
        ended, _, begun = run(nursery, hub, kind, value)
        assert not set(begun) & stored.keys()
        begun_in_all += len(begun)
        if ended:
            return kills, begun_in_all
    raise AssertionError("no update ended")


@pytest.fixture(scope="module")
def undisturbed(nursery, stale_hub, tmp_path_factory):
    hub = shutil.copytree(stale_hub, tmp_path_factory.mktemp("undisturbed") / "hub")
    before = derived(hub)
    ended, seconds, begun = run(nursery, hub, "never", 0)
    assert ended
    assert sorted(begun) == sorted(derived(hub).keys() - before.keys())
    return derived(hub), seconds, len(begun)


def same_as(undisturbed, hub: Path) -> bool:
    return derived(hub) == undisturbed and not maintenance.verify(hub, deep=True).problems


def test_updates_killed_again_and_again_get_there(
    nursery, stale_hub, undisturbed, tmp_path, reached
):
    hub = shutil.copytree(stale_hub, tmp_path / "hub")
    # every third to ninth step is far enough for each update to store something
    steps = (("event", n) for n in (3, 4, 5, 6, 7, 8, 9) * 20)
    kills, begun = finished(nursery, hub, steps)
    assert same_as(undisturbed[0], hub)
    assert undisturbed[2] <= begun <= undisturbed[2] + kills
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
        assert begun <= undisturbed[2] + 1
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
