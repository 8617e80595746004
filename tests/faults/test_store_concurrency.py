"""Many at once: processes and threads that write, readers meanwhile, folders that refuse."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from moma_store.collection import collect
from moma_store.errors import BusyError, ConflictError, StorageError
from moma_store.store import Store
from moma_store.verification import verify
from tests.helpers.stores import new_store

# Counts one ref up. It reads where the ref is before it holds the hub, as a long computation would,
# so that others get in between; the compare-and-swap must refuse, and it tries again.
WRITER = """
import sys
from pathlib import Path
from moma_store.errors import BusyError, ConflictError
from moma_store.store import Store

def attempt(hub, name, n):
    with Store.open(hub) as reader:
        old = reader.ref("count")
        count = reader.record(old)["count"] + 1 if old else 1
    with Store.open(hub, write=True, wait=0.5) as store:
        with store.transaction("count", {"by": name, "n": n}) as tx:
            doc = {"kind": "x", "format": 1, "count": count}
            new = tx.put_record(doc)
            tx.move_ref("count", new, expected=old)
        store._wrote = False  # a backup after each would take longer than all the rest

hub, name, commits = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
conflicts = busy = 0
for n in range(commits):
    while True:
        try:
            attempt(hub, name, n)
            break
        except ConflictError:
            conflicts += 1
        except BusyError:
            busy += 1
print(conflicts, busy)
"""


def count_up(hub: Path, processes: int, commits: int, reached) -> None:
    command = [sys.executable, "-c", WRITER, str(hub)]
    running = [
        subprocess.Popen([*command, str(k), str(commits)], stdout=subprocess.PIPE, text=True)
        for k in range(processes)
    ]
    said = [process.communicate()[0].split() for process in running]
    assert all(process.returncode == 0 for process in running)
    with Store.open(hub) as store:
        ref = store.ref("count")
        assert ref is not None
        assert store.record(ref)["count"] == processes * commits
        entries = store.history()
    made = sorted((entry.detail["by"], entry.detail["n"]) for entry in entries)
    assert made == sorted((str(k), n) for k in range(processes) for n in range(commits))
    assert verify(hub).problems == ()
    conflicts = sum(int(words[0]) for words in said)
    reached(f"{processes} x {commits} commits, none lost, {conflicts} conflicts tried again")


def test_no_commit_of_several_processes_is_lost(hub, reached):
    count_up(hub, 4, 8, reached)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_commit_of_many_processes_is_lost(hub, reached):
    count_up(hub, 8, 200, reached)


def test_threads_share_a_store(hub):
    conflicts = []

    def count(store: Store) -> None:
        for _ in range(20):
            while True:
                old = store.ref("count")
                n = store.record(old)["n"] + 1 if old else 1
                try:
                    link = store.put_blob({"n": np.array([n])}, {})
                    with store.transaction("count") as tx:
                        doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
                        tx.move_ref("count", tx.put_record(doc), expected=old)
                    break
                except ConflictError:
                    conflicts.append(n)

    with Store.open(hub, write=True) as store:
        threads = [threading.Thread(target=count, args=(store,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.record(store.ref("count"))["n"] == 80
    assert verify(hub, deep=True).problems == ()


# Reads everything of one snapshot again and again, while others write and collect.
READER = """
import sys
from pathlib import Path
from moma_store.records import BlobLink
from moma_store.store import Store
rounds = 0
with Store.open(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    for _ in sys.stdin:
        with store.snapshot() as view:
            for _ in range(2):
                refs = view.refs("modules/")
                numbers = set()
                for digest in refs.values():
                    record = view.record(digest)
                    blob = store.blob(BlobLink.from_json(record["blob"]))
                    assert (blob.arrays["p"] == record["n"]).all()
                    numbers.add(record["n"])
                assert len(numbers) <= 1, numbers
                assert len(view.history(limit=3)) == min(3, len(view.history()))
        print("whole", flush=True)
"""


def read_meanwhile(hub: Path, rounds: int, reached) -> None:
    removed = waited = 0
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(hub)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        generator = random.Random(0)
        with Store.open(hub, write=True) as store:
            for n in range(rounds):
                reader.stdin.write("go\n")
                reader.stdin.flush()
                for _ in range(generator.randrange(1, 3)):
                    move_all(store, n + generator.random())
                    collected = collect(store)
                    removed += collected.blobs
                    waited += collected.waiting > 0
                assert reader.stdout.readline() == "whole\n"
            removed += collect(store).blobs
        reader.stdin.close()
    assert reader.returncode == 0
    assert removed > rounds
    found = verify(hub)
    assert (found.problems, found.unreachable_files) == ((), 0)
    reached(
        f"{rounds} rounds of reading, {removed} blobs collected, {waited} times one had to wait"
    )


def move_all(store: Store, n: float) -> None:
    link = store.put_blob({"p": np.full(200, n)}, {"n": n})
    with store.transaction("move") as tx:
        digest = tx.put_record({"kind": "x", "format": 1, "n": n, "blob": link.to_json()})
        for name in ("modules/a", "modules/b", "modules/c"):
            tx.move_ref(name, digest, expected=tx.ref(name))


def test_a_reader_sees_one_state_while_others_write_and_collect(hub, reached):
    read_meanwhile(hub, 40, reached)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_reader_sees_one_state_for_many_rounds(hub, reached):
    read_meanwhile(hub, 1000, reached)


@pytest.mark.fault("a lock or a reader whose process is dead")
def test_the_lock_of_a_dead_process_is_free(hub):
    code = (
        "import os, signal, sys; from pathlib import Path; from moma_store.store import Store\n"
        f"Store.open(Path({str(hub)!r}), write=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    # What it wrote is still there and names a process that is gone, or is somebody else by now.
    assert b'"pid"' in (hub / "writer.lock").read_bytes()
    Store.open(hub, write=True).close()


@pytest.mark.fault("a lock or a reader whose process is dead")
@pytest.mark.usefixtures("impatient")
def test_a_lock_is_not_broken_by_age(hub):
    with Store.open(hub, write=True):
        os.utime(hub / "writer.lock", (0, 0))
        with pytest.raises(BusyError):
            Store.open(hub, write=True)


@pytest.mark.fault("a lock or a reader whose process is dead")
def test_a_reader_that_was_killed_holds_nothing_back(hub):
    with Store.open(hub, write=True) as store:
        move_all(store, 0)
    code = (
        "import os, signal, sys; from pathlib import Path; from moma_store.store import Store\n"
        f"store = Store.open(Path({str(hub)!r}))\n"
        "with store.snapshot() as view:\n view.refs(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with Store.open(hub, write=True) as store:
        move_all(store, 1)
        collected = collect(store)
        assert (collected.blobs, collected.waiting) == (1, 0)


def as_nobody(hub: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code without the rights of the superuser."""
    drop = ""
    if os.getuid() == 0:
        # Opened once before, since nobody may not import from wherever Python is installed.
        drop = f"Store.open({str(hub)!r}).close(); import os; os.setgid(65534); os.setuid(65534)\n"
    return subprocess.run(
        [sys.executable, "-c", IMPORTS + drop + code], capture_output=True, text=True, check=False
    )


IMPORTS = """
import sys
from pathlib import Path
from moma_store import blobs
from moma_store.errors import MomaError
from moma_store.records import BlobLink
from moma_store.store import Store
def attempt(hub, write):
    try:
        with Store.open(Path(hub), write=write) as store:
            print(store.record(store.ref("modules/a"))["n"])
    except MomaError as error:
        print(error.code, error)
"""


@pytest.mark.fault("no right to write")
def test_a_folder_without_the_right_to_write_is_refused_clearly(tmp_path):
    # Under /tmp, since pytest's own folders are closed to others.
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        hub = Path(folder) / "hub"
        with new_store(hub) as store:
            move_all(store, 5)
        for path in [hub, *hub.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = as_nobody(hub, f"attempt({str(hub)!r}, False); attempt({str(hub)!r}, True)")
        lines = said.stdout.splitlines()
        assert len(lines) == 2, said
        assert lines[0].startswith("storage")
        assert "lock.mdb" in lines[0]
        assert lines[1].startswith("storage")
        assert "writer.lock" in lines[1]
        for path in [hub, *hub.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.fault("no right to write")
def test_a_file_system_that_is_mounted_for_reading_serves_readers(hub, tmp_path):
    with Store.open(hub, write=True) as store:
        move_all(store, 5)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    code = f"attempt({str(mounted)!r}, False); attempt({str(mounted)!r}, True)"
    script = f'mount --bind {hub} {mounted} && mount -o remount,bind,ro {mounted} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", IMPORTS + code]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip(f"cannot mount: {done.stderr.strip()[:80]}")
    read, write = done.stdout.splitlines()
    assert read == "5"
    assert write.startswith("storage")
    assert "Read-only" in write


@pytest.mark.fault("a second open, a fork, a spawned process")
@pytest.mark.usefixtures("impatient")
def test_two_opens_of_one_hub_in_one_process_share_it(hub):
    with Store.open(hub) as one, Store.open(hub.parent / "." / "hub") as two:
        assert one._catalogue._environment is two._catalogue._environment
        link = hub.parent / "link"
        link.symlink_to(hub)
        with Store.open(link) as three:
            assert three.refs() == {}
    with Store.open(hub, write=True), pytest.raises(BusyError):
        Store.open(link, write=True)


@pytest.mark.fault("a second open, a fork, a spawned process")
def test_a_store_sent_to_a_spawned_process_is_refused(hub):
    import pickle

    with Store.open(hub) as store, pytest.raises((TypeError, StorageError)):
        pickle.dumps(store)
