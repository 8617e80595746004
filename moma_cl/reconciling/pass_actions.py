"""What a pass did: its actions, and one entry for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

FIRST_PREDICTOR = "the first predictor of the task"
"""Why a task's first answer was promoted."""


class PassAction(StrEnum):
    """What was done about a derivation, a task or a delivery, or why nothing was."""

    DERIVED = "derived"
    COMPOSED = "composed"
    PROMOTED = "promoted"
    KEPT_BESIDE = "kept-beside"  # fitted, and not better than the champion
    HELD = "held"  # fitted, and not promoted before somebody confirms it
    MODULE = "module"  # the task's own module was added
    FAILED = "failed"
    # the champion was asked rows that are new
    DRIFT = "drift"  # it errs more on them than it promised
    MEASURED = "measured"
    # deliveries
    ADDED = "added"  # their rows were
    REFUSED = "refused"
    UNCLAIMED = "unclaimed"  # no task has the name of its folder
    UNFINISHED = "unfinished"  # it is empty, or its end is cut off
    # derivations that were not done
    LEFT = "left"  # it is not worth it, or waits for another derivation
    LEFT_TO_ANOTHER = "left-to-another"  # process, which makes a pass
    POSTPONED = "postponed"  # there was no time
    WAITING = "waiting"  # it failed before, and is tried again in a later pass
    SET_ASIDE = "set-aside"  # it failed too often

    @property
    def changed_nothing(self) -> bool:
        """Whether the hub is as it was before."""
        return self in _CHANGED_NOTHING

    @property
    def is_problem(self) -> bool:
        """Whether somebody should read of it."""
        return self in _PROBLEMS


_CHANGED_NOTHING = frozenset(
    {
        PassAction.LEFT,
        PassAction.LEFT_TO_ANOTHER,
        PassAction.POSTPONED,
        PassAction.WAITING,
        PassAction.SET_ASIDE,
        PassAction.UNCLAIMED,
        PassAction.UNFINISHED,
    }
)
_PROBLEMS = frozenset(
    {
        PassAction.FAILED,
        PassAction.SET_ASIDE,
        PassAction.REFUSED,
        PassAction.UNCLAIMED,
        PassAction.UNFINISHED,
        PassAction.DRIFT,
        PassAction.HELD,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Something a pass did, or left undone.

    Attributes
    ----------
    task
        The task it belongs to.
    action
        What was done, or why nothing was.
    kind
        What was derived, where something was.
    text
        What happened, for people.
    seconds
        How long it took.
    figures
        The same for programs, and for the mail.
    told
        Whether an earlier pass has told of it.
    """

    task: str
    action: PassAction
    kind: str
    text: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)
    told: bool = False

    @classmethod
    def of(
        cls,
        task: str,
        action: PassAction,
        kind: str,
        text: str,
        seconds: float = 0.0,
        *,
        told: bool = False,
    ) -> Self:
        """Make an entry without figures."""
        return cls(task=task, action=action, kind=str(kind), text=text, seconds=seconds, told=told)
