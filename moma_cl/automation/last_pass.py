"""The last passes: what they did and how they ended, in a file of the hub, whoever made them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from moma_cl.automation.state_files import read_state, write_state
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_store.errors import BusyError, MomaError, NotFoundError

FILE = "passes.json"
KEPT = 20
"""Passes that are kept beside the last one: those that did something, or failed."""


class PassOutcome(StrEnum):
    """How a pass ended."""

    IDLE = "nothing stale"
    WORKED = "done"
    FAILED = "failed"  # a task did, or the pass itself


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
        Whether it did something, and whether that failed.
    actions
        How often what was done.
    problems
        What somebody should read.
    """

    at: str
    seconds: float
    outcome: PassOutcome
    actions: dict[PassAction, int]
    problems: list[str]


@contextmanager
def noted(hub: Path) -> Iterator[list[Done]]:
    """Note how the pass in the block ends; the block fills the list with what was done."""
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
    """Read how the last pass ended; none before the first, or where the file cannot be read."""
    passes = last_passes(hub)
    return passes[0] if passes else None


def last_passes(hub: Path) -> tuple[LastPass, ...]:
    """Read how the last passes ended, the latest first; of those with nothing to do, only that."""
    document = read_state(hub / FILE) or {}
    try:
        return tuple(map(_read, document.get("passes", ())))
    except (KeyError, TypeError, ValueError, AttributeError):  # another version wrote it
        return ()


def _read(document: dict[str, Any]) -> LastPass:
    actions = {PassAction(action): count for action, count in document["actions"].items()}
    outcome = PassOutcome(document["outcome"])
    return LastPass(**{**document, "actions": actions, "outcome": outcome})


def _ended(done: list[Done], errors: list[str], at: datetime, seconds: float) -> LastPass:
    actions = Counter(entry.action for entry in done)
    failed = bool(errors) or actions[PassAction.FAILED] > 0
    worked = not all(action.changed_nothing for action in actions)
    success = PassOutcome.WORKED if worked else PassOutcome.IDLE
    return LastPass(
        at=at.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        outcome=PassOutcome.FAILED if failed else success,
        actions=dict(actions),
        problems=errors + [f"{d.task}: {d.text}" for d in done if d.action.is_problem],
    )


def _write(hub: Path, ended: LastPass) -> None:
    # A hub that is mounted for reading has passes with nothing to do.
    with suppress(OSError):
        earlier = [one for one in last_passes(hub) if one.outcome != PassOutcome.IDLE][:KEPT]
        write_state(hub / FILE, {"passes": [asdict(one) for one in (ended, *earlier)]})
