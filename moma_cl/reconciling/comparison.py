"""Whether a predictor that was fitted takes the place of the champion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moma_cl.reconciling.holds import describe_drift, drift_of
from moma_cl.reconciling.pass_actions import FIRST_PREDICTOR
from moma_cl.records.records import HoldReason, Predictor
from moma_cl.records.tasks import task_state

if TYPE_CHECKING:
    from moma_cl.workspace.workspace import Workspace
    from moma_store.store import Store


def compared(
    store: Store, opened: Callable[[], Workspace], task: str, champion: str | None, predictor: str
) -> dict[str, Any]:
    """Compare a predictor with the champion, which is none at first; give verdict and figures.

    The workspace is opened only where answers have to be compared.
    """
    fitted = Predictor.from_doc(store.record(predictor))
    figures: dict[str, Any] = {
        "predictor": predictor,
        "method": str(fitted.method),
        "validation_mae": fitted.validation_mae,
        "held_out_mae": fitted.held_out_mae,
    }
    if champion is None:
        return {**figures, "promoted": True, "because": FIRST_PREDICTOR}
    if champion == predictor:
        return {**figures, "promoted": True, "because": "it is the champion already"}
    drift = drift_of(store, task, champion, fitted.dataset)
    if drift is not None and drift.drifted:
        because = f"the new rows are not what the champion promised: {describe_drift(drift)}"
        held = HoldReason.DRIFT.value
        return {**figures, "promoted": False, "held": held, "because": because}
    from moma_cl.derivations.promotion import compare

    unit = task_state(store, task).task.unit
    surprise = None if drift is None else drift.p_value
    return {**figures, **compare(opened(), champion, fitted, unit, surprise=surprise)}
