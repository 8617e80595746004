"""Drift: whether the champion errs more on new rows than it promised.

Rows that were added after the champion was fitted were seen by no part of it; those that a module
behind it was trained on are left out. If the new rows are like those on which its error was
measured, it does not matter which of all these rows are called new. Drift is said only where fewer
than one in a thousand random choices of as many rows (`LEVEL`) have a mean error as large as that
of the new ones: without drift, there is one false alarm in a thousand nights. This supposes nothing
about how errors are distributed, and a single outlier hardly ever causes an alarm.

References
----------
Pitman, Suppl. J. R. Stat. Soc. 4, 119 (1937), for the test; Vovk, Gammerman and Shafer,
*Algorithmic Learning in a Random World* (2005), chapter 7, for testing by a predictor's errors
whether rows are exchangeable.

"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.progress import Progress
from moma_cl.properties.units import with_unit
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Calibration, Drift, Predictor, Task
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.errors import BusyError, MomaError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moma_cl.workspace.workspace import Workspace
    from moma_store.store import Store

logger = logging.getLogger(__name__)

LEVEL = 0.001
"""Probability of calling it drift on a night when there is none."""

N_RESAMPLES = 9999
_ROUNDING = 1e-12  # sums of the same numbers in another order


def measure(store: Store, *, progress: Progress, only: Collection[str] | None = None) -> list[Done]:
    """Compare the champions' errors on rows added since with those they promised.

    This must come before a pass, which learns the rows. Tasks without new rows are left out. An
    error that concerns every task is raised: the disk refuses, or somebody else moved a ref.
    """
    names = [name for name in task_names(store) if only is None or name in only]
    due = [derivation for name in names if (derivation := _due(store, name)) is not None]
    if not due:
        return []
    from moma_cl.workspace.workspace import Workspace

    done = []
    with Workspace(store=store, progress=progress) as workspace:
        for derivation in due:
            start = time.perf_counter()
            try:
                drift = _measured(workspace, derivation)
            except (StorageError, BusyError):
                raise
            except MomaError as error:  # the pass will say so if it matters to more than this
                logger.warning("%s: drift not measured: %s", derivation.task, error.message)
                continue
            seconds = time.perf_counter() - start
            _store(store, derivation, drift, seconds)
            if drift.rows:
                done.append(_done(derivation.task, drift, seconds))
    return done


def describe(drift: Drift) -> str:
    """Say in one line what was measured."""
    text = f"error {with_unit(f'{drift.mae:.4g}', drift.unit)} on {drift.rows:,} new rows"
    if drift.reference_mae is None or drift.p_value is None:
        return f"{text}; there is no measured error to compare it with"
    verdict = f"{text} against {drift.reference_mae:.4g} promised ({drift.reference})"
    chance = f"p = {drift.p_value:.2g}"
    return f"{verdict}: drift, {chance}" if drift.drifted else f"{verdict}, {chance}"


def promised_mae(champion: Predictor) -> float | None:
    """Give the error that a predictor promises, in the task's unit; none with too few rows.

    It is the mean absolute error on rows that no head had seen: the held-out ones, or each row in
    its turn of a cross-validation.
    """
    by_folds = champion.calibration == Calibration.HELD_OUT
    if champion.calibration == Calibration.RANGE:
        return None
    return champion.held_out_mae if by_folds else champion.validation_mae


def _due(store: Store, name: str) -> Derivation | None:
    """Give what is to be measured; none where the champion knows all rows, or it was measured."""
    champion = store.ref(RefKind.PREDICTOR.of(name))
    if champion is None:
        return None
    state = task_state(store, name)
    if Predictor.from_doc(store.record(champion)).dataset == state.dataset_digest:
        return None
    derivation = _derivation(state, champion)
    return derivation if store.memo(derivation.key) is None else None


def _derivation(state: TaskState, champion: str) -> Derivation:
    return Derivation(
        kind=DerivationKind.DRIFT,
        task=state.name,
        subject=f"champion {champion[:12]}",
        inputs={"predictor": champion, "dataset": state.dataset_digest},
        settings={"level": LEVEL},
    )


def _measured(workspace: Workspace, derivation: Derivation) -> Drift:
    from moma_cl.predictors.predictor import load_predictor

    champion, dataset = derivation.inputs["predictor"], derivation.inputs["dataset"]
    record = Predictor.from_doc(workspace.store.record(champion))
    unit = Task.from_doc(workspace.store.record(record.task)).unit
    new = _new_rows(workspace, record, dataset)
    predictor = load_predictor(workspace, champion) if len(new) else None
    if predictor is None:
        return _drift(derivation, record, unit, rows=0)
    rows = workspace.rows(dataset)
    graphs, targets = workspace.graphs(rows), rows.targets[new]
    answers = predictor.answer([graphs[row] for row in new], level=predictor.level).values
    forward = predictor.normaliser.forward
    return _drift(
        derivation,
        record,
        unit,
        rows=len(new),
        mae=float(abs(answers - targets).mean()),
        p_value=chance_of_larger(abs(forward(answers) - forward(targets)), predictor.residuals),
    )


def chance_of_larger(
    errors: NDArray[np.float64], reference: NDArray[np.float64] | None
) -> float | None:
    """Test whether errors are larger in the mean than those of a reference.

    Parameters
    ----------
    errors
        Absolute errors, shape ``(n_rows,)``, any unit.
    reference
        Absolute errors on rows that were like those learned, shape ``(n_reference,)``, same unit.

    Returns
    -------
    float | None
        Probability of a mean at least as large if it is chance which rows are new, found by
        resampling and never below 1 / (`N_RESAMPLES` + 1); none without a reference.

    References
    ----------
    Pitman, Suppl. J. R. Stat. Soc. 4, 119 (1937); one is added to both counts as by Phipson and
    Smyth, arXiv 1603.05766, equation 2.
    """
    import numpy as np

    if reference is None or not len(reference) or not len(errors):
        return None
    pooled, least = np.concatenate([errors, reference]), errors.sum() * (1 - _ROUNDING)
    generator = np.random.default_rng(0)
    larger = sum(
        generator.choice(pooled, len(errors), replace=False, shuffle=False).sum() >= least
        for _ in range(N_RESAMPLES)
    )
    return (1 + int(larger)) / (1 + N_RESAMPLES)


def _new_rows(workspace: Workspace, champion: Predictor, now: str) -> NDArray[np.int64]:
    """Give the rows whose structures neither the champion's dataset nor its modules' had."""
    import numpy as np

    from moma_cl.derivations.leakage import modules_behind, seen_by
    from moma_cl.structures.fingerprints import known_in

    rows, task = workspace.rows(now), Task.from_doc(workspace.store.record(champion.task))
    learned = known_in(rows.fingerprints, np.sort(workspace.rows(champion.dataset).fingerprints))
    return np.flatnonzero(
        ~learned & ~seen_by(workspace, modules_behind(workspace, champion), task, rows)
    )


def _drift(
    derivation: Derivation,
    champion: Predictor,
    unit: str,
    *,
    rows: int,
    mae: float = 0.0,
    p_value: float | None = None,
) -> Drift:
    return Drift(
        predictor=derivation.inputs["predictor"],
        dataset=derivation.inputs["dataset"],
        unit=unit,
        rows=rows,
        mae=mae,
        reference=str(champion.calibration),
        reference_mae=promised_mae(champion),
        p_value=p_value,
        drifted=p_value is not None and p_value <= LEVEL,
    )


def _store(store: Store, derivation: Derivation, drift: Drift, seconds: float) -> None:
    detail = {"task": derivation.task, "because": describe(drift), **drift.figures}
    ref = RefKind.DRIFT.of(derivation.task)
    action = HistoryAction.DRIFT if drift.drifted else HistoryAction.NEW_ROWS
    with store.transaction(action, detail) as transaction:
        digest = transaction.put_record(drift.to_doc())
        transaction.put_memo(derivation.key, digest, seconds)
        if drift.rows:
            transaction.move_ref(ref, digest, expected=transaction.ref(ref))


def _done(task: str, drift: Drift, seconds: float) -> Done:
    return Done(
        task=task,
        action=PassAction.DRIFT if drift.drifted else PassAction.MEASURED,
        kind=str(DerivationKind.DRIFT),
        text=describe(drift),
        seconds=seconds,
    )
