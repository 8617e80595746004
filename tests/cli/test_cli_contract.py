"""What every command keeps to: envelopes, exit codes, silence, light imports, help."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
import typer

from moma_cl.properties.transforms import Transform
from moma_cl.records.records import ModuleKind
from moma_cli import add_rows, app, output, program
from moma_store.store import Store
from tests.helpers.processes import ENVIRONMENT, run_python

HEAVY = ("numpy", "torch", "pymatgen", "zarr", "scipy", "clarabel", "pint", "rich")
COMMANDS = sorted(name for names in program.PANELS.values() for name in names)
ROWS = ("x.jsonl", "--target", "y")
ABSENT = "cuda" if sys.platform == "darwin" else "mps"
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("arguments", "command", "code", "exit_code"),
    [
        (["predict", "enrgy", "x.cif"], "predict", "not-found", 3),
        (["show", "abcdef"], "show", "not-found", 3),
        (["rollback", "energy", "--to", "zz"], "rollback", "not-found", 3),
        (["add-task", "energy", *ROWS, "--unit", "eV"], "add-task", "already-exists", 4),
        (["add-task", "new", "x.jsonl"], "add-task", "usage", 2),
        (["tasks", "--colour"], "tasks", "usage", 2),
        (["predict", "energy", "x.cif", "--device", "gpu"], "predict", "usage", 2),
        (["predict", "energy", "x.cif", "--device", ABSENT], "predict", "invalid-input", 4),
        (["add-taks"], None, "usage", 2),
        (["add-task", "new", *ROWS, "--unit", "eV", "--target", "z"], "add-task", "usage", 2),
        (["add-task", "new", *ROWS, "--unit", "eV", "--unit=eV"], "add-task", "usage", 2),
        (["predict", "energy", "x.cif", "-o", "a.csv", "--output", "b.csv"], "predict", "usage", 2),
        ([], None, "usage", 2),
    ],
)
def test_every_failure_prints_one_envelope(hub, arguments, command, code, exit_code):
    ended = hub(*arguments, "--json") if arguments else hub("--json")
    assert ended.code == exit_code
    envelope = ended.envelope
    assert list(envelope) == ["schema", "command", "status", "exit_code", "data", "errors"]
    assert envelope["schema"] == "moma-cl/1"
    assert (envelope["command"], envelope["status"]) == (command, "error")
    assert (envelope["exit_code"], envelope["data"]) == (exit_code, None)
    (problem,) = envelope["errors"]
    assert problem["code"].startswith(code)
    assert problem["message"]


def test_the_device_is_the_option_then_the_environment(hub, inputs, monkeypatch):
    ask = ("predict", "energy", inputs / "ask.jsonl")
    monkeypatch.setitem(ENVIRONMENT, "MOMA_CL_DEVICE", ABSENT)
    refused = hub(*ask)
    assert refused.code == 4
    assert f"device {ABSENT!r} was asked for" in refused.err
    assert hub(*ask, "--device", "cpu").code == 0


def test_an_option_given_twice_is_named(hub):
    ended = hub("add-task", "new", *ROWS, "--target", "z", "--unit", "eV")
    assert ended.code == 2
    assert "--target is given 2 times" in ended.err


def test_a_mistyped_task_or_command_is_guessed(hub):
    ended = hub("predict", "enrgy", "x.cif")
    assert ended.out == ""
    assert "did you mean 'energy'" in ended.err
    assert "Did you mean 'add-tasks', 'add-task'" in hub("add-taks").err


ENDLESS = [
    ("update", "--settle"),
    ("update", "--wait"),
    ("update", "--max-seconds"),
    ("daemon", "--interval"),
    ("daemon", "--settle"),
    ("gc", "--wait"),
    ("predict", "energy", "x.cif", "--level"),
    (*("add-module", "x", "--weights", "x", "--property", "x", "--unit", "eV"), "--validation-mae"),
]


@pytest.mark.parametrize("arguments", ENDLESS, ids=lambda words: f"{words[0]} {words[-1]}")
def test_numbers_without_end_are_wrong_usage(hub, arguments):
    for value in ("nan", "inf", "-inf", "1e300"):
        ended = hub(*arguments, value)
        wrong_level = arguments[0] == "predict" and value == "1e300"
        assert ended.code == (4 if wrong_level else 2), ended
        assert "internal" not in ended.err
        assert (value if wrong_level else arguments[-1]) in ended.err.replace("1e+300", "1e300")


def test_every_option_that_is_a_number_has_two_ends():
    commands = typer.main.get_command(program.app).commands
    ends = {
        (name, option.name): (getattr(option.type, "min", None), getattr(option.type, "max", None))
        for name, one in commands.items()
        for option in one.params
        if option.type.name.startswith(("int", "float"))
    }
    assert len(ends) >= 20
    # Those are checked where the message can say more.
    del ends["predict", "level"], ends["evaluate", "level"], ends["schedule", "every"]
    assert [option for option, pair in ends.items() if None in pair] == []


def test_a_hub_that_is_not_there_is_named(tmp_path, hub):
    ended = hub("--hub", tmp_path / "none", "tasks")
    assert ended.code == 3
    assert str(tmp_path / "none") in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in hub("--hub", tmp_path / "none", "tasks", "--debug").err


def test_the_hub_is_the_option_then_the_environment_then_a_folder_here(tmp_path, monkeypatch):
    run = program.Run(json=False, debug=False)
    monkeypatch.delenv("MOMA_CL_HUB", raising=False)
    assert run.path == Path("moma-hub")
    monkeypatch.setenv("MOMA_CL_HUB", "/elsewhere")
    assert run.path == Path("/elsewhere")
    off = {"json": False, "quiet": False, "verbose": False, "debug": False}
    run.set_options(hub=tmp_path / "before", **off)
    run.set_options(hub=None, **off)
    assert run.path == tmp_path / "before"
    run.set_options(hub=tmp_path / "after", **off)
    assert run.path == tmp_path / "after"


def test_a_second_writer_is_told_to_come_back(own_hub):
    with Store.open(own_hub.hub, write=True):
        ended = own_hub("retract", "energy", "row-0", "--json")
        idle = own_hub("update", "--json")
    assert ended.code == 5
    assert ended.envelope["errors"][0]["code"] == "busy"
    assert idle.code == 0  # nothing is stale: there is nobody to wait for


@pytest.fixture
def interruptible():
    """Handle interrupts, and so have children do: a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_with_130_and_says_so(own_hub, as_json):
    arguments = ["retract", "energy", "row-0", "--wait", "60", *(["--json"] if as_json else [])]
    with Store.open(own_hub.hub, write=True):
        process = subprocess.Popen(
            own_hub.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _wait_for_the_lock(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    if as_json:
        assert json.loads(out)["errors"][0]["code"] == "interrupted"
    else:
        assert (out, "interrupted" in err) == ("", True)


def _wait_for_the_lock(pid: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # one that was listed may be closed by now
                if descriptor.readlink().name == "writer.lock":
                    return
        time.sleep(0.02)
    pytest.fail("the process never came to wait for the lock")


def test_a_progress_bar_leaves_stdout_alone(hub, inputs):
    terminal, stderr = pty.openpty()
    command = hub.command("predict", "energy", inputs / "ask.jsonl", "--format", "jsonl")
    shown = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        os.close(stderr)
        # A terminal holds 4,096 bytes: who writes more waits until somebody has read them.
        with contextlib.suppress(OSError):  # what it says once the program has ended
            while part := os.read(terminal, 1 << 16):
                shown += part
        os.close(terminal)
        out, _ = process.communicate()
    assert process.returncode == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 4
    assert b"predicting" in shown


def test_a_reader_that_stops_reading_is_no_error(hub):
    command = " ".join(hub.command("show", "energy"))
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1 >/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", ["tasks", "modules", "log", "plan", "status", "schedule", "update", "--help"]
)
def test_looking_and_an_update_with_nothing_to_do_import_nothing_heavy(hub, arguments):
    code = (
        "import sys; from moma_cli.app import main\n"
        f"assert main(['--hub', {str(hub.hub)!r}, {arguments!r}]) == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy"
    )
    run_python(code)


def test_numbers_that_json_lacks_are_null():
    line = output.json_line({"a": [float("nan"), float("inf"), 1.5], "p": Path("x"), "n": None})
    assert json.loads(line) == {"a": [None, None, 1.5], "p": "x", "n": None}


def test_control_characters_do_not_reach_the_terminal(capsys):
    output.print_table(output.Table(columns=("id",), rows=[["a\x1b[31mb\nc"]]), sys.stdout)
    assert capsys.readouterr().out == "id\na\\x1b[31mb\\nc\n"


def test_choices_are_those_of_the_library():
    assert get_args(add_rows.TransformChoice) == tuple(Transform)
    assert get_args(add_rows.ModuleChoice) == ModuleKind.of_tasks()


def test_every_command_has_help_with_an_example_and_a_place_in_the_list(capsys):
    assert app.main([]) == 0
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", capsys.readouterr().out, flags=re.MULTILINE)
    assert sorted(listed) == COMMANDS
    declared = [command.name for command in program.app.registered_commands]
    assert sorted(declared) == COMMANDS
    for name in COMMANDS:
        assert app.main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"moma-cl {name}" in out.partition("Example:")[2]
        assert "--hub PATH" in out


def test_the_manual_has_every_command():
    headings = re.findall(r"^### `([a-z-]+)`", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(headings) == COMMANDS


def test_the_version_is_the_package_s(capsys):
    from moma_cl import __version__

    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out == f"moma-cl {__version__}\n"
