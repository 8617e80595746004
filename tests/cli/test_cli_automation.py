"""``status``, ``daemon`` and ``schedule``, and ``update`` where there is an inbox."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SLOW_RECIPE = """
threads = 1
[finetune]
epochs = 1
[module]
epochs = 100000
patience = 100000
"""


def deliver(program, file: Path, folder="energy", name="night.jsonl") -> Path:
    target = program.hub / "inbox" / folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(file, target))


def test_update_takes_the_inbox_in_silently(own_hub, inputs):
    file = deliver(own_hub, inputs / "more.jsonl")
    before = own_hub.json("status")
    assert before["inbox"]["waiting"] == ["energy/night.jsonl"]
    ended = own_hub.ok("update", "--settle", 0.1)
    assert (ended.out, ended.err) == ("", "")
    assert not file.exists()
    after = own_hub.json("status")
    assert after["inbox"]["waiting"] == []
    assert after["inbox"]["done"] == {"energy": 1}
    energy, gap = after["tasks"]
    assert (energy["rows"], gap["rows"]) == (68, 60)
    assert energy["version"] == before["tasks"][0]["version"] + 1
    assert energy["drift"]["rows"] > 0
    assert after["last_pass"]["outcome"] == "done"
    assert after["last_pass"]["actions"]["added"] == 1


def test_update_tells_of_deliveries_that_need_somebody(own_hub, inputs):
    deliver(own_hub, inputs / "bad.jsonl")
    deliver(own_hub, inputs / "more.jsonl", folder="enrgy")
    ended = own_hub("update", "--settle", 0, "--json")
    assert (ended.code, ended.envelope["status"]) == (8, "error")
    codes = [problem["code"] for problem in ended.envelope["errors"]]
    assert codes == ["inbox.refused", "inbox.unclaimed"]
    said = own_hub.ok("status").err
    assert "bad" not in said  # it is the file's name in the inbox that counts
    assert "energy: night.jsonl" in said
    assert "did you mean 'energy'" in said


def test_a_delivery_in_another_unit_is_mailed_once_held_and_confirmed(own_hub, inputs, tmp_path):
    rows = [json.loads(line) for line in (inputs / "more.jsonl").read_text().splitlines()]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("".join(json.dumps({**r, "energy": 96.5 * r["energy"]}) + "\n" for r in rows))
    deliver(own_hub, wrong)
    kept = tmp_path / "mail.txt"
    ended = own_hub("update", "--settle", 0, "--notify", f"tee {kept}")
    assert ended.code == 9
    assert ": energy: promotion held" in ended.out.splitlines()[0]
    assert kept.read_text() == ended.out
    before = own_hub.json("status")["tasks"][0]
    assert "another unit?" in before["held"]
    assert own_hub.ok("update").out == ""
    assert "`moma-cl confirm energy`" in own_hub.ok("status").err
    metrics = tmp_path / "moma.prom"
    assert own_hub.ok("status", "--prometheus", metrics).out == ""
    assert 'moma_cl_task_promotion_held{hub="' in metrics.read_text()
    confirmed = own_hub.ok("confirm", "energy").out
    assert re.fullmatch(
        r"energy: [0-9a-f]{12} answers, in place of " + before["champion"][:12] + "\n", confirmed
    )
    assert own_hub("confirm", "energy").code == 3


def test_status_of_a_quiet_hub(hub):
    ended = hub.ok("status")
    assert "daemon: none" in ended.out
    assert re.search(r"^energy +60 +[0-9a-f]{8} +\S+ +eV/atom +CV ", ended.out, flags=re.MULTILINE)
    assert ended.err == ""


def test_a_daemon_works_and_says_what_it_does(own_hub, inputs):
    with running(own_hub) as process:
        until(lambda: own_hub.json("status")["daemon"]["heartbeat"])
        deliver(own_hub, inputs / "more.jsonl")
        until(lambda: own_hub.json("status")["inbox"]["done"] == {"energy": 1})
        until(lambda: own_hub.json("status")["daemon"]["heartbeat"]["state"] == "idle")
        status = own_hub.json("status")["daemon"]
        assert (status["running"], status["heartbeat"]["pid"]) == (True, process.pid)
        second = own_hub("daemon", "--json")
        assert second.code == 5
        assert "has a daemon already" in second.envelope["errors"][0]["message"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "1 added" in err
    assert "daemon: none; the last one stopped" in own_hub.ok("status").out


def test_a_daemon_stops_in_the_middle_of_a_training_and_loses_nothing(own_hub, inputs, tmp_path):
    recipe = tmp_path / "slow.toml"
    recipe.write_text(SLOW_RECIPE)
    own_hub.ok(
        *("add-task", "modulus", inputs / "first.jsonl", "--target", "modulus", "--unit", "GPa"),
        *("--recipe", recipe, "--no-update"),
    )
    with running(own_hub) as process:
        # everything but the endless training of the module
        until(lambda: steps(own_hub, "modulus") == {"stale": 1})
        time.sleep(1.0)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - begun
    assert process.returncode == 0, err
    assert took < 5.0
    with subprocess.Popen(own_hub.command("verify"), stdout=subprocess.DEVNULL) as verified:
        assert verified.wait(60) == 0  # nobody holds the lock any more either
    assert steps(own_hub, "modulus") == {"stale": 1}


def steps(program, task) -> dict[str, int]:
    (state,) = [t for t in program.json("status")["tasks"] if t["name"] == task]
    return state["steps"]


class running:
    """A daemon in a process of its own, killed if the test fails."""

    def __init__(self, program) -> None:
        options = ("daemon", "--interval", 0.2, "--settle", 0.1)
        self.process = subprocess.Popen(
            program.command(*options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()


def until(condition, seconds=100.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def test_a_schedule_names_hub_and_program_in_full(hub, monkeypatch):
    line = hub.ok("schedule").out
    assert line.startswith("30 2 * * * ")
    assert f"--hub {hub.hub.absolute()} update --wait 60\n" in line
    assert hub.ok("schedule", "--", "--wait", "5").out.endswith(" update --wait 5\n")
    assert hub.json("schedule", "--every", 10)["crontab"].startswith("*/10 * * * * ")


def test_units_are_printed_or_written(hub, tmp_path):
    options = ("--systemd", "--at", "04:00", "--json", "--", "--wait", "60")
    service, timer = hub.ok("schedule", *options).envelope["data"]["units"]
    assert service["text"].count("update --wait 60\n") == 1
    assert "OnCalendar=*-*-* 04:00:00" in timer["text"]
    written = hub.ok("schedule", "--systemd", "--daemon", "--output", tmp_path / "units")
    (file,) = (tmp_path / "units").iterdir()
    assert str(file) in written.out
    assert " daemon\n" in file.read_text()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--every", 7], 4),
        (["--at", "25:00"], 4),
        (["--at", "02:00", "--every", 10], 2),
        (["--daemon"], 2),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(hub, options, code):
    ended = hub("schedule", *options, "--json")
    assert ended.code == code
    assert json.loads(ended.out)["status"] == "error"
