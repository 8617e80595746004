"""Promotion: whether a new predictor is better than the champion, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.predictor import load_predictor
from moma_cl.properties import Transform
from moma_cl.records import Calibration, Predictor, Task
from moma_cl.targets import Normaliser
from moma_cl.workbench import Workbench

FloatArray = NDArray[np.float64]

N_RESAMPLES = 1000


def compare(
    bench: Workbench, champion: Predictor, champion_digest: str, fitted: Predictor, unit: str
) -> dict[str, Any]:
    """Compare two predictors on the rows that decide.

    On the same data both have answered the same rows already. When data was added or corrected,
    the champion answers the new validation rows now; where each row decided in its turn, by
    cross-validation, there is nothing both have left out, and the newer data wins.

    Parameters
    ----------
    bench
        Reads the hub.
    champion
        The predictor that answers now.
    champion_digest
        Its digest.
    fitted
        The new predictor.
    unit
        The task's unit, for the text.

    Returns
    -------
    dict[str, Any]
        Whether to promote, why, and the figures, for the history.
    """
    same_data = champion.dataset == fitted.dataset
    if champion.calibration != fitted.calibration:
        return {"promoted": True, "because": "there are now rows for another calibration"}
    if not same_data and fitted.calibration != Calibration.HELD_OUT:
        return {"promoted": True, "because": "its data is newer"}
    rows, after = _decided_errors(bench, fitted)
    if same_data:
        _, before = _decided_errors(bench, champion)
    else:
        before = _errors_on(bench, champion_digest, fitted, rows)
    return _verdict(before, after, unit)


def _verdict(before: FloatArray, after: FloatArray, unit: str) -> dict[str, Any]:
    difference = after - before
    low, high = _bootstrap_interval(difference)
    return {
        "champion_mae": float(before.mean()),
        "difference": float(difference.mean()),
        "difference_interval_95": [low, high],
        "rows": len(difference),
        "promoted": bool(after.mean() < before.mean()),
        "because": (
            f"mean error {after.mean():.4g} against {before.mean():.4g} {unit}, "
            f"difference {difference.mean():+.2g} [{low:+.2g}, {high:+.2g}]"
        ),
    }


def _decided_errors(bench: Workbench, predictor: Predictor) -> tuple[NDArray[np.int64], FloatArray]:
    """Absolute errors of a predictor on the rows that decided about it, in the task's unit."""
    arrays = bench.store.blob(predictor.blob).arrays
    transform = Transform(Task.from_doc(bench.store.record(predictor.task)).transform)
    rows = arrays["decided_rows"].astype(np.int64)
    answers = Normaliser.from_arrays(arrays, transform).inverse(
        arrays["decided_answers"].astype(np.float64)
    )
    return rows, np.abs(answers - bench.rows(predictor.dataset).targets[rows])


def _errors_on(
    bench: Workbench, digest: str, fitted: Predictor, rows: NDArray[np.int64]
) -> FloatArray:
    live = bench.rows(fitted.dataset)
    graphs = bench.graphs(live)
    answers = load_predictor(bench, digest).answer([graphs[row] for row in rows], level=0.9)
    return np.abs(answers.values - live.targets[rows])


def _bootstrap_interval(difference: FloatArray) -> tuple[float, float]:
    """Give the 95 % interval of a mean difference by resampling rows."""
    generator = np.random.default_rng(0)
    resampled = generator.integers(0, len(difference), size=(N_RESAMPLES, len(difference)))
    low, high = np.quantile(difference[resampled].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
