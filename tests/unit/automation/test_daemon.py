"""The daemon: a pass when something changed, none when nothing did, and it always stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from moma_cl.automation import daemon
from moma_store.errors import BusyError, NotFoundError
from moma_store.locking import FileLock
from moma_store.store import Store
from tests.helpers.stores import new_store

RUN = """
import logging, sys
from pathlib import Path
from moma_cl.automation.daemon import Daemon
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
Daemon(hub=Path(sys.argv[1]), command=sys.argv[3:], interval=float(sys.argv[2])).run()
"""
# Counts its runs in a file, then does what it is told.
PASS = "import sys; open(sys.argv[1], 'a').write('x'); exec(sys.argv[2])"


@pytest.fixture
def hub(tmp_path):
    new_store(tmp_path / "hub").close()
    return tmp_path / "hub"


@pytest.fixture
def start(hub, tmp_path):
    """Start a daemon whose passes only count themselves, and run some code."""
    started = []

    def run(code="", interval=0.05):
        one_pass = [sys.executable, "-c", PASS, str(tmp_path / "count"), code]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(hub), str(interval), *one_pass],
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def passes(tmp_path):
    def count():
        file = tmp_path / "count"
        return len(file.read_text()) if file.exists() else 0

    return count


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def state(hub):
    beat = daemon.heartbeat(hub)
    return None if beat is None else beat.state


def stop(process, seconds=5.0):
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < seconds
    return said


def touch(hub, number=0):
    """Change the catalogue."""
    with Store.open(hub, write=True) as store, store.transaction("touch") as tx:
        tx.put_record({"kind": "x", "format": 1, "n": number})


def test_it_makes_a_pass_at_the_start_and_then_only_when_something_changes(hub, start, passes):
    process = start()
    until(lambda: passes() == 1 and state(hub) == "idle")
    time.sleep(0.4)  # eight looks
    assert passes() == 1
    touch(hub)
    until(lambda: passes() == 2)
    (hub / "inbox" / "energy").mkdir(parents=True)
    (hub / "inbox" / "energy" / "a.jsonl").write_text("{}\n")
    until(lambda: passes() == 3)
    time.sleep(0.4)
    assert passes() == 3  # nobody took it in: there is no such task
    said = stop(process)
    assert process.returncode == 0
    assert said.splitlines() == [
        f"watching {hub} every 0.05 s",
        "stopped after 3 passes",
    ]
    assert state(hub) == "stopped"


def test_what_is_still_being_written_starts_no_pass(hub, start, passes):
    start()
    until(lambda: passes() == 1)
    (hub / "inbox" / "energy").mkdir(parents=True)
    with (hub / "inbox" / "energy" / "a.jsonl").open("w") as stream:
        for _ in range(60):
            stream.write("{}\n")
            stream.flush()
            time.sleep(0.01)
        assert passes() == 1
    until(lambda: passes() == 2)


def test_what_is_delivered_during_a_pass_is_taken_in_by_another(hub, start, passes, tmp_path):
    """The first pass goes on until it is told to end; the one beside it finds it at work."""
    code = (
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1]).parent\n"
        "number = len((folder / 'count').read_text())\n"
        "while number == 1 and not (folder / 'end').exists(): time.sleep(0.02)\n"
        "raise SystemExit(5 if number == 2 else 0)"
    )
    process = start(code)
    until(lambda: passes() == 1 and state(hub) == "passing")
    time.sleep(0.4)
    assert passes() == 1  # nothing was delivered
    (hub / "inbox" / "energy").mkdir(parents=True)
    (hub / "inbox" / "energy" / "a.jsonl").write_text("{}\n")
    until(lambda: passes() == 2)
    time.sleep(0.4)
    assert passes() == 2  # what is known starts no other
    assert state(hub) == "passing"
    (tmp_path / "end").touch()
    until(lambda: state(hub) == "idle")
    assert daemon.heartbeat(hub).exit_code == 0
    stop(process)


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    ],
)
def test_it_stops_within_five_seconds_in_the_middle_of_a_pass(hub, start, passes, code):
    process = start(code)
    until(lambda: passes() == 1 and state(hub) == "passing")
    stop(process)
    assert process.returncode == 0
    assert state(hub) == "stopped"


def test_nothing_that_a_pass_started_outlives_it(hub, start, passes, tmp_path):
    child = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{p.pid}} '); time.sleep(60)"
    )
    process = start(child)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(" "))
    stop(process)
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid), 5.0)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


def test_the_hangup_signal_is_harmless(hub, start, passes):
    process = start(interval=30)
    until(lambda: passes() == 1 and state(hub) == "idle")
    touch(hub)
    process.send_signal(signal.SIGHUP)  # and it looks at once
    until(lambda: passes() == 2, 10.0)
    stop(process)
    assert process.returncode == 0


def test_it_stops_after_a_storm_of_signals(hub, start, passes):
    process = start(interval=0.001)
    until(lambda: passes() == 1)
    for _ in range(2000):  # some come while it begins or ends a wait
        process.send_signal(signal.SIGHUP)
        time.sleep(0.0005)
    stop(process)
    assert process.returncode == 0


def test_a_pass_that_fails_is_made_again_after_a_pause_that_grows(hub, start, passes):
    process = start("raise SystemExit(1)")
    until(lambda: passes() == 3)
    said = stop(process)
    pauses = [line for line in said.splitlines() if "exited 1" in line]
    assert "next in 0 s" in pauses[0]
    assert len(pauses) >= 2
    assert daemon.heartbeat(hub).exit_code == 1


def test_the_second_daemon_says_that_there_is_one(hub, start, passes):
    process = start()
    until(lambda: passes() == 1)
    with pytest.raises(BusyError, match=f"daemon already: process {process.pid}"):
        daemon.Daemon(hub=hub, command=["true"]).run()
    assert daemon.is_running(hub)


def test_a_killed_daemon_leaves_no_lock_and_the_next_goes_on(hub, start, passes):
    process = start()
    until(lambda: passes() == 1)
    process.kill()
    process.wait()
    assert not daemon.is_running(hub)
    assert state(hub) != "stopped"  # which is how status knows that it was lost
    start()
    until(lambda: passes() == 2)


def test_a_hub_that_is_not_there_is_an_error_at_the_start(tmp_path):
    with pytest.raises(NotFoundError):
        daemon.Daemon(hub=tmp_path / "none", command=["true"]).run()


def test_a_hub_that_is_gone_for_a_while_is_waited_for(hub, start, passes):
    process = start()
    until(lambda: passes() == 1)
    hub.rename(hub.with_name("away"))
    time.sleep(0.5)
    hub.with_name("away").rename(hub)
    touch(hub)
    until(lambda: passes() >= 2)
    said = stop(process)
    assert said.count("cannot look at the hub") == 1


@pytest.mark.fault("a hub moved, copied or replaced under a daemon")
def test_a_hub_that_was_moved_is_free_for_another_daemon(hub, start, passes):
    process = start()
    until(lambda: passes() == 1)
    moved = hub.with_name("moved")
    hub.rename(moved)
    shutil.copytree(moved, hub)
    (hub / daemon.STATE).unlink(missing_ok=True)  # unless the daemon has seen the move
    until(lambda: passes() == 2)  # what is there now is watched
    until(lambda: daemon.is_running(hub))
    assert not daemon.is_running(moved)
    state_before = daemon.heartbeat(moved)
    time.sleep(0.3)
    assert daemon.heartbeat(moved) == state_before
    assert "was moved or replaced" in stop(process)


@pytest.mark.fault("a hub moved, copied or replaced under a daemon")
def test_a_daemon_gives_way_to_the_one_of_the_hub_that_came_to_its_path(hub, start, passes):
    process = start(interval=0.5)
    until(lambda: passes() == 1)
    hub.rename(hub.with_name("moved"))
    new_store(hub).close()
    lock = FileLock.acquire(hub / daemon.LOCK, wait=0, now=datetime.now(UTC))
    try:
        assert process.wait(20) == 1  # the code around the daemon has no status of its own
        assert "has a daemon already" in process.stderr.read()
    finally:
        lock.release()


def test_handlers_are_those_of_before_when_it_ends(hub):
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    daemon.Daemon(hub=hub, command=["true"], interval=0.05).run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_state_file_of_another_version_is_no_obstacle(hub):
    (hub / daemon.STATE).write_text(json.dumps({"pid": 1, "mood": "fine"}))
    assert daemon.heartbeat(hub) is None
    (hub / daemon.STATE).write_text("{")
    assert daemon.heartbeat(hub) is None
