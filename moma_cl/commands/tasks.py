"""``remove-task``, ``rollback`` and ``confirm``: which tasks there are, and what answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moma_cl.reconciling.holds import hold_of
from moma_cl.records.champions import champions, choose_champion
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.refs import RefKind, refs_of_task
from moma_cl.records.tasks import task_state
from moma_store.errors import NotFoundError
from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """A champion that was changed by hand."""

    task: str
    before: str  # digest of the predictor that answered
    after: str  # digest of the predictor that answers now


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A promotion that was held, and that somebody has confirmed."""

    task: str
    before: str  # digest of the predictor that answered
    after: str  # digest of the predictor that answers now
    because: str  # why it was held


def remove_task(path: Path, name: str, *, wait: float = 0.0) -> None:
    """Remove a task and its modules; their records stay until ``gc``."""
    with Store.open(path, write=True, wait=wait) as store:
        task_state(store, name)
        with store.transaction(HistoryAction.REMOVE_TASK, {"task": name}) as transaction:
            for ref in refs_of_task(store.refs(), name):
                transaction.move_ref(ref, None, expected=transaction.ref(ref))


def rollback(path: Path, name: str, *, to: str | None = None, wait: float = 0.0) -> RolledBack:
    """Let an earlier predictor answer again; it answers until another is promoted."""
    with Store.open(path, write=True, wait=wait) as store:
        task_state(store, name)
        ref = RefKind.PREDICTOR.of(name)
        present = store.ref(ref)
        if present is None:
            raise NotFoundError(f"the hub has no {ref!r}; `moma-cl log` shows what happened to it")
        earlier = [digest for digest in champions(store, name) if digest != present]
        target = choose_champion(earlier, to, name)
        because = f"{target[:12]} answers again, in place of {present[:12]}"
        detail = {"task": name, "because": because, "before": present, "after": target}
        with store.transaction(HistoryAction.ROLLBACK, detail) as transaction:
            transaction.move_ref(ref, target, expected=present)
        return RolledBack(task=name, before=present, after=target)


def confirm(path: Path, name: str, *, wait: float = 0.0) -> Confirmed:
    """Promote the predictor whose promotion is held."""
    with Store.open(path, write=True, wait=wait) as store:
        task_state(store, name)
        hold = hold_of(store, name)
        if hold is None:
            raise NotFoundError(
                f"no promotion of task {name!r} is held; `moma-cl status` shows which tasks wait "
                "for somebody"
            )
        detail = {
            "task": name,
            "because": f"by hand: {hold.fitted[:12]} answers, in place of {hold.predictor[:12]}, "
            f"although {hold.because}",
            "before": hold.predictor,
            "after": hold.fitted,
        }
        with store.transaction(HistoryAction.CONFIRM, detail) as transaction:
            held = RefKind.HOLD.of(name)
            transaction.move_ref(held, None, expected=transaction.ref(held))
            champion = RefKind.PREDICTOR.of(name)
            transaction.move_ref(champion, hold.fitted, expected=hold.predictor)
        return Confirmed(task=name, before=hold.predictor, after=hold.fitted, because=hold.because)
