"""Plans: what a pass would compute and why, as ``make -n`` says it. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from moma_cl.derivations.keys import Derivation, DerivationKind, comparison_key
from moma_cl.reconciling.costs import Costs
from moma_cl.reconciling.failures import Failures, is_set_aside
from moma_cl.reconciling.walk import NOT_WORTH_IT, walk
from moma_cl.records.hub import Reads
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names
from moma_store.entries import Memo
from moma_store.errors import MomaError

STALE, AFTER, FAILED = "stale", "after", "failed"
NOT_WORTH, WAITING, SET_ASIDE = "not-worth-it", "waiting", "set-aside"


class MemoReads(Reads, Protocol):
    """What of the store planning reads."""

    def memo(self, key: str) -> Memo | None:
        """Look up a derivation's result."""

    def memos(self, prefix: str = "") -> Mapping[str, Memo]:
        """List results by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something a pass would do, or leave.

    Attributes
    ----------
    task
        The task it belongs to.
    kind
        What would be derived.
    subject
        What it is about.
    why
        Why it is stale, or why it is left.
    status
        ``stale``, ``after`` (follows from something stale), ``waiting`` (it failed, and is tried
        again after another pass), ``set-aside`` (it failed too often), ``not-worth-it`` or
        ``failed`` (it cannot even be planned).
    seconds
        What it is likely to cost; none where there was nothing like it yet.
    inputs
        The records it reads, each as a name and its digest; none where that is not known yet.
    """

    task: str
    kind: str
    subject: str
    why: str
    status: str
    seconds: float | None
    inputs: tuple[tuple[str, str], ...] = ()


def is_work(steps: Iterable[Step]) -> bool:
    """Say whether a pass would have anything to do.

    Parameters
    ----------
    steps
        A plan.

    Returns
    -------
    bool
        Whether something is stale, waits for its next try, or must be reported as failed.
    """
    return any(step.status in {STALE, WAITING, FAILED} for step in steps)


def has_failures(steps: Iterable[Step]) -> bool:
    """Say whether anything failed before that could be tried again.

    Parameters
    ----------
    steps
        A plan.

    Returns
    -------
    bool
        Whether something waits or is set aside.
    """
    return any(step.status in {WAITING, SET_ASIDE} for step in steps)


@dataclass(slots=True, kw_only=True)
class Planner:
    """A worker that only takes notes."""

    store: MemoReads
    steps: list[Step]
    _costs: Costs
    _failures: Failures

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up; note it where it is not known."""
        memo = self.store.memo(derivation.key)
        if memo is not None:
            return memo.result
        failed, status = self._failed(derivation.key)
        self._note(
            Step(
                task=derivation.task,
                kind=str(derivation.kind),
                subject=derivation.subject,
                why=failed or why,
                status=status,
                seconds=None if status == SET_ASIDE else self._costs.of(derivation),
                inputs=tuple((name, d) for name, found in derivation.reads.items() for d in found),
            )
        )
        return None

    def compose(self, task: str, composition: str) -> None:
        """Note that a known composition would be taken up."""
        self._note(_known(task, DerivationKind.COMPOSITION, composition))

    def adopt_module(self, task: str, module: str) -> None:
        """Note that a known module would be taken up."""
        self._note(_known(task, DerivationKind.MODULE, module))

    def adopt_predictor(self, task: str, predictor: str, *, first: bool) -> None:
        """Note that a known predictor would be compared with the champion."""
        del first
        champion = self.store.ref(RefKind.PREDICTOR.of(task))
        failed, status = self._failed(comparison_key(champion, predictor))
        self._note(_known(task, DerivationKind.PREDICTOR, predictor, failed, status))

    def leave(self, task: str, kind: DerivationKind, why: str) -> None:
        """Note what waits or is not worth it."""
        status = NOT_WORTH if why.startswith(NOT_WORTH_IT) else AFTER
        self._note(_plain(task, kind, why, status))

    def fail(self, task: str, error: MomaError) -> None:
        """Note that a task cannot even be planned."""
        self._note(_plain(task, DerivationKind.PREDICTOR, error.message, FAILED))

    def _failed(self, key: str) -> tuple[str, str]:
        """Give how something failed before, if it did, and its status."""
        failure = self._failures.by_key.get(key)
        if failure is None:
            return "", STALE
        times = "once" if failure.tries == 1 else f"{failure.tries} times"
        text = f"failed {times}: [{failure.code}] {failure.message}"
        if is_set_aside(failure):
            return f"{text}; `moma-cl update --retry` tries again", SET_ASIDE
        return text, WAITING if failure.wait else STALE

    def _note(self, step: Step) -> None:
        if step not in self.steps:
            self.steps.append(step)


def _known(
    task: str, kind: DerivationKind, digest: str, why: str = "", status: str = STALE
) -> Step:
    return Step(
        task=task,
        kind=str(kind),
        subject=digest[:12],
        why=why or "known from before",
        status=status,
        seconds=None,
        inputs=((str(kind), digest),),
    )


def _plain(task: str, kind: DerivationKind, why: str, status: str) -> Step:
    return Step(task=task, kind=str(kind), subject="", why=why, status=status, seconds=None)


def plan_steps(store: MemoReads, *, only: Collection[str] | None = None) -> list[Step]:
    """Work out what is stale.

    Parameters
    ----------
    store
        The hub's store, or a snapshot of it.
    only
        Tasks to look at; all by default.

    Returns
    -------
    list[Step]
        The steps in the order in which a pass would take them.
    """
    planner = Planner(
        store=store, steps=[], _costs=Costs(store=store), _failures=Failures.of(store)
    )
    walk(store, planner, only=only)
    trained = {
        step.task
        for step in planner.steps
        if step.kind == DerivationKind.MODULE and step.status == STALE
    }
    for name in task_names(store):
        others = sorted(trained - {name})
        if others and (only is None or name in only):
            planner.leave(
                name, DerivationKind.COMPOSITION, f"after the module of {', '.join(others)}"
            )
    return planner.steps
