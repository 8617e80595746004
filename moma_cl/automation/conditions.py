"""Conditions: what lasts until somebody acts, and is therefore told once and not by every pass.

Which of them an earlier pass has told is kept in a file of the hub. One that ends is forgotten, so
that it is told again should it return.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from moma_cl.automation import inbox
from moma_cl.automation.delivery_batches import KIND
from moma_cl.automation.state_files import read_state, write_state
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.reconciling.plan import Step
from moma_cl.reconciling.reasons import StepStatus

FILE = "told.json"

_LASTING = frozenset({PassAction.UNCLAIMED, PassAction.UNFINISHED, PassAction.SET_ASIDE})


def left_alone(hub: Path, tasks: Collection[str], *, seconds: float) -> list[Done]:
    """Note what lies in the inbox and is not added: folders of no task, deliveries cut off.

    Parameters
    ----------
    hub
        The hub.
    tasks
        Names of all its tasks.
    seconds
        How long an unfinished delivery must be unchanged, s: it may be on its way.

    Returns
    -------
    list[Done]
        One entry for each folder, and for each delivery.
    """
    deliveries = inbox.look(hub)
    entries = [
        _entry(PassAction.UNCLAIMED, folder, text)
        for folder, text in inbox.unclaimed(deliveries, tasks).items()
    ]
    own = [(one, inbox.why_incomplete(one)) for one in deliveries if one.task in tasks]
    unfinished = [(one, why) for one, why in own if why is not None]
    if not unfinished:
        return entries
    time.sleep(seconds)
    still = set(inbox.look(hub))
    return entries + [
        replace(
            _entry(PassAction.UNFINISHED, one.task, f"{one.shown} is left alone: {why}"),
            figures={"closed": one.signature is None},
        )
        for one, why in unfinished
        if one in still
    ]


def set_aside(steps: Iterable[Step], done: Sequence[Done]) -> list[Done]:
    """Note the derivations of a plan that failed too often, where the pass has not done so."""
    noted = {(entry.task, entry.kind) for entry in done if entry.action == PassAction.SET_ASIDE}
    return [
        Done(
            task=step.task,
            action=PassAction.SET_ASIDE,
            kind=step.kind,
            text=step.why,
            seconds=0.0,
        )
        for step in steps
        if step.status == StepStatus.SET_ASIDE and (step.task, step.kind) not in noted
    ]


def marked(hub: Path, done: Sequence[Done]) -> list[Done]:
    """Mark the conditions that an earlier pass has told."""
    earlier = set((read_state(hub / FILE) or {}).get("told", ()))
    return [replace(e, told=True) if _key(e) in earlier else e for e in done]


def remember(hub: Path, done: Sequence[Done]) -> None:
    """Remember which conditions have been told, and forget those that have ended."""
    told = sorted({key for entry in done if (key := _key(entry))})
    if told == (read_state(hub / FILE) or {}).get("told", []):
        return
    with suppress(OSError):  # a hub that is mounted for reading is told of every time
        write_state(hub / FILE, {"told": told})


def _key(entry: Done) -> str:
    """Name a condition; nothing for what happens once."""
    if entry.action == PassAction.SET_ASIDE:  # its text counts the tries
        return f"{entry.action}:{entry.task}:{entry.kind}"
    lasting = entry.action in _LASTING or (entry.action == PassAction.FAILED and entry.kind == KIND)
    return f"{entry.action}:{entry.task}:{entry.text}" if lasting else ""


def _entry(action: PassAction, task: str, text: str) -> Done:
    return Done(task=task, action=action, kind=KIND, text=text, seconds=0.0)
