"""The composer: derives what is stale, stores it and moves the refs.

It holds no lock while it derives. What changes meanwhile makes another round of its pass.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moma_cl.core.cores import n_cores
from moma_cl.core.devices import AUTO, CPU, DeviceName
from moma_cl.derivations.keys import Derivation, DerivationKind, comparison_key
from moma_cl.progress import FIRST_ANSWER, Progress
from moma_cl.reconciling.commits import Commits, Inputs, StaleError
from moma_cl.reconciling.comparison import compared
from moma_cl.reconciling.costs import Allowance, Costs
from moma_cl.reconciling.derivation_job import ExecutorError, job_of
from moma_cl.reconciling.failures import Failures, failed_too_often
from moma_cl.reconciling.holds import hold_of
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.reconciling.reasons import Reason
from moma_cl.reconciling.rounds import Tasks, in_rounds
from moma_cl.reconciling.walk import first_answer, run_stage, walk
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Composition, Hold, HoldReason, Module
from moma_cl.records.refs import RefKind
from moma_store.errors import BusyError, MomaError, StorageError

if TYPE_CHECKING:
    import torch

    from moma_cl.derivations.derived import Computed
    from moma_cl.reconciling.executors import Executor
    from moma_cl.workspace.workspace import Workspace
    from moma_store.store import Store

logger = logging.getLogger(__name__)


class DerivationError(MomaError):
    """A computation went wrong in a way that nobody foresaw."""

    code = "derivation"
    exit_code = 1


@dataclass(slots=True, kw_only=True)
class Composer:
    """A visitor of the walk that derives, stores and moves refs."""

    store: Store  # of the hub
    progress: Progress  # is told how far long steps are
    device: torch.device  # that encoders of this process compute on
    max_seconds: float | None = None  # s; what is likely to take longer is not started
    executor: Executor | None = None  # derives many at once; none: this process one by one
    worker_device: DeviceName = AUTO  # that encoders of the executor's workers compute on
    done: list[Done] = field(default_factory=list)  # so far, in order
    _workspace: Workspace | None = None
    _task: str = ""  # whose derivation is computed
    _pass_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _allowance: Allowance = field(init=False)
    _failures: Failures = field(init=False)
    _commits: Commits = field(init=False)
    _is_stale: bool = False  # something changed in this round under what was derived
    # keys that the walk came to and the memo lacks, and those of them that wait for a later pass
    _missing: set[str] = field(default_factory=set)
    _waiting: set[str] = field(default_factory=set)
    _given_up: set[str] = field(default_factory=set)  # keys that have no result in this pass
    _not_done: dict[tuple[str, str, str], Done] = field(default_factory=dict)
    # collected for the executor, and what went wrong there
    _pending: dict[str, tuple[Derivation, str]] = field(default_factory=dict)
    _errors: dict[str, MomaError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cores = n_cores() if self.device.type == CPU else 1
        costs = Costs(store=self.store)
        self._allowance = Allowance(costs=costs, seconds=self.max_seconds, cores=cores)
        self._failures = Failures.of(self.store)
        self._commits = Commits(store=self.store, failures=self._failures)

    def run(
        self, *, only: Tasks = None, before: Callable[[Tasks], list[Done]] = lambda _: []
    ) -> list[Done]:
        """Make one pass over all tasks, or some; give what was done and what was left undone.

        Tasks that change meanwhile make another round. What comes before each gives what it has
        done about these tasks.
        """

        def one_round(only: Tasks) -> None:
            self.done.extend(before(only))
            self._walk(only)

        return self._in_rounds(one_round, only)

    def first_answer(self, task: str) -> list[Done]:
        """Make a task's first predictor, and leave the rest for the next pass."""

        def one_round(only: Tasks) -> None:
            del only
            run_stage(first_answer, self.store, self, task, set())

        return self._in_rounds(one_round, [task], spread=False)

    def retry(self, tasks: Collection[str] | None) -> None:
        """Forget the failures of some tasks, or of all, so that this pass tries again."""
        failures = self._failures.by_key.items()
        again = {key for key, failure in failures if tasks is None or failure.task in tasks}
        self._failures.forget(self.store, again, HistoryAction.RETRY)

    def _walk(self, only: Collection[str] | None) -> None:
        failed = walk(self.store, self, only=only, derive_collected=self._derive_collected)
        not_done = self._not_done.values()
        postponed = any(entry.action is PassAction.POSTPONED for entry in not_done)
        cut_short = postponed or self._is_stale
        if only is None and not cut_short:
            failures = self._failures.by_key.items()
            idle = {k for k, f in failures if k not in self._missing and f.task not in failed}
            self._failures.forget(self.store, idle, HistoryAction.FORGET_FAILURES)

    def _in_rounds(
        self, work: Callable[[Tasks], None], only: Tasks, *, spread: bool = True
    ) -> list[Done]:
        def one_round(only: Tasks, begun: dict[str, Inputs]) -> bool:
            self._commits.begun, self._is_stale = begun, False
            self._not_done.clear()
            try:
                work(only)
            finally:
                if self._workspace is not None:
                    self._workspace.close()
                    self._workspace = None
            return self._is_stale

        left = in_rounds(self.store, one_round, only, spread=spread)
        for task in left:
            text = "changed again and again meanwhile; the next pass goes on with it"
            self._note_not_done(task, PassAction.LEFT, "", text)
        self.done.extend(self._not_done.values())
        self._not_done.clear()
        return self.done

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up, or compute and store it."""
        return self.derive_all([derivation], why)[0]

    def derive_all(self, derivations: Sequence[Derivation], why: str) -> list[str | None]:
        """Look derivations up, or compute those that are missing; store each when it is there."""
        due: list[Derivation] = []
        for derivation in derivations:
            for subject in (derivation.subject, ""):
                self._not_done.pop((derivation.task, derivation.kind, subject), None)
            if self._result_of(derivation) is not None:
                continue
            if derivation.key in self._errors:
                raise self._errors[derivation.key]
            if self._may_start(derivation, beside=due):
                self._commits.check(derivation.task)
                due.append(derivation)
            else:
                self._given_up.add(derivation.key)
        if self.executor is not None:
            self._pending.update({one.key: (one, why) for one in due})
        elif due:
            self._derive_here(due, why)
        return [self._result_of(derivation) for derivation in derivations]

    def gives_up(self, derivation: Derivation) -> bool:
        """Say whether a derivation has failed before or would take too long for this pass."""
        return derivation.key in self._given_up

    def _result_of(self, derivation: Derivation) -> str | None:
        memo = self.store.memo(derivation.key)
        return None if memo is None else memo.result

    def _derive_here(self, due: Sequence[Derivation], why: str) -> None:
        """Derive in this process; what fails is raised after the others have ended."""
        from moma_cl.derivations.derive import derive_all

        for derivation in due:
            extra = {"action": HistoryAction.DERIVE}
            logger.info("%s, because %s", derivation, why, extra=extra)
        self._task = due[0].task
        self.progress(f"{self._task}: {due[0].kind}", 0, 0)
        with closing(derive_all(self._opened_workspace(), due)) as computed:
            errors = self._store_all([(one, why) for one in due], computed)
        for _, error in sorted(errors.items()):
            raise error

    def _may_start(self, derivation: Derivation, beside: Collection[Derivation]) -> bool:
        kind, subject = derivation.kind, derivation.subject
        if self._is_left_alone(derivation.key, derivation.task, kind, subject):
            return False
        if self._allowance.admits(derivation, beside if self.executor is None else ()):
            return True
        expected = self._allowance.costs.of(derivation)
        cost = "" if expected is None else f", which is likely to take {expected:.0f} s"
        text = f"{subject}{cost}"
        self._note_not_done(derivation.task, PassAction.POSTPONED, kind, text, subject=subject)
        return False

    def _is_left_alone(self, key: str, task: str, kind: str, subject: str) -> bool:
        """Say whether something has failed too often, or too lately, to be tried now."""
        self._missing.add(key)
        failure = self._failures.by_key.get(key)
        if failure is None:
            return False
        tries = f"{subject}: failed {failure.tries} times"
        if failed_too_often(failure):
            text = f"{tries}, {failure.message}"
            self._note_not_done(task, PassAction.SET_ASIDE, kind, text, subject=subject)
            return True
        if failure.wait > 0 and key not in self._waiting:
            self._waiting.add(key)
            self._failures.wait(self.store, key)
        if key in self._waiting:
            text = f"{tries}, tried again later"
            self._note_not_done(task, PassAction.WAITING, kind, text, subject=subject)
        return key in self._waiting

    @contextmanager
    def _tried(self, key: str, task: str, subject: str) -> Iterator[None]:
        """Count a failure, unless it is not the derivation's own; not again in this pass."""
        try:
            yield
        except (StorageError, BusyError, ExecutorError):
            raise
        except Exception as error:
            self._commits.check(task)  # records and files may go when they are not needed any more
            unforeseen = DerivationError(f"{subject}: {type(error).__name__}: {error}")
            own = error if isinstance(error, MomaError) else unforeseen
            if not isinstance(own, StaleError):
                self._failures.count(self.store, key, task, subject, own)
                self._errors[key] = own
            raise own from error

    def _derive_collected(self) -> bool:
        """Let the executor derive what was collected; store each result as soon as it is there."""
        if self.executor is None or not self._pending:
            return False
        pending, self._pending = list(self._pending.values()), {}
        device = self.worker_device
        jobs = [
            job_of(self.store, derivation, pass_id=self._pass_id, device=device)
            for derivation, _ in pending
        ]
        self._store_all(pending, self.executor.compute(jobs))
        return True

    def _store_all(
        self, pending: Sequence[tuple[Derivation, str]], computed: Iterable[Computed]
    ) -> dict[int, MomaError]:
        """Store each result as soon as it is there; give what went wrong, by its place."""
        errors: dict[int, MomaError] = {}
        notes: dict[int, Done] = {}
        for n_done, one in enumerate(computed):
            if self.executor is not None:
                self.progress("derivations", n_done + 1, len(pending))
            derivation, why = pending[one.index]
            try:
                with self._tried(derivation.key, derivation.task, str(derivation)):
                    self._commits.put(derivation, one.result(), one.seconds)
            except (StorageError, BusyError, ExecutorError):
                raise
            except MomaError as error:
                errors[one.index] = error
            else:
                self._allowance.costs.learn(derivation, one.seconds)
                text = f"{derivation.subject}: {why}"
                notes[one.index] = Done.of(
                    derivation.task, PassAction.DERIVED, derivation.kind, text, one.seconds
                )
        # in one order, whichever was there first
        self.done.extend(notes[index] for index in sorted(notes))
        return errors

    def compose(self, task: str, composition: str) -> None:
        """Move the task's ref to a composition."""
        record = Composition.from_doc(self.store.record(composition))
        backbone = backbone_record(self.store, record.backbone).name
        detail = {
            "backbone": backbone,
            "objective": record.objective,
            "backbone_objective": record.backbone_objective,
            "modules": len(record.modules),
        }
        moves = {RefKind.COMPOSITION.on(task, backbone): composition}
        self._commits.move(task, HistoryAction.COMPOSE, moves, detail)
        text = f"{len(record.modules)} modules and {backbone}, objective {record.objective:.4f}"
        self.done.append(Done.of(task, PassAction.COMPOSED, DerivationKind.COMPOSITION, text))

    def add_module(self, task: str, module: str) -> None:
        """Move the task's ref to a module."""
        record = Module.from_doc(self.store.record(module))
        backbone = backbone_record(self.store, record.backbone).name
        detail = {
            "backbone": backbone,
            "rows": record.n_train,
            "validation_mae": record.validation_mae,
        }
        moves = {RefKind.MODULE.on(task, backbone): module}
        self._commits.move(task, HistoryAction.MODULE, moves, detail)
        text = f"{backbone} trained on {record.n_train} rows for {record.epochs} epochs"
        self.done.append(Done.of(task, PassAction.MODULE, DerivationKind.MODULE, text))

    def promote(self, task: str, predictor: str, *, first: bool) -> None:
        """Promote a predictor if it is better than the champion; else keep it, or hold it."""
        champion = self.store.ref(RefKind.PREDICTOR.of(task))
        key = comparison_key(champion, predictor)
        subject = f"comparison of {predictor[:12]} with the champion of {task}"
        if key in self._errors:
            raise self._errors[key]
        if self._is_left_alone(key, task, DerivationKind.PREDICTOR, subject):
            return
        with self._tried(key, task, subject):
            verdict = compared(self.store, self._opened_workspace, task, champion, predictor)
        moves: dict[str, str] = {} if first else {RefKind.FITTED.of(task): predictor}
        action, done, hold = HistoryAction.FIT, PassAction.KEPT_BESIDE, None
        if verdict["promoted"]:
            moves[RefKind.PREDICTOR.of(task)] = predictor
            done = PassAction.PROMOTED
            action = HistoryAction.FIT if champion == predictor else HistoryAction.PROMOTE
        elif champion is not None and "held" in verdict:
            action, done = HistoryAction.HOLD, PassAction.HELD
            hold = Hold(
                predictor=champion,
                fitted=predictor,
                reason=HoldReason(verdict["held"]),
                because=str(verdict["because"]),
            )
        earlier = hold_of(self.store, task)
        told = hold is not None and earlier is not None and earlier.because == hold.because
        self._commits.move(task, action, moves, verdict, mended=key, hold=hold)
        because = str(verdict["because"])
        self.done.append(Done.of(task, done, DerivationKind.PREDICTOR, because, told=told))

        if champion is None:
            label = f"{FIRST_ANSWER}: `moma-cl predict {task} FILES` works now, and gets better"
            self.progress(label, 1, 1)

    def leave(
        self,
        task: str,
        kind: DerivationKind,
        reason: Reason,
        *,
        expected: Sequence[Derivation] = (),
    ) -> None:
        """Note what is not worth it, or has to wait for another derivation."""
        subject = expected[0].subject if len(expected) == 1 else ""
        self._note_not_done(task, PassAction.LEFT, kind, reason.text, subject=subject)

    def fail(self, task: str, error: MomaError) -> None:
        """Note a failure, unless the task has changed meanwhile; the other tasks go on."""
        if isinstance(error, StaleError) or self._commits.is_stale(task):
            logger.info("%s: %s", task, error.message)
            self._is_stale = True
            return
        logger.error("%s: %s", task, error.message, extra={"action": HistoryAction.FAIL})
        failed = Done.of(task, PassAction.FAILED, "", f"[{error.code}] {error.message}")
        if failed not in self.done:  # an earlier round has met it
            self.done.append(failed)

    def _opened_workspace(self) -> Workspace:
        if self._workspace is None:
            from moma_cl.workspace.workspace import Workspace

            self._workspace = Workspace(store=self.store, progress=self._show, device=self.device)
        return self._workspace

    def _show(self, label: str, steps_done: int, steps_planned: int) -> None:
        """Show a step of a derivation with the task that it is for."""
        named = label if self._task in label else f"{self._task}: {label}"
        self.progress(named, steps_done, steps_planned)

    def _note_not_done(
        self, task: str, action: PassAction, kind: str, text: str, *, subject: str = ""
    ) -> None:
        self._not_done[task, str(kind), subject] = Done.of(task, action, kind, text)
