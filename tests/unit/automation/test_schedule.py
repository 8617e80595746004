"""Schedules: what is printed runs exactly what was meant, whatever the path holds."""

import re
import shutil
import subprocess
import sys

import pytest

from moma_cl.automation import schedule
from moma_store.errors import InvalidInputError

NASTY = [
    "plain",
    "with space",
    "100%",
    "a%b %c",
    "back\\slash",
    "both\\%x",
    "it's",
    '"q"',
    "$HOME",
    "é;&#",
]
SYSTEMD = shutil.which("systemd-analyze")


def run_by_cron(line: str, folder) -> list[str]:
    """Run a line as cron does, and give the arguments that arrive.

    Cron cuts the command at the first bare `%` and makes `\\%` a `%`, as in `do_command.c` of
    Vixie cron and its heirs; what is left goes to /bin/sh.
    """
    fields = re.fullmatch(r"(\S+) (\S+) (\S+) (\S+) (\S+) (.+)", line)
    assert fields is not None
    command, escaped = "", False
    for character in fields[6]:
        if escaped and character == "%":
            command = command[:-1]
        elif character == "%":
            break
        escaped = not escaped and character == "\\"
        command += character
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, cwd=folder)
    return ended.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("name", NASTY)
def test_a_crontab_line_runs_just_this_command(tmp_path, name):
    program = tmp_path / f"show {name}"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    line = schedule.crontab_line(
        [str(program), "--hub", f"/data/{name}", "update"], schedule.daily("2:05")
    )
    assert line.startswith("5 2 * * * ")
    assert run_by_cron(line, tmp_path) == ["--hub", f"/data/{name}", "update"]


@pytest.mark.parametrize(
    ("minutes", "fields", "calendar"),
    [
        (1, "* * * * *", "*-*-* *:0/1:00"),
        (10, "*/10 * * * *", "*-*-* *:0/10:00"),
        (60, "0 * * * *", "*-*-* 0/1:00:00"),
        (360, "0 */6 * * *", "*-*-* 0/6:00:00"),
    ],
)
def test_passes_all_day_long(minutes, fields, calendar):
    when = schedule.every(minutes)
    assert (when.cron, when.calendar) == (fields, calendar)


@pytest.mark.parametrize("minutes", [-5, 0, 7, 90, 300, 1440, 10_000])
def test_what_cron_cannot_do_evenly_is_refused(minutes):
    with pytest.raises(InvalidInputError, match="evenly"):
        schedule.every(minutes)


@pytest.mark.parametrize("text", ["24:00", "2", "02:60", "two", "2:5", " 02:30"])
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(InvalidInputError, match="02:30"):
        schedule.daily(text)


def test_a_path_that_no_line_can_hold_is_refused():
    for word in ("a\nb", "a\tb", "\udcff"):
        with pytest.raises(InvalidInputError, match="another name"):
            schedule.crontab_line(["p", word], schedule.every(10))
        with pytest.raises(InvalidInputError, match="another name"):
            schedule.timer_units(schedule.Path("h"), ["p", word], schedule.every(10))


def test_hubs_whose_folders_have_one_name_have_different_units(tmp_path):
    one, other = (schedule.unit_name(tmp_path / place / "lab hub") for place in "ab")
    assert one != other
    assert re.fullmatch(r"moma-cl-lab-hub-[0-9a-f]{8}", one)


def test_a_missed_run_is_made_up_for_and_none_overlap(tmp_path):
    service, timer = schedule.timer_units(tmp_path, ["/bin/x"], schedule.daily("02:30"))
    assert "Persistent=true" in timer.text
    assert "OnCalendar=*-*-* 02:30:00" in timer.text
    assert "Type=oneshot" in service.text  # systemd starts no unit that is still starting
    assert timer.name.removesuffix(".timer") == service.name.removesuffix(".service")


@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd")
@pytest.mark.parametrize("name", NASTY)
def test_systemd_accepts_the_units(tmp_path, name):
    hub = tmp_path / name
    command = [sys.executable, "-m", "moma_cli", "--hub", str(hub), "update"]
    units = [
        *schedule.timer_units(hub, command, schedule.every(30)),
        schedule.daemon_unit(hub, command),
    ]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.text)
    ended = subprocess.run(
        [SYSTEMD, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)],
        capture_output=True,
        text=True,
        check=False,
        env={
            "SYSTEMD_LOG_LEVEL": "warning",
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(tmp_path),
        },
    )
    assert (ended.returncode, ours(ended.stderr)) == (0, [])


def ours(stderr: str) -> list[str]:
    """What it says of these units; of the machine's own it has its own opinion."""
    return [line for line in stderr.splitlines() if "moma-cl-" in line]


@pytest.mark.parametrize("name", NASTY)
def test_a_unit_starts_just_this_command(tmp_path, name):
    words = ["/opt/my app/python", "-m", "x", "--hub", f"/data/{name}"]
    service = schedule.timer_units(tmp_path, words, schedule.every(30))[0].text
    (line,) = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    assert split_by_systemd(line.removeprefix("ExecStart=")) == words


def split_by_systemd(text: str) -> list[str]:
    """Take a command line apart: systemd.syntax(7), "Quoting"; specifiers and variables undone."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', text)
    plain = [re.sub(r"\\(.)", r"\1", quoted) if quoted else bare for quoted, bare in words]
    return [word.replace("%%", "%").replace("$$", "$") for word in plain]
