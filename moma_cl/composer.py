"""The composer: a worker that computes what is stale, stores it and moves the refs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moma_cl.derivations import Derivation, DerivationKind
from moma_cl.progress import Progress
from moma_cl.reconcile import attempt, first_answer, task_state, walk
from moma_cl.records import Composition, Module, Predictor
from moma_store.errors import MomaError

if TYPE_CHECKING:
    from moma_cl.derive import Derived
    from moma_cl.workbench import Workbench
    from moma_store.store import Store

logger = logging.getLogger(__name__)


class DerivationError(MomaError):
    """A computation went wrong in a way that nobody foresaw."""

    code = "derivation"
    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Something a pass did, or found left to do.

    Attributes
    ----------
    task
        The task it belongs to.
    action
        ``derived``, ``composed``, ``promoted``, ``kept-beside``, ``module``, ``left`` or
        ``failed``.
    kind
        What was derived, where something was.
    text
        What happened, for people.
    seconds
        How long it took.
    """

    task: str
    action: str
    kind: str
    text: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Composer:
    """A worker that computes.

    Attributes
    ----------
    store
        The hub's store, open for writing.
    progress
        Told how far long steps are.
    done
        What was done so far, in order.
    """

    store: Store
    progress: Progress
    done: list[Done] = field(default_factory=list)
    _bench: Workbench | None = None

    def run(self, *, only: Collection[str] | None = None) -> list[Done]:
        """Make one pass.

        Parameters
        ----------
        only
            Tasks to look at; all by default.

        Returns
        -------
        list[Done]
            What was done; nothing where nothing was stale.
        """
        return self._with_bench(lambda: walk(self.store, self, only=only))

    def first_answer(self, task: str) -> list[Done]:
        """Make a task's first predictor, and leave the rest for the next pass.

        Parameters
        ----------
        task
            The task.

        Returns
        -------
        list[Done]
            What was done; nothing where the task has a predictor.
        """
        return self._with_bench(lambda: attempt(first_answer, self.store, self, task, set()))

    def _with_bench(self, work: Callable[[], None]) -> list[Done]:
        try:
            work()
        finally:
            if self._bench is not None:
                self._bench.close()
                self._bench = None
        return self.done

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up, or compute and store it."""
        memo = self.store.memo(derivation.key)
        if memo is not None:
            return memo.result
        from moma_cl.derive import derive

        logger.info("%s, because %s", derivation, why, extra={"action": "derive"})
        start = time.perf_counter()
        try:
            derived = derive(self._workbench(), derivation)
        except MomaError:
            raise
        except Exception as error:
            raise DerivationError(f"{derivation}: {type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - start
        digest = self._store(derivation, derived, seconds)
        self._note(
            derivation.task, "derived", derivation.kind, f"{derivation.subject}: {why}", seconds
        )
        return digest

    def compose(self, task: str, composition: str) -> None:
        """Move the task's ref to a composition."""
        record = Composition.from_doc(self.store.record(composition))
        detail = {
            "task": task,
            "objective": record.objective,
            "backbone_objective": record.backbone_objective,
            "modules": len(record.modules),
        }
        self._move("compose", {f"compositions/{task}": composition}, detail)
        text = f"{len(record.modules)} modules and the backbone, objective {record.objective:.4f}"
        self._note(task, "composed", DerivationKind.COMPOSITION, text)

    def adopt_module(self, task: str, module: str) -> None:
        """Move the task's ref to a module."""
        record = Module.from_doc(self.store.record(module))
        detail = {"task": task, "rows": record.n_train, "validation_mae": record.validation_mae}
        self._move("module", {f"modules/{task}": module}, detail)
        text = f"trained on {record.n_train} rows for {record.epochs} epochs"
        self._note(task, "module", DerivationKind.MODULE, text)

    def adopt_predictor(self, task: str, predictor: str, *, first: bool) -> None:
        """Promote a predictor if it is better than the champion; keep it beside if not."""
        champion = self.store.ref(f"predictors/{task}")
        verdict = self._compare(task, champion, predictor)
        moves = {} if first else {f"fitted/{task}": predictor}
        if verdict["promoted"]:
            moves[f"predictors/{task}"] = predictor
        action, done = ("promote", "promoted") if verdict["promoted"] else ("fit", "kept-beside")
        if champion == predictor:
            action = "fit"
        self._move(action, moves, {"task": task, **verdict})
        self._note(task, done, DerivationKind.PREDICTOR, str(verdict["because"]))

    def leave(self, task: str, kind: DerivationKind, why: str) -> None:
        """Note what is not worth it."""
        self._note(task, "left", kind, why)

    def fail(self, task: str, error: MomaError) -> None:
        """Note a failure; the other tasks go on."""
        logger.error("%s: %s", task, error.message, extra={"action": "fail"})
        self._note(task, "failed", "", f"[{error.code}] {error.message}")

    def _store(self, derivation: Derivation, derived: Derived, seconds: float) -> str:
        record = derived.record
        if derived.arrays:
            header = {"kind": f"{derivation.kind}-arrays", "format": 1}
            link = self.store.put_blob(derived.arrays, header, base=derived.base)
            record = record.with_blob(link)
        with self.store.transaction(f"derive-{derivation.kind}") as transaction:
            digest = transaction.put_record(record.to_doc())
            transaction.put_memo(derivation.key, digest, seconds)
        return digest

    def _move(self, action: str, moves: dict[str, str], detail: dict[str, Any]) -> None:
        with self.store.transaction(action, detail) as transaction:
            for name, digest in moves.items():
                transaction.move_ref(name, digest, expected=transaction.ref(name))

    def _compare(self, task: str, champion: str | None, predictor: str) -> dict[str, Any]:
        fitted = Predictor.from_doc(self.store.record(predictor))
        figures: dict[str, Any] = {
            "predictor": predictor,
            "method": str(fitted.method),
            "validation_mae": fitted.validation_mae,
            "held_out_mae": fitted.held_out_mae,
        }
        if champion is None:
            return {**figures, "promoted": True, "because": "the first predictor of the task"}
        if champion == predictor:
            return {**figures, "promoted": True, "because": "it is the champion already"}
        from moma_cl.promotion import compare

        unit = task_state(self.store, task).task.unit
        return {**figures, **compare(self._workbench(), champion, fitted, unit)}

    def _workbench(self) -> Workbench:
        if self._bench is None:
            from moma_cl.workbench import Workbench

            self._bench = Workbench(store=self.store, progress=self.progress)
        return self._bench

    def _note(
        self, task: str, action: str, kind: DerivationKind | str, text: str, seconds: float = 0.0
    ) -> None:
        self.done.append(Done(task=task, action=action, kind=str(kind), text=text, seconds=seconds))
