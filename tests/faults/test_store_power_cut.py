"""The power goes: what was acknowledged survives, whatever the disk did with the rest.

A writer's calls are recorded, LMDB's at the system-call interface, and replayed up to any point;
what had not been forced to disk by then is kept, lost or half kept at random.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from moma_store import records
from moma_store.collection import collect
from moma_store.records import BlobLink
from moma_store.store import Store
from moma_store.testing import Disk, EventKind, RecordingFiles, strace
from moma_store.verification import verify
from tests.helpers.stores import new_store

WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from moma_store.collection import collect
from moma_store.store import Store
for session in range(2):
    with Store.open(Path(sys.argv[1]), write=True) as store:
        for _ in range(4):
            old = store.ref("r")
            n = store.record(old)["n"] + 1 if old else 0
            link = store.put_blob({"p": np.full(3000, n, "f4")}, {"n": n})
            with store.transaction("step", {"n": n}) as tx:
                text = "x" * (6000 if n % 3 == 1 else 10)
                doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json(), "text": text}
                new = tx.put_record(doc)
                tx.move_ref("r", new, expected=old)
                tx.move_ref("also", new, expected=old)
                tx.put_memo("k", new, float(n))
            os.write(1, f"{n}\\n".encode())
        collect(store)
"""

needs_strace = pytest.mark.skipif(not strace.available(), reason="strace is not there")


def check(hub: Path, acknowledged: int) -> None:
    """Whatever was acknowledged is there and whole, or one step more."""
    with Store.open(hub, write=True) as store, store.snapshot() as view:
        refs, memo, entries = view.refs(), view.memo("k"), view.history()[::-1]
        n = -1
        if refs:
            assert set(refs) == {"r", "also"}
            assert len({refs["r"], refs["also"], memo.result}) == 1
            record = view.record(refs["r"])
            n = record["n"]
            assert (store.blob(BlobLink.from_json(record["blob"])).arrays["p"] == n).all()
        assert [entry.detail["n"] for entry in entries] == list(range(n + 1))
        previous = [None, *(records.digest(entry.to_json()) for entry in entries)]
        assert [entry.previous for entry in entries] == previous[:-1]
        assert n in {acknowledged, acknowledged + 1}


def cut_power(disk: Disk, events, tmp_path: Path, seeds: int) -> int:
    """Cut the power once for each seed; give how many outcomes were checked."""
    generator = random.Random(seeds)
    moments = sorted(generator.randrange(len(events) + 1) for _ in range(seeds))
    done, acknowledged = 0, -1
    for seed, moment in enumerate(moments):
        for event in events[done:moment]:
            disk.apply(event)
            if event.kind == EventKind.ACKNOWLEDGE and event.data.strip().isdigit():
                acknowledged = int(event.data)
        done = moment
        left = tmp_path / "left"
        disk.cut(random.Random(seed), left)
        check(left, acknowledged)
        if seed % 50 == 0:
            assert not verify(left, deep=True).damaged
        shutil.rmtree(left)
    return len(moments)


def trace_and_cut(tmp_path: Path, seeds: int, reached) -> None:
    hub = tmp_path / "hub"
    new_store(hub).close()
    disk = Disk(hub)
    ended = strace.record([sys.executable, "-c", WRITER, str(hub)], tmp_path / "trace")
    assert ended.returncode == 0, ended.stderr
    events = strace.events(tmp_path / "trace", hub)
    kinds = {event.kind for event in events}
    assert kinds == set(EventKind)
    assert any(event.path.endswith("data.mdb") for event in events)
    reached(
        f"power cuts: {cut_power(disk, events, tmp_path, seeds)} seeds over {len(events)} calls"
    )


@needs_strace
def test_power_cut_at_any_call(tmp_path, reached):
    trace_and_cut(tmp_path, 200, reached)


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_power_cut_at_any_call_many_times(tmp_path, reached):
    trace_and_cut(tmp_path, 10_000, reached)


def test_a_disk_that_loses_a_forced_write_would_be_noticed(tmp_path):
    """The simulation can fail: without the sync of a folder, an acknowledged blob is lost."""
    hub = tmp_path / "hub"
    new_store(hub).close()
    files = RecordingFiles(hub)
    with Store.open(hub, write=True, files=files) as store:
        link = store.put_blob({"p": np.arange(3000)}, {})
        files.acknowledge()
    forced = [e for e in files.events if e.kind != EventKind.SYNC or "objects" not in e.path]
    assert len(forced) < len(files.events)
    for events, may_lose in ((files.events, False), (forced, True)):
        shutil.rmtree(hub / "objects" / link.digest[:2], ignore_errors=True)
        replayed = Disk(hub)
        for event in events:
            replayed.apply(event)
        lost = 0
        for seed in range(40):
            left = tmp_path / f"left-{may_lose}-{seed}"
            replayed.cut(random.Random(seed), left)
            with Store.open(left) as store:
                lost += not store.blob_path(link).exists()
        assert (lost > 0) == may_lose


def test_power_cut_while_files_are_collected(tmp_path):
    hub = tmp_path / "hub"
    new_store(hub).close()
    with Store.open(hub, write=True) as store:
        for n in range(3):
            link = store.put_blob({"p": np.full(100, n)}, {})
            with store.transaction("x") as tx:
                new = tx.put_record({"kind": "x", "format": 1, "blob": link.to_json()})
                tx.move_ref("r", new, expected=tx.ref("r"))
    disk, files = Disk(hub), RecordingFiles(hub)
    with Store.open(hub, write=True, files=files) as store:
        assert collect(store).blobs == 2
        files.note_content(hub / "catalogue.lmdb" / "data.mdb")
    for event in files.events:
        disk.apply(event)
    for seed in range(20):
        left = tmp_path / f"left-{seed}"
        disk.cut(random.Random(seed), left)
        assert not verify(left).damaged
        with Store.open(left, write=True) as store:
            collect(store)
        assert verify(left).unreachable_files == 0
