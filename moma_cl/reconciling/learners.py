"""The learners of a task: which there are, and how a walk comes to them."""

from __future__ import annotations

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.candidates import multitask_beside
from moma_cl.reconciling.reasons import AFTER_KERNEL
from moma_cl.reconciling.task_derivations import finetuned_derivations, kernel_derivation
from moma_cl.reconciling.visitor import Visitor
from moma_cl.records.hub import MemoReads, Reads
from moma_cl.records.records import Composition, Learner, Predictor, StartKind
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState

UNKNOWN_COMPOSITION = "unknown"
"""Stands for a composition that is not derived yet, where it is told what would follow from it."""


def fit_learners(
    store: Reads, visitor: Visitor, state: TaskState, composition: str, why: str
) -> list[str] | None:
    """Fit the learners of a task, the kernel learner first; none while one of them is missing.

    The kernel learner tells whether readouts help those that start from the composition. The others
    need not wait for it.
    """
    kernel = visitor.derive(kernel_derivation(state, composition), why)
    derivations = finetuned_beside(store, state, composition, kernel)
    waiting = [one for one in derivations if kernel is None and _is_composed(one)]
    ready = [one for one in derivations if one not in waiting]
    finetuned = visitor.derive_all(ready, why) if ready else []
    for one in waiting:
        visitor.leave(state.name, DerivationKind.LEARNER, AFTER_KERNEL, expected=[one])
    learners = [digest for digest in (kernel, *finetuned) if digest is not None]
    return learners if len(learners) == 1 + len(derivations) else None


def finetuned_beside(
    store: Reads, state: TaskState, composition: str, kernel: str | None
) -> list[Derivation]:
    """Describe the fine-tuned learners that a task has beside the kernel learner, if it has any."""
    if not state.trains:
        return []
    composed = (
        composition == UNKNOWN_COMPOSITION
        or len(Composition.from_doc(store.record(composition)).modules) > 0
    )
    return finetuned_derivations(
        state,
        composition if composed else None,
        readouts=kernel is not None and Learner.from_doc(store.record(kernel)).readouts,
        multitask=multitask_beside(store, state),
    )


def learners_at_hand(store: MemoReads, state: TaskState) -> set[str]:
    """Give the learners that the next fit of a task would look up, should its composition change.

    Only some of them answer, and are reached from a predictor.
    """
    fitted = store.ref(RefKind.FITTED.of(state.name))
    if fitted is None:
        return set()
    composition = Predictor.from_doc(store.record(fitted)).composition
    kernel = store.memo(kernel_derivation(state, composition).key)
    if kernel is None:
        return set()
    others = finetuned_beside(store, state, composition, kernel.result)
    memos = (store.memo(derivation.key) for derivation in others)
    return {memo.result for memo in (kernel, *memos) if memo is not None}


def _is_composed(derivation: Derivation) -> bool:
    return bool(derivation.inputs["start"] == StartKind.COMPOSITION)
