"""The last pass: what it did and how it ended, in a file of the hub, whoever made it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation.state_files import read_state, write_state
from moma_store.errors import BusyError, MomaError, NotFoundError

if TYPE_CHECKING:
    from moma_cl.reconciling.composer import Done

FILE = "last-pass.json"
IDLE, WORKED, FAILED = "nothing stale", "done", "failed"
_PROBLEMS = ("failed", "refused", "unclaimed", "drift")  # actions that somebody should read of

_LEFT = frozenset({"left", "waiting", "set-aside", "postponed", "unclaimed"})  # nothing was done


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPass:
    """How the last pass ended.

    Attributes
    ----------
    at
        When it began, UTC, ISO 8601.
    seconds
        How long it took.
    outcome
        ``nothing stale``, ``done``, or ``failed`` where a task or the pass did.
    actions
        How often what was done.
    problems
        What somebody should read.
    """

    at: str
    seconds: float
    outcome: str
    actions: dict[str, int]
    problems: list[str]


@contextmanager
def noted(hub: Path) -> Iterator[list[Done]]:
    """Note how the pass in the block ends.

    Parameters
    ----------
    hub
        The hub.

    Yields
    ------
    list[Done]
        To be filled with what was done.
    """
    at, start = datetime.now(UTC), time.monotonic()
    done: list[Done] = []
    errors: list[str] = []
    try:
        yield done
    except (BusyError, NotFoundError):  # no pass was made
        raise
    except MomaError as error:
        errors.append(f"[{error.code}] {error.message}")
        _write(hub, _ended(done, errors, at, time.monotonic() - start))
        raise
    _write(hub, _ended(done, errors, at, time.monotonic() - start))


def last_pass(hub: Path) -> LastPass | None:
    """Read how the last pass ended.

    Parameters
    ----------
    hub
        The hub.

    Returns
    -------
    LastPass | None
        None before the first pass, or where the file cannot be read.
    """
    document = read_state(hub / FILE)
    try:
        return None if document is None else LastPass(**document)
    except TypeError:  # another version of moma-cl wrote it
        return None


def _ended(done: list[Done], errors: list[str], at: datetime, seconds: float) -> LastPass:
    actions = Counter(entry.action for entry in done)
    failed = bool(errors) or actions["failed"] > 0
    worked = bool(actions.keys() - _LEFT)
    return LastPass(
        at=at.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        outcome=FAILED if failed else WORKED if worked else IDLE,
        actions=dict(actions),
        problems=errors + [f"{d.task}: {d.text}" for d in done if d.action in _PROBLEMS],
    )


def _write(hub: Path, ended: LastPass) -> None:
    # A hub that is mounted for reading has passes with nothing to do.
    with suppress(OSError):
        write_state(hub / FILE, asdict(ended))
