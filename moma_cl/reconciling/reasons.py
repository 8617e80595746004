"""Why something of a task is derived now, or is left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from moma_cl.reconciling.task_derivations import PREDICTOR_SECTIONS
from moma_cl.records.hub import Reads
from moma_cl.records.records import Composition, Module, Predictor
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState


class StepStatus(StrEnum):
    """What becomes of a derivation in the next pass."""

    STALE = "stale"  # it is derived
    AFTER = "after"  # it follows from something stale
    WAITING = "waiting"  # it failed, and is tried again after another pass
    SET_ASIDE = "set-aside"  # it failed too often
    NOT_WORTH_IT = "not-worth-it"
    FAILED = "failed"  # it cannot even be planned


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a derivation is due, or is left."""

    status: StepStatus
    text: str  # for people


AFTER_ESTIMATES = Reason(StepStatus.AFTER, "after its estimates")
AFTER_COMPOSITION = Reason(StepStatus.AFTER, "if its composition is worth it")
AFTER_KERNEL = Reason(StepStatus.AFTER, "after its kernel learner")
AFTER_LEARNERS = Reason(StepStatus.AFTER, "after its learners")
AFTER_SCREENING = Reason(StepStatus.AFTER, "after the screening of all modules")


def why_estimate(store: Reads, state: TaskState) -> str:
    """Say why estimates of a task are due."""
    present = store.ref(RefKind.COMPOSITION.of(state.name))
    if present is None:
        return "the task has no composition"
    if Composition.from_doc(store.record(present)).dataset != state.dataset_digest:
        return "its data changed"
    return "the module or the recipe is new"


def why_module(store: Reads, present: str | None, dataset: str) -> str:
    """Say why a task's module, trained on a dataset, takes the place of the present one."""
    if present is None:
        return "the task has no module"
    if Module.from_doc(store.record(present)).dataset != dataset:
        return "its rows have grown"
    return "its recipe changed"


def why_fit(store: Reads, state: TaskState, composition: str) -> Reason | None:
    """Say why a predictor is due, or is not worth it; none where there is an up-to-date one."""
    fitted_digest = store.ref(RefKind.FITTED.of(state.name))
    if fitted_digest is None:
        return Reason(StepStatus.STALE, "the task has no fitted predictor")
    fitted = Predictor.from_doc(store.record(fitted_digest))
    if fitted.dataset != state.dataset_digest:
        return Reason(StepStatus.STALE, "its data changed")
    if fitted.settings != state.settings(*PREDICTOR_SECTIONS):
        return Reason(StepStatus.STALE, "its recipe changed")
    if fitted.composition == composition:
        return None
    before = Composition.from_doc(store.record(fitted.composition)).objective
    after = Composition.from_doc(store.record(composition)).objective
    fall = (before - after) / before if before > 0 else 0.0
    change = f"the objective went from {before:.4g} to {after:.4g}"
    if fall >= state.recipe.worth_it:
        return Reason(StepStatus.STALE, f"{change}, a fall of {fall:.1%}")
    least = f"{state.recipe.worth_it:.1%}"
    return Reason(StepStatus.NOT_WORTH_IT, f"not worth it: {change}, not a fall of {least}")
