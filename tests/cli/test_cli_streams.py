"""Standard input, output and error: closed, or where an output file should be."""

import itertools
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time

import pytest

from tests.helpers.processes import ENVIRONMENT
from tests.helpers.rows import write_rows

CLOSED = [
    "".join(choice)
    for number in (1, 2, 3)
    for choice in itertools.combinations(("<&- ", ">&- ", "2>&- "), number)
]


@pytest.mark.fault("standard streams that are closed")
@pytest.mark.parametrize("closed", CLOSED)
def test_no_file_gets_the_number_of_a_closed_stream(closed, tmp_path):
    # Light, so that every combination is tried; what a library writes goes by number.
    code = (
        "import os\n"
        "from moma_cli.standard_streams import open_standard_streams\n"
        "open_standard_streams()\n"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_RDWR | os.O_CREAT)\n"
        "os.system('echo said; echo said >&2')\n"
        "print('said', flush=True)\n"
        "os._exit(file)\n"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert ended.returncode > 2
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.fault("standard streams that are closed")
def test_a_pass_is_made_although_all_streams_are_closed(own_hub, inputs):
    (own_hub.hub / "inbox" / "energy" / "night.jsonl").write_bytes(
        (inputs / "more.jsonl").read_bytes()
    )
    # libgomp prints its settings on what it takes for standard error
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *own_hub.command("update", "-v")]
    variables = {**ENVIRONMENT, "OMP_DISPLAY_ENV": "TRUE"}
    assert subprocess.run(command, env=variables, check=False, timeout=120).returncode == 0
    assert own_hub.json("verify")["problems"] == []
    assert own_hub.json("tasks")[0]["rows"] == 68


@pytest.mark.fault("standard streams that take nothing")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("tasks >/dev/full", 1, "Error [storage]"),
        ("--json tasks >/dev/full", 1, "Error [storage]"),
        ("--json show none >/dev/full", 3, "Error [not-found]"),
        ("show none 2>/dev/full", 3, ""),
        ("update -v 2>/dev/full", 0, ""),
        ("update -v >/dev/full 2>/dev/full", 0, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_take_nothing_end_in_the_right_code(hub, words, code, said, unbuffered):
    command = ["sh", "-c", f'exec "$@" {words}', "sh", *hub.command()]
    variables = {**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == bool(said)


def test_metrics_go_into_a_pipe_and_behind_a_link(hub, tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    with subprocess.Popen(hub.command("status", "--prometheus", pipe), env=ENVIRONMENT) as process:
        text = pipe.read_text()
        assert process.wait(60) == 0
    assert "moma_cl_task_rows" in text
    link.symlink_to("metrics.prom")
    hub.ok("status", "--prometheus", link)
    assert "moma_cl_task_rows" in (tmp_path / "metrics.prom").read_text()
    assert link.is_symlink()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_gets_the_rows_and_stays_a_pipe(hub, inputs, tmp_path):
    pipe = tmp_path / "rows"
    os.mkfifo(pipe)
    options = ("--output", pipe, "--format", "jsonl")
    command = hub.command("predict", "energy", inputs / "ask.jsonl", *options)
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        rows = [json.loads(line) for line in pipe.read_text().splitlines()]
        assert process.wait(60) == 0
    assert len(rows) == 4
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    refused = hub("predict", "energy", inputs / "ask.jsonl", "--resume", pipe, "--format", "jsonl")
    assert "no plain file" in refused.err


def test_standard_output_by_its_name_is_written_and_not_replaced(hub, inputs, tmp_path):
    file = tmp_path / "log"
    file.write_text("before\n")
    options = ("--output", "/dev/stdout", "--format", "jsonl")
    command = hub.command("predict", "energy", inputs / "ask.jsonl", *options)
    with file.open("a") as stream:
        subprocess.run(
            command, env=ENVIRONMENT, stdout=stream, stderr=subprocess.DEVNULL, check=True
        )
    lines = file.read_text().splitlines()
    assert lines[0] == "before"
    assert len(lines) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_rows_of_a_repeated_index_are_all_answered_when_a_run_goes_on(hub, made_up, tmp_path):
    table = {
        "index": [0, 1, 2, 0, 1, 2],
        "columns": ["structure"],
        "data": [[row["structure"]] for row in made_up(6, first=80)],
    }
    source = tmp_path / "split.json"
    source.write_text(json.dumps(table))
    hub.ok("predict", "energy", source, "--output", tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_text()
    assert whole.count("\n") == 6
    begun = "".join(whole.splitlines(keepends=True)[:4])
    (tmp_path / "part.jsonl.unfinished").write_text(begun)
    hub.ok("predict", "energy", source, "--resume", tmp_path / "part.jsonl")
    asked, again = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("whole.jsonl", "part.jsonl")
    )
    assert [row["id"] for row in again] == [row["id"] for row in asked]
    assert len({row["id"] for row in again}) == 3
    assert [row["value"] for row in again] == pytest.approx([row["value"] for row in asked])


@pytest.mark.fault("control characters in names")
def test_names_of_files_and_columns_do_not_drive_the_terminal(own_hub, made_up, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a\x1b]0;title\x07.cif").touch()
    (folder / "table.csv").write_text("id,str\x1b[31mx,\x9b2J\n1,2,3\n")
    delivery = write_rows(tmp_path / "rows.jsonl", made_up(2, first=90))
    delivery.rename(own_hub.hub / "inbox" / "energy" / "night\x1b[2J.jsonl")
    (own_hub.hub / "inbox" / "no\x1b[31mtask").mkdir()
    said = [
        own_hub("predict", "energy", folder),
        own_hub("predict", "energy", folder / "table.csv", "--debug"),
        own_hub("predict", "energy", folder / "none\x1b[31m.csv", "--debug"),
        own_hub("status"),
        own_hub("update", "--settle", "0", "--verbose"),
        own_hub("update", "--tasks", "\x1b[31m", "--debug"),
        own_hub("\x1b[31m"),
        own_hub("predict", "--level", "\x1b[31m"),
    ]
    for ended in said:
        text = ended.out + ended.err
        assert text
        assert all(character in "\n\t" or character.isprintable() for character in text), text
    assert r"night\x1b[2J.jsonl" in said[3].err


@pytest.mark.fault("a module of Python in the working directory")
@pytest.mark.parametrize("started", ["cron", "systemd", "daemon"])
def test_passes_take_no_module_from_the_folder_they_are_started_in(
    started, own_hub, inputs, tmp_path
):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("typer", "numpy", "moma_store", "logging"):
        (home / f"{name}.py").write_text(f"open({str(home / 'taken')!r}, 'w')\n")
    (own_hub.hub / "inbox" / "energy" / "night.jsonl").write_bytes(
        (inputs / "more.jsonl").read_bytes()
    )
    here = {"cwd": home, "env": {**ENVIRONMENT, "HOME": str(home)}}
    if started == "cron":
        line = own_hub.json("schedule")["crontab"]
        assert (
            subprocess.run(["sh", "-c", line.split(maxsplit=5)[5]], **here, check=False).returncode
            == 0
        )
    elif started == "systemd":
        unit = own_hub.json("schedule", "--systemd")["units"][0]["text"]
        (command,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
        assert subprocess.run(shlex.split(command), **here, check=False).returncode == 0
    else:
        options = ("--interval", "0.2", "--settle", "0.1")
        command = [sys.executable, "-P", *own_hub.command("daemon", *options)[1:]]
        with subprocess.Popen(command, **here) as process:
            until(lambda: own_hub.json("tasks")[0]["rows"] == 68)
            process.terminate()
            assert process.wait(30) == 0
    assert own_hub.json("tasks")[0]["rows"] == 68
    assert not (home / "taken").exists()


def until(condition, seconds=60.0):
    """Wait for something, and fail if it does not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
