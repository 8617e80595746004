"""Plans: what a pass would compute and why, as ``make -n`` says it. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from moma_cl.derivations.keys import Derivation, DerivationKind, comparison_key
from moma_cl.reconciling.costs import Costs
from moma_cl.reconciling.failures import Failures, failed_too_often
from moma_cl.reconciling.reasons import Reason, StepStatus
from moma_cl.reconciling.walk import walk
from moma_cl.records.hub import MemoReads
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names
from moma_store.errors import MomaError


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
        What becomes of it.
    seconds
        What it is likely to cost; none where there was nothing like it yet.
    inputs
        The records it reads, each as a name and its digest; none where that is not known yet.
    """

    task: str
    kind: str
    subject: str
    why: str
    status: StepStatus
    seconds: float | None = None
    inputs: tuple[tuple[str, str], ...] = ()


def is_work(steps: Iterable[Step]) -> bool:
    """Say whether a pass has anything to derive, to try again later, or to report as failed."""
    work = {StepStatus.STALE, StepStatus.WAITING, StepStatus.FAILED}
    return any(step.status in work for step in steps)


def has_failures(steps: Iterable[Step]) -> bool:
    """Say whether anything failed before that could be tried again."""
    return any(step.status in {StepStatus.WAITING, StepStatus.SET_ASIDE} for step in steps)


@dataclass(slots=True, kw_only=True)
class Planner:
    """A visitor of the walk that only takes notes."""

    store: MemoReads
    steps: list[Step]
    _costs: Costs
    _failures: Failures

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the result up; note the derivation where there is none."""
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
                seconds=(
                    None if status == StepStatus.SET_ASIDE else self._costs.foreseen(derivation)
                ),
                inputs=tuple((name, d) for name, ds in derivation.reads.items() for d in ds),
            )
        )
        return None

    def derive_all(self, derivations: Sequence[Derivation], why: str) -> list[str | None]:
        """Look each up, and note those that are missing."""
        return [self.derive(derivation, why) for derivation in derivations]

    def gives_up(self, derivation: Derivation) -> bool:
        """Say whether a derivation failed and is not tried in the next pass."""
        _, status = self._failed(derivation.key)
        return status in {StepStatus.SET_ASIDE, StepStatus.WAITING}

    def compose(self, task: str, composition: str) -> None:
        """Note that a composition from before would become the present one."""
        self._note(_from_before(task, DerivationKind.COMPOSITION, composition))

    def add_module(self, task: str, module: str) -> None:
        """Note that a module from before would become the present one."""
        self._note(_from_before(task, DerivationKind.MODULE, module))

    def promote(self, task: str, predictor: str, *, first: bool) -> None:
        """Note that a predictor from before would be compared with the champion."""
        del first
        champion = self.store.ref(RefKind.PREDICTOR.of(task))
        failed, status = self._failed(comparison_key(champion, predictor))
        self._note(_from_before(task, DerivationKind.PREDICTOR, predictor, failed, status))

    def leave(
        self,
        task: str,
        kind: DerivationKind,
        reason: Reason,
        *,
        expected: Sequence[Derivation] = (),
    ) -> None:
        """Note what waits or is not worth it, and what is expected to be computed then."""
        subject = expected[0].subject if len(expected) == 1 else ""
        costs = [cost for one in expected if (cost := self._costs.foreseen(one)) is not None]
        self._note(
            Step(
                task=task,
                kind=kind,
                subject=subject,
                why=reason.text,
                status=reason.status,
                seconds=sum(costs) if costs else None,
            )
        )

    def fail(self, task: str, error: MomaError) -> None:
        """Note that a task cannot even be planned."""
        self.leave(task, DerivationKind.PREDICTOR, Reason(StepStatus.FAILED, error.message))

    def _failed(self, key: str) -> tuple[str, StepStatus]:
        """Give how something failed before, if it did, and its status."""
        failure = self._failures.by_key.get(key)
        if failure is None:
            return "", StepStatus.STALE
        times = "once" if failure.tries == 1 else f"{failure.tries} times"
        text = f"failed {times}: [{failure.code}] {failure.message}"
        if failed_too_often(failure):
            return f"{text}; `moma-cl update --retry` tries again", StepStatus.SET_ASIDE
        return text, StepStatus.WAITING if failure.wait else StepStatus.STALE

    def _note(self, step: Step) -> None:
        if step not in self.steps:
            self.steps.append(step)


def _from_before(
    task: str,
    kind: DerivationKind,
    digest: str,
    why: str = "",
    status: StepStatus = StepStatus.STALE,
) -> Step:
    return Step(
        task=task,
        kind=str(kind),
        subject=digest[:12],
        why=why or "known from before",
        status=status,
        inputs=((str(kind), digest),),
    )


def plan_steps(store: MemoReads, *, only: Collection[str] | None = None) -> list[Step]:
    """List what is stale in all tasks, or some, in the order in which a pass would derive it."""
    planner = Planner(
        store=store, steps=[], _costs=Costs(store=store), _failures=Failures.of(store)
    )
    walk(store, planner, only=only)
    trained = {
        step.task
        for step in planner.steps
        if step.kind == DerivationKind.MODULE and step.status == StepStatus.STALE
    }
    for name in task_names(store):
        others = sorted(trained - {name})
        if others and (only is None or name in only):
            reason = Reason(StepStatus.AFTER, f"after the module of {', '.join(others)}")
            planner.leave(name, DerivationKind.COMPOSITION, reason)
    return planner.steps
