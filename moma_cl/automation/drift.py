"""Drift: whether the champion errs more on new rows than it promised.

Rows that were added after the champion was fitted were seen by no part of it; those that a module
behind it was trained on are left out. If the new rows are like those on which its error was
measured, it does not matter which of all these rows are called new. Drift is said only where fewer
than one in a thousand random choices of as many rows (`DRIFT_LEVEL`) have a mean error as large as
that of the new ones: without drift, there is one false alarm in a thousand nights. This supposes
nothing about how errors are distributed, and a single outlier hardly ever causes an alarm.

A delivery in another unit must not be hidden by many good rows. So the same is asked of the
delivery that fits least: how often would the worst of as many groups of rows, drawn at random, be
as bad. Rows whose structure the champion has learned with another value, such as corrections, are
judged by what it answered when it had not seen them, where that is stored.

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
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.progress import Progress
from moma_cl.reconciling.holds import DRIFT_LEVEL, describe_drift, drift_derivation
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Calibration, Drift, Predictor, Segment, Task
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_store.errors import BusyError, MomaError, StorageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from moma_cl.datasets.segments import LiveRows
    from moma_cl.predictors.predictor import LoadedPredictor
    from moma_cl.workspace.workspace import Workspace
    from moma_store.store import Store

logger = logging.getLogger(__name__)

N_RESAMPLES = 9999
_ROUNDING = 1e-12  # sums of the same numbers in another order


def measure(
    store: Store,
    *,
    progress: Progress,
    device: torch.device,
    only: Collection[str] | None = None,
) -> list[Done]:
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
    with Workspace(store=store, progress=progress, device=device) as workspace:
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
            if _store(store, derivation, drift, seconds) and drift.rows:
                done.append(_done(derivation.task, drift, seconds))
    return done


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
    derivation = drift_derivation(name, champion, state.dataset_digest)
    return derivation if store.memo(derivation.key) is None else None


def _measured(workspace: Workspace, derivation: Derivation) -> Drift:
    from moma_cl.predictors.predictor import load_predictor

    champion, dataset = derivation.inputs["predictor"], derivation.inputs["dataset"]
    record = Predictor.from_doc(workspace.store.record(champion))
    unit = Task.from_doc(workspace.store.record(record.task)).unit
    drift = Drift(
        predictor=champion,
        dataset=dataset,
        unit=unit,
        rows=0,
        mae=0.0,
        reference=str(record.calibration),
        reference_mae=promised_mae(record),
        p_value=None,
        drifted=False,
        source="",
        source_rows=0,
        source_mae=0.0,
        ratio=None,
        new_elements=(),
    )
    rows = workspace.rows(dataset)
    new = _new_rows(workspace, record, rows)
    if not len(new):
        return drift
    return _compared(workspace, load_predictor(workspace, champion), drift, rows, new)


def _compared(
    workspace: Workspace,
    predictor: LoadedPredictor,
    drift: Drift,
    rows: LiveRows,
    new: NDArray[np.int64],
) -> Drift:
    """Compare what the champion answers of new rows with their targets, delivery by delivery."""
    answers, targets = _answers(workspace, predictor, rows, new), rows.targets[new]
    errors, forward = abs(answers - targets), predictor.normaliser.forward
    names, sizes = _deliveries(workspace, rows, new)
    normalised = abs(forward(answers) - forward(targets))
    reference = predictor.residuals
    p_value = chance_of_larger(normalised, reference)
    if p_value is not None and reference is not None and len(sizes) > 1:
        anywhere = chance_of_a_worse_group(normalised, sizes, reference)
        p_value = min(1.0, 2 * min(p_value, anywhere))  # Bonferroni's, of two tests
    groups = _places(sizes)
    worst = max(groups, key=lambda group: _standing_out(normalised[group], normalised))
    chosen = groups.index(worst)
    return replace(
        drift,
        rows=len(new),
        mae=float(errors.mean()),
        p_value=p_value,
        drifted=p_value is not None and p_value <= DRIFT_LEVEL,
        source=names[chosen],
        source_rows=len(errors[worst]),
        source_mae=float(errors[worst].mean()),
        ratio=_ratio(targets[worst], answers[worst]),
        new_elements=_new_elements(workspace, predictor, rows, new),
    )


def _answers(
    workspace: Workspace, predictor: LoadedPredictor, rows: LiveRows, new: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Let the champion answer; of rows that it learned with another value, what it said unseen."""
    from moma_cl.derivations.promotion import answers_when_fitted
    from moma_cl.predictors.predictor import graphs_for

    graphs = graphs_for(workspace, predictor.record, rows, new)
    answers = predictor.answer(graphs, level=predictor.level).values
    unseen = answers_when_fitted(workspace, predictor.record)
    for place, row in enumerate(new):
        key = rows.ids[row], int(rows.fingerprints[row])
        answers[place] = unseen.get(key, answers[place])
    return answers


def _deliveries(
    workspace: Workspace, rows: LiveRows, new: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """Name the deliveries that new rows, in their order, came with, and count each one's rows."""
    import numpy as np

    ends = np.cumsum([len(kept) for kept in rows.kept])
    names: list[str] = []
    sizes: list[int] = []
    places = np.searchsorted(ends, new, side="right")
    for place in np.unique(places):
        kept = rows.kept[place][new[places == place] - (ends[place] - len(rows.kept[place]))]
        labels, last = _sources(workspace, rows.segments[place])
        chosen, counts = np.unique(np.searchsorted(last, kept, side="right"), return_counts=True)
        names += [labels[one] for one in chosen]
        sizes += counts.tolist()
    return names, np.array(sizes, dtype=np.int64)


def _places(sizes: NDArray[np.int64]) -> list[slice]:
    """Give where each delivery's rows are, among the new ones."""
    ends = sizes.cumsum().tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes.tolist(), strict=True)]


def _standing_out(errors: NDArray[np.float64], among: NDArray[np.float64]) -> float:
    """Say how far the sum of some errors is beyond what is usual, in spreads of the sum."""
    excess = errors.sum() - len(errors) * among.mean()
    return float(excess / len(errors) ** 0.5)


def _sources(workspace: Workspace, segment: str) -> tuple[list[str], list[int]]:
    """Name the deliveries in a segment, and say at which of its rows each ends.

    Files that were added in one go are named by the first; rows from memory have no name.
    """
    record = Segment.from_doc(workspace.store.record(segment))
    names = [one["name"] for one in record.sources]
    if names and all("rows" in one for one in record.sources):
        return names, list(accumulate(one["rows"] for one in record.sources))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"{names[0]}{more}" if names else ""], [record.n_rows]


def _ratio(targets: NDArray[np.float64], answers: NDArray[np.float64]) -> float | None:
    """Give the typical ratio of targets and answers, by which another unit can be recognised."""
    import numpy as np

    positive = (targets > 0).all() and (answers > 0).all()
    same_sign = (targets < 0).all() and (answers < 0).all()
    return float(np.median(targets / answers)) if positive or same_sign else None


def _new_elements(
    workspace: Workspace, predictor: LoadedPredictor, rows: LiveRows, new: NDArray[np.int64]
) -> tuple[str, ...]:
    """Name the elements that the champion has learned of no row."""
    from moma_cl.structures.elements import SYMBOLS

    crystals = workspace.crystals(rows, new.tolist())
    numbers = {int(number) for crystal in crystals for number in crystal.atomic_numbers}
    return tuple(SYMBOLS[number] for number in sorted(numbers - set(predictor.domain.elements)))


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


def chance_of_a_worse_group(
    errors: NDArray[np.float64], sizes: NDArray[np.int64], reference: NDArray[np.float64]
) -> float:
    """Test whether one of several groups has larger errors than rows at random would have.

    Parameters
    ----------
    errors
        Absolute errors, group by group, shape ``(n_rows,)``, any unit.
    sizes
        Number of rows of each group, shape ``(n_groups,)``.
    reference
        Absolute errors on rows that were like those learned, shape ``(n_reference,)``, same unit.

    Returns
    -------
    float
        Probability that the worst group, by its sum of errors over that of as many usual rows in
        units of its spread, is as bad if it is chance which rows are in which group.
    """
    import numpy as np

    pooled, starts = np.concatenate([errors, reference]), np.concatenate([[0], sizes.cumsum()[:-1]])
    usual, spread = sizes * pooled.mean(), np.sqrt(sizes)

    def worst(drawn: NDArray[np.float64]) -> float:
        return float(((np.add.reduceat(drawn, starts) - usual) / spread).max())

    found = worst(errors)
    least = found - _ROUNDING * abs(found)
    generator = np.random.default_rng(0)
    larger = sum(
        worst(generator.choice(pooled, len(errors), replace=False)) >= least
        for _ in range(N_RESAMPLES)
    )
    return (1 + larger) / (1 + N_RESAMPLES)


def _new_rows(workspace: Workspace, champion: Predictor, rows: LiveRows) -> NDArray[np.int64]:
    """Give the rows that tell something new.

    They are those whose structure neither the champion's dataset nor its modules' had, or had with
    another value.
    """
    import numpy as np

    from moma_cl.derivations.leakage import modules_behind, seen_by
    from moma_cl.structures.fingerprints import known_in

    task, then = (
        Task.from_doc(workspace.store.record(champion.task)),
        workspace.rows(champion.dataset),
    )
    learned = known_in(rows.fingerprints, np.sort(then.fingerprints))
    values = set(zip(then.fingerprints.tolist(), then.targets.tolist(), strict=True))
    changed = [
        value not in values
        for value in zip(rows.fingerprints.tolist(), rows.targets.tolist(), strict=True)
    ]
    seen = seen_by(workspace, modules_behind(workspace, champion), task, rows)
    return np.flatnonzero((~learned | np.array(changed)) & ~seen)


def _store(store: Store, derivation: Derivation, drift: Drift, seconds: float) -> bool:
    """Store what was measured, unless rows or champion have changed meanwhile; say whether."""
    detail = {"task": derivation.task, "because": describe_drift(drift), **drift.figures}
    ref = RefKind.DRIFT.of(derivation.task)
    action = HistoryAction.DRIFT if drift.drifted else HistoryAction.NEW_ROWS
    with store.writing():
        if _due(store, derivation.task) != derivation:
            return False
        with store.transaction(action, detail) as transaction:
            digest = transaction.put_record(drift.to_doc())
            transaction.put_memo(derivation.key, digest, seconds)
            before = transaction.ref(ref)
            if drift.rows or before is not None:  # rows that drifted may have been retracted
                transaction.move_ref(ref, digest, expected=before)
    return True


def _done(task: str, drift: Drift, seconds: float) -> Done:
    return Done(
        task=task,
        action=PassAction.DRIFT if drift.drifted else PassAction.MEASURED,
        kind=str(DerivationKind.DRIFT),
        text=describe_drift(drift),
        seconds=seconds,
        figures={**drift.figures, "unit": drift.unit, "new_elements": list(drift.new_elements)},
    )
