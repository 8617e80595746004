"""Promotion: whether a new predictor is better than the champion, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.derivations.leakage import modules_behind, seen_by
from moma_cl.predictors.predictor import load_artifact, load_predictor
from moma_cl.properties.units import with_unit
from moma_cl.records.records import Calibration, Predictor, Task
from moma_cl.workspace.workspace import Workspace

N_RESAMPLES = 1000


def compare(
    workspace: Workspace, champion_digest: str, fitted: Predictor, unit: str
) -> dict[str, Any]:
    """Compare two predictors on the rows that decide: whether to promote, why, and the figures.

    Both are judged by answers of heads that had not seen the rows: those stored when each was
    fitted, and, for other validation rows, what the champion answers now, but of rows that a module
    behind the champion was trained on. Where no such row is left, or each decided in its turn, by
    cross-validation, and the data has changed, the newer predictor wins. The text has errors in
    ``unit``, the task's.
    """
    champion = Predictor.from_doc(workspace.store.record(champion_digest))
    if champion.calibration != fitted.calibration:
        return {"promoted": True, "because": "there are now rows for another calibration"}
    if champion.dataset != fitted.dataset and fitted.calibration != Calibration.HELD_OUT:
        return {"promoted": True, "because": "its data is newer"}
    rows, answers = _deciding(workspace, fitted)
    targets = workspace.rows(fitted.dataset).targets[rows]
    before = _champion_answers(workspace, champion, champion_digest, fitted, rows)
    fair = ~np.isnan(before)
    if not fair.any():
        return {"promoted": True, "because": "modules behind the champion have seen all such rows"}
    errors = np.abs(np.stack([before, answers]) - targets)[:, fair]
    return _verdict(errors[0], errors[1], unit)


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
            f"mean error {after.mean():.4g} against {with_unit(f'{before.mean():.4g}', unit)}, "
            f"difference {difference.mean():+.2g} [{low:+.2g}, {high:+.2g}]"
        ),
    }


def _deciding(workspace: Workspace, predictor: Predictor) -> tuple[IntArray, FloatArray]:
    """Give the rows that decided about a predictor and its answers, in the task's unit."""
    artifact = load_artifact(workspace.store, predictor)
    return artifact.deciding_rows, artifact.normaliser.inverse(artifact.deciding_answers)


def _champion_answers(
    workspace: Workspace,
    champion: Predictor,
    digest: str,
    fitted: Predictor,
    rows: IntArray,
) -> FloatArray:
    """Give the champion's answers to these rows of the new predictor's dataset.

    NaN stands for a row that it has seen through a module.
    """
    then, now = workspace.rows(champion.dataset), workspace.rows(fitted.dataset)
    stored = {
        (then.ids[row], then.fingerprints[row]): answer
        for row, answer in zip(*_deciding(workspace, champion), strict=True)
    }
    answers = np.array([stored.get((now.ids[row], now.fingerprints[row]), np.nan) for row in rows])
    task = Task.from_doc(workspace.store.record(fitted.task))
    seen = seen_by(workspace, modules_behind(workspace, champion), task, now)[rows]
    new = np.flatnonzero(np.isnan(answers) & ~seen)
    if len(new):
        graphs = workspace.graphs(now)
        predictor = load_predictor(workspace, digest)
        new_graphs = [graphs[row] for row in rows[new]]
        answers[new] = predictor.answer(new_graphs, level=predictor.level).values
    return answers


def _bootstrap_interval(difference: FloatArray) -> tuple[float, float]:
    """Give the 95 % interval of a mean difference by resampling rows."""
    generator = np.random.default_rng(0)
    resampled = generator.integers(0, len(difference), size=(N_RESAMPLES, len(difference)))
    low, high = np.quantile(difference[resampled].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
