"""Schedules: a crontab line, or systemd units, that keep one hub current.

Whatever characters its path has: both have their own rules of quoting, on top of the shell's.

References
----------
crontab(5) for ``%``; systemd.syntax(7), "Quoting", and systemd.service(5), "Command lines".

"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moma_store.errors import InvalidInputError

_DAY = 24 * 60  # minutes
_HOUR = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When passes are made: every so many minutes, or once a day.

    Attributes
    ----------
    minute
        Minute of the hour at which, or counted from which, it begins.
    hour
        Hour of the day; counted from midnight where `every` is set.
    every
        Minutes between two passes; a day if None.
    """

    minute: int
    hour: int
    every: int | None = None

    @property
    def cron(self) -> str:
        """The five fields of a crontab line."""
        if self.every is None:
            return f"{self.minute} {self.hour} * * *"
        if self.every < _HOUR:
            return f"*/{self.every} * * * *" if self.every > 1 else "* * * * *"
        hours = self.every // _HOUR
        return f"0 */{hours} * * *" if hours > 1 else "0 * * * *"

    @property
    def calendar(self) -> str:
        """The same as systemd has it, systemd.time(7)."""
        if self.every is None:
            return f"*-*-* {self.hour:02d}:{self.minute:02d}:00"
        if self.every < _HOUR:
            return f"*-*-* *:0/{self.every}:00"
        return f"*-*-* 0/{self.every // _HOUR}:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit.

    Attributes
    ----------
    name
        Name of its file.
    text
        What the file holds.
    """

    name: str
    text: str


def daily(text: str) -> When:
    """Read a time of day, such as ``02:30``, at which a pass is made once a day."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise InvalidInputError(f"{text!r} is no time of day; expected one like 02:30")
    return When(hour=int(found[1]), minute=int(found[2]))


def every(minutes: int) -> When:
    """Make passes all day long, evenly.

    Parameters
    ----------
    minutes
        Minutes between two.

    Returns
    -------
    When
        The schedule.

    Raises
    ------
    InvalidInputError
        If they do not divide the hour, or whole hours of them the day: cron knows no other.
    """
    divides = minutes > 0 and (
        _HOUR % minutes == 0 if minutes <= _HOUR else minutes % _HOUR == 0 and _DAY % minutes == 0
    )
    if not divides or minutes == _DAY:
        raise InvalidInputError(
            f"every {minutes} minutes cannot be had evenly; expected 1, 2, 3, 4, 5, 6, 10, 12, 15, "
            "20, 30, 60, 120, 180, 240, 360, 480 or 720, or a time of day"
        )
    return When(hour=0, minute=0, every=minutes)


def crontab_line(command: Sequence[str], when: When) -> str:
    """Write a crontab line.

    Parameters
    ----------
    command
        The command and its arguments, the paths absolute.
    when
        When it runs.

    Returns
    -------
    str
        One line, for ``crontab -e``.

    Raises
    ------
    InvalidInputError
        If an argument cannot be part of a line.
    """
    return f"{when.cron} {' '.join(_for_cron(word) for word in _checked(command))}"


def timer_units(hub: Path, command: Sequence[str], when: When) -> list[Unit]:
    """Write a systemd service that makes one pass with a command, and the timer that starts it.

    A run that was missed while the machine was off is made up for once, and one that still goes
    on is not started again. What cannot be part of a line is refused as by `crontab_line`.
    """
    name = unit_name(hub)
    service = (
        f"[Unit]\nDescription=moma-cl: a pass over {_for_unit(str(hub))}\n\n"
        f"[Service]\nType=oneshot\nExecStart={_exec(command)}\n"
        # Another writer is at it, and the next run will do what it leaves.
        "SuccessExitStatus=5\n"
        "TimeoutStartSec=infinity\nTimeoutStopSec=5\nNice=10\n"
    )
    timer = (
        f"[Unit]\nDescription=moma-cl: passes over {_for_unit(str(hub))}\n\n"
        f"[Timer]\nOnCalendar={when.calendar}\nPersistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    return [Unit(name=f"{name}.service", text=service), Unit(name=f"{name}.timer", text=timer)]


def daemon_unit(hub: Path, command: Sequence[str]) -> Unit:
    """Write a systemd service that runs the daemon by a command, checked as for `timer_units`."""
    text = (
        f"[Unit]\nDescription=moma-cl: daemon of {_for_unit(str(hub))}\n\n"
        f"[Service]\nType=simple\nExecStart={_exec(command)}\n"
        # 5: it runs already; 7: another version is needed. Trying again would not help.
        "Restart=on-failure\nRestartSec=30\nRestartPreventExitStatus=5 7\n"
        "KillMode=mixed\nTimeoutStopSec=5\nNice=10\n\n"
        "[Install]\nWantedBy=default.target\n"
    )
    return Unit(name=f"{unit_name(hub)}-daemon.service", text=text)


def unit_name(hub: Path) -> str:
    """Name the units of a hub, without suffix: its folder, and digits that make it unique."""
    path = str(hub.absolute())
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", hub.name)[:80].strip("-.") or "hub"
    return f"moma-cl-{folder}-{hashlib.sha256(path.encode(errors='replace')).hexdigest()[:8]}"


def _checked(command: Sequence[str]) -> Sequence[str]:
    """Refuse what no line can hold."""
    for word in command:
        if not word.isprintable():  # surrogates, for bytes that are no UTF-8, are not either
            raise InvalidInputError(
                f"{word!r} has characters that a schedule cannot hold; give the folder another name"
            )
    return command


def _for_cron(word: str) -> str:
    # Cron makes `\%` a `%` before the shell sees it, and ends the line at a bare one. Only after
    # another backslash would it take the two for something else, so quotes go between.
    return shlex.quote(word).replace("\\%", "\\''%").replace("%", "\\%")


def _exec(command: Sequence[str]) -> str:
    program, *arguments = _checked(command)
    # Variables are not looked for in the program's own path.
    words = [_for_unit(program), *(_for_unit(word).replace("$", "$$") for word in arguments)]
    return " ".join(
        f'"{word}"' if re.search(r"[^A-Za-z0-9_./:=@,+-]", word) else word for word in words
    )


def _for_unit(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
