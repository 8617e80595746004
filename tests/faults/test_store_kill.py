"""The writer is killed: the old state or the new, never a part, and nothing acknowledged is lost."""

from __future__ import annotations

import random

import pytest

from moma_store import records
from moma_store.records import BlobLink
from moma_store.store import Store
from tests.helpers.processes import answering

# Forks a writer for each line: "call K" kills itself at its K-th file-system call, "after S" is
# killed S seconds after its first step. The answer is the last step the writer acknowledged.
NURSERY = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from moma_store import blobs
from moma_store.store import Store
from moma_store.testing import FaultyFiles

def work(at, acknowledged):
    store = Store.open(Path(sys.argv[1]), write=True, files=FaultyFiles(errno=None, at=(at,)))
    while True:
        old = store.ref("r")
        n = store.record(old)["n"] + 1 if old else 0
        link = store.put_blob({"p": np.full(5000, n, "f4")}, {"n": n})
        with store.transaction("step", {"n": n}) as tx:
            new = tx.put_record({"kind": "x", "format": 1, "n": n, "blob": link.to_json()})
            tx.move_ref("r", new, expected=old)
            tx.move_ref("also", new, expected=old)
            tx.put_memo("k", new, float(n))
        os.write(acknowledged, n.to_bytes(4, "big"))

print("ready", flush=True)
for line in sys.stdin:
    kind, value = line.split()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        work(int(value) if kind == "call" else -1, writing)
    os.close(writing)
    received = b""
    if kind == "after":
        received = os.read(reading, 4)
        time.sleep(float(value))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(reading, 65536):
        received += part
    os.close(reading)
    print(int.from_bytes(received[-4:], "big") if received else -1, flush=True)
"""


@pytest.fixture
def nursery(hub):
    with answering(NURSERY, hub) as ask:
        yield hub, ask


def check(hub, acknowledged: int) -> int:
    """Verify everything in the hub and give the number of the step it is at."""
    with Store.open(hub) as store, store.snapshot() as view:
        refs, memo, entries = view.refs(), view.memo("k"), view.history()[::-1]
        n = -1
        if refs:
            assert set(refs) == {"r", "also"}
            assert len({refs["r"], refs["also"], memo.result}) == 1
            record = view.record(refs["r"])
            n = record["n"]
            blob = store.blob(BlobLink.from_json(record["blob"]))
            assert blob.header == {"n": n}
            assert (blob.arrays["p"] == n).all()
        assert [entry.detail["n"] for entry in entries] == list(range(n + 1))
        assert [entry.counter for entry in entries] == list(range(n + 1))
        previous = [None, *(records.digest(entry.to_json()) for entry in entries)]
        assert [entry.previous for entry in entries] == previous[:-1]
        # One step may have been committed whose acknowledgement the kill prevented.
        assert n in {acknowledged, acknowledged + 1}
    return n


def test_kill_at_every_file_system_call(nursery, reached):
    hub, ask = nursery
    at = -1
    for call in range(40):
        acknowledged = max(at, int(ask(f"call {call}")))
        at = check(hub, acknowledged)
    assert at > 2
    reached("40 kills at a file-system call: nothing lost")


def kill_at_random(nursery, rounds: int, *, seed: int = 0) -> None:
    hub, ask = nursery
    rng = random.Random(seed)
    at = -1
    for _ in range(rounds):
        acknowledged = max(at, int(ask(f"after {rng.uniform(0, 0.03):.4f}")))
        at = check(hub, acknowledged)
    assert at >= rounds - 1
    Store.open(hub, write=True).close()
    assert not list((hub / "tmp").iterdir())


def test_kill_at_random(nursery, reached):
    kill_at_random(nursery, 25)
    reached("25 random kills: nothing lost")


@pytest.mark.slow
@pytest.mark.parametrize("hub_number", range(10))
def test_kill_at_random_many_times(nursery, reached, hub_number):
    kill_at_random(nursery, 200, seed=hub_number)
    reached(f"200 random kills, hub {hub_number + 1} of 10: nothing lost")
