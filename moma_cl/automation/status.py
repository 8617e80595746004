"""Status: how tasks, inbox, last pass and daemon of a hub are, read without writing anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation import daemon, drift, inbox
from moma_cl.automation.daemon import Heartbeat
from moma_cl.automation.last_pass import LastPass, last_passes
from moma_cl.reconciling.holds import hold_of
from moma_cl.reconciling.plan import Step, plan_steps
from moma_cl.reconciling.reasons import StepStatus
from moma_cl.records.records import Drift, Predictor
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_store.errors import StorageError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_store.catalogue import Snapshot

_PROBLEMS = frozenset({StepStatus.FAILED, StepStatus.SET_ASIDE, StepStatus.WAITING})


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """Whether something keeps the hub current by itself.

    Attributes
    ----------
    running
        Whether it runs now.
    heartbeat
        What it said last; what the last one said if it does not run.
    """

    running: bool
    heartbeat: Heartbeat | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """How a task is.

    Attributes
    ----------
    name
        The task's name.
    rows
        Its live rows.
    champion
        Digest of the predictor that answers; none before the first.
    version
        How many champions the task has had, this one included.
    method
        Which head of it answers.
    held_out_mae
        Its error on rows that decided nothing, or that of the cross-validation, in the unit.
    error_from
        Which of the two it is, a calibration; none without an error.
    unit
        The task's unit.
    steps
        What a pass would do or leave alone: how often, by status.
    problems
        What fails or was set aside, and why.
    drift
        What was last measured on new rows; none where none were added.
    drifted
        Whether that was beyond chance, and the champion has not been replaced since.
    held
        Why the promotion of a new predictor waits for somebody; none where none does.
    """

    name: str
    rows: int
    champion: str | None
    version: int
    method: str | None
    held_out_mae: float | None
    error_from: str | None
    unit: str
    steps: dict[StepStatus, int]
    problems: tuple[str, ...]
    drift: Drift | None
    drifted: bool
    held: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxStatus:
    """What lies in the inbox.

    Attributes
    ----------
    waiting
        Deliveries that the next pass adds, if they are complete.
    unfinished
        Deliveries that cannot be complete yet, and why.
    unclaimed
        Folders of no task, and what to do about them.
    refused
        Deliveries that were refused and still lie in ``refused``, by task.
    done
        Number of deliveries that were added and still lie in ``done``, by task.
    """

    waiting: tuple[str, ...]
    unfinished: dict[str, str]
    unclaimed: dict[str, str]
    refused: dict[str, tuple[str, ...]]
    done: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatus:
    """How a hub is, in all its parts; earlier passes are those that did something, latest first."""

    hub: str
    daemon: DaemonStatus
    last_pass: LastPass | None
    earlier_passes: tuple[LastPass, ...]
    tasks: tuple[TaskStatus, ...]
    inbox: InboxStatus


def status(hub: Path) -> HubStatus:
    """Look at tasks, inbox, last pass and daemon of a hub."""
    with Store.open(hub) as store, store.snapshot() as view:
        names, past = task_names(view), Past.of(view)
        steps = plan_steps(view)
        tasks = tuple(_task(view, past, steps, name) for name in names)
    passes = last_passes(hub)
    return HubStatus(
        hub=str(hub),
        daemon=DaemonStatus(running=daemon.is_running(hub), heartbeat=daemon.heartbeat(hub)),
        last_pass=passes[0] if passes else None,
        earlier_passes=passes[1:],
        tasks=tasks,
        inbox=_inbox(hub, names),
    )


def _task(view: Snapshot, past: Past, steps: list[Step], name: str) -> TaskStatus:
    state = task_state(view, name)
    digest = view.ref(RefKind.PREDICTOR.of(name))
    champion = None if digest is None else Predictor.from_doc(view.record(digest))
    measured = view.ref(RefKind.DRIFT.of(name))
    record = None if measured is None else Drift.from_doc(view.record(measured))
    error = None if champion is None else drift.promised_mae(champion)
    hold = hold_of(view, name)
    own = [step for step in steps if step.task == name and step.status != StepStatus.NOT_WORTH_IT]
    return TaskStatus(
        name=name,
        rows=state.dataset.n_rows,
        champion=digest,
        version=len(past.moves.get(RefKind.PREDICTOR.of(name), [])),
        method=None if champion is None else str(champion.method),
        held_out_mae=error,
        error_from=None if champion is None or error is None else str(champion.calibration),
        unit=state.task.unit,
        steps=dict(Counter(step.status for step in own)),
        problems=tuple(step.why for step in own if step.status in _PROBLEMS),
        drift=record,
        drifted=record is not None and record.drifted and record.predictor == digest,
        held=None if hold is None else hold.because,
    )


def _inbox(hub: Path, names: list[str]) -> InboxStatus:
    try:
        deliveries = inbox.look(hub)
    except StorageError as error:  # on a file system that is gone for the moment
        return InboxStatus(
            waiting=(), unfinished={inbox.INBOX: error.message}, unclaimed={}, refused={}, done={}
        )
    own = [
        (d, inbox.why_incomplete(d, most=inbox.AT_A_GLANCE)) for d in deliveries if d.task in names
    ]
    refused = {name: _put_away(hub, name, inbox.REFUSED) for name in names}
    done = {name: len(_put_away(hub, name, inbox.DONE)) for name in names}
    return InboxStatus(
        waiting=tuple(delivery.shown for delivery, reason in own if reason is None),
        unfinished={delivery.shown: reason for delivery, reason in own if reason is not None},
        unclaimed=inbox.unclaimed(deliveries, names),
        refused={name: files for name, files in refused.items() if files},
        done={name: count for name, count in done.items() if count},
    )


def _put_away(hub: Path, task: str, folder: str) -> tuple[str, ...]:
    place = inbox.folder_of(hub, task) / folder
    try:
        files = [entry.name for entry in place.iterdir()]
    except OSError:  # nothing was put away yet
        return ()
    return tuple(sorted(name for name in files if not name.endswith((inbox.REPORT, ".part"))))
