"""Why something of a task is derived now, or is left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from moma_cl.records.hub import Reads
from moma_cl.records.records import Composition, Module
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


def why_estimate(store: Reads, state: TaskState, backbone: str) -> str:
    """Say why estimates of a task are due."""
    present = store.ref(RefKind.COMPOSITION.on(state.name, backbone))
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
