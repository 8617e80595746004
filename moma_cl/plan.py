"""Plans: what a pass would compute and why, as ``make -n`` says it. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from moma_cl.derivations import Derivation, DerivationKind
from moma_cl.reconcile import NOT_WORTH_IT, Reads, task_names, walk
from moma_store.entries import Memo
from moma_store.errors import MomaError


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
        ``stale``, ``after`` (follows from something stale), ``not-worth-it`` or ``failed``.
    seconds
        What the like of it cost lately; none where there was no such thing yet.
    """

    task: str
    kind: str
    subject: str
    why: str
    status: str
    seconds: float | None


@dataclass(slots=True, kw_only=True)
class Planner:
    """A worker that only takes notes."""

    store: MemoReads
    steps: list[Step]
    _costs: dict[DerivationKind, float | None]

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up; note it where it is not known."""
        memo = self.store.memo(derivation.key)
        if memo is not None:
            return memo.result
        self._note(derivation.task, derivation.kind, derivation.subject, why, "stale")
        return None

    def compose(self, task: str, composition: str) -> None:
        """Note that a known composition would be taken up."""
        self._note(task, DerivationKind.COMPOSITION, composition[:12], "known from before", "stale")

    def adopt_module(self, task: str, module: str) -> None:
        """Note that a known module would be taken up."""
        self._note(task, DerivationKind.MODULE, module[:12], "known from before", "stale")

    def adopt_predictor(self, task: str, predictor: str, *, first: bool) -> None:
        """Note that a known predictor would be compared with the champion."""
        del first
        self._note(task, DerivationKind.PREDICTOR, predictor[:12], "known from before", "stale")

    def leave(self, task: str, kind: DerivationKind, why: str) -> None:
        """Note what waits or is not worth it."""
        status = "not-worth-it" if why.startswith(NOT_WORTH_IT) else "after"
        self._note(task, kind, "", why, status)

    def fail(self, task: str, error: MomaError) -> None:
        """Note that a task cannot even be planned."""
        self._note(task, DerivationKind.PREDICTOR, "", error.message, "failed")

    def _note(self, task: str, kind: DerivationKind, subject: str, why: str, status: str) -> None:
        seconds = self._cost(kind) if status == "stale" else None
        step = Step(
            task=task, kind=str(kind), subject=subject, why=why, status=status, seconds=seconds
        )
        if step not in self.steps:
            self.steps.append(step)

    def _cost(self, kind: DerivationKind) -> float | None:
        if kind not in self._costs:
            known = [memo.seconds for memo in self.store.memos(f"{kind}:").values()]
            self._costs[kind] = median(known) if known else None
        return self._costs[kind]


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
    planner = Planner(store=store, steps=[], _costs={})
    walk(store, planner, only=only)
    trained = {step.task for step in planner.steps if step.kind == DerivationKind.MODULE}
    for name in task_names(store):
        others = sorted(trained - {name})
        if others and (only is None or name in only):
            planner.leave(
                name, DerivationKind.COMPOSITION, f"after the module of {', '.join(others)}"
            )
    return planner.steps
