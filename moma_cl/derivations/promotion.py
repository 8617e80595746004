"""Promotion: whether a new predictor is better than the champion, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.derivations.leakage import modules_behind, seen_by
from moma_cl.predictors.predictor import graphs_for, load_artifact, load_predictor
from moma_cl.properties.units import with_unit
from moma_cl.records.records import Calibration, HoldReason, Predictor, Task
from moma_cl.workspace.workspace import Workspace

N_RESAMPLES = 1000

SAME = 1e-6  # of the error: differences up to it are rounding

SURPRISE = 0.05
"""Probability below which new rows that make other answers worse hold a promotion."""


def compare(
    workspace: Workspace,
    champion_digest: str,
    fitted: Predictor,
    unit: str,
    *,
    surprise: float | None = None,
) -> dict[str, Any]:
    """Compare two predictors on the rows that decide: whether to promote, why, and the figures.

    Both are judged by answers of heads that had not seen the rows: those stored when each was
    fitted, and, for other validation rows, what the champion answers now, but of rows that a module
    behind the champion was trained on. Where no such row is left, the newer predictor wins. Where
    each row decided in its turn, by cross-validation, and the data has changed, it wins too, unless
    the new rows were a surprise and it answers the rows that both have worse than the champion,
    each beyond chance: then it is held.

    Parameters
    ----------
    workspace
        Reads the hub.
    champion_digest
        The predictor that answers now.
    fitted
        The new predictor.
    unit
        The task's unit, for the text.
    surprise
        Probability of errors of the champion as large as those on the new rows; none where there
        are no such rows, or nothing is promised.

    Returns
    -------
    dict[str, Any]
        Whether to promote, why, and the figures, for the history; ``held`` says why somebody has
        to confirm it, where that is so.
    """
    champion = Predictor.from_doc(workspace.store.record(champion_digest))
    if champion.calibration != fitted.calibration:
        because = f"there are now rows for another calibration, {fitted.calibration}"
        return {"promoted": True, "because": f"{because}; {_errors(champion, fitted, unit)}"}
    if champion.dataset != fitted.dataset and fitted.calibration == Calibration.CROSS_VALIDATION:
        verdict = _with_newer_data(workspace, champion, fitted, unit)
        return _held_if_worse(verdict, surprise)
    if champion.dataset != fitted.dataset and fitted.calibration == Calibration.RANGE:
        return {
            "promoted": True,
            "because": f"its data is newer; {_errors(champion, fitted, unit)}",
        }
    rows, answers = _deciding(workspace, fitted)
    targets = workspace.rows(fitted.dataset).targets[rows]
    before = _champion_answers(workspace, champion, champion_digest, fitted, rows)
    fair = ~np.isnan(before)
    if not fair.any():
        return {"promoted": True, "because": "modules behind the champion have seen all such rows"}
    errors = np.abs(np.stack([before, answers]) - targets)[:, fair]
    verdict = _verdict(errors[0], errors[1], unit)
    if champion.dataset != fitted.dataset:
        return _promoted_if_the_same(verdict)
    return verdict


def answers_when_fitted(workspace: Workspace, predictor: Predictor) -> dict[tuple[str, int], float]:
    """Give a predictor's answers to the rows that decided about it, each by heads without it.

    Parameters
    ----------
    workspace
        Reads the hub.
    predictor
        The predictor.

    Returns
    -------
    dict[tuple[str, int], float]
        Answers in the task's unit, by id and fingerprint of the row.
    """
    rows = workspace.rows(predictor.dataset)
    return {
        (rows.ids[row], int(rows.fingerprints[row])): float(answer)
        for row, answer in zip(*_deciding(workspace, predictor), strict=True)
    }


def _with_newer_data(
    workspace: Workspace, champion: Predictor, fitted: Predictor, unit: str
) -> dict[str, Any]:
    """Compare the answers of two cross-validations to the rows that both have."""
    before, after = (answers_when_fitted(workspace, one) for one in (champion, fitted))
    now = workspace.rows(fitted.dataset)
    targets = {
        (row_id, int(fingerprint)): target
        for row_id, fingerprint, target in zip(now.ids, now.fingerprints, now.targets, strict=True)
    }
    shared = sorted(before.keys() & after.keys() & targets.keys())
    if not shared:
        return {"promoted": True, "because": "its data is newer, and no row is in both"}
    errors = np.abs([[a[key] - targets[key] for key in shared] for a in (before, after)])
    verdict = _verdict(errors[0], errors[1], unit)
    because = f"its data is newer; on the {len(shared):,} rows that both have, {verdict['because']}"
    return {**verdict, "promoted": True, "because": because}


def _held_if_worse(verdict: dict[str, Any], surprise: float | None) -> dict[str, Any]:
    """Hold a promotion where the new rows surprise the champion and make other answers worse.

    Either alone is no reason: with more rows of one formula, a head is often chosen that knows less
    of other formulas.
    """
    low, _ = verdict.get("difference_interval_95", (0.0, 0.0))
    if surprise is None or surprise > SURPRISE or low <= 0:
        return verdict
    because = f"the new rows were not expected (p = {surprise:.2g}) and make other answers worse"
    return {
        **verdict,
        "promoted": False,
        "held": HoldReason.WORSE.value,
        "because": f"{because}: {verdict['because']}",
    }


def _promoted_if_the_same(verdict: dict[str, Any]) -> dict[str, Any]:
    """Promote a predictor whose errors are the champion's: it knows the newer rows.

    They are where the learners that answer were carried over.
    """
    if verdict["promoted"] or abs(verdict["difference"]) > SAME * verdict["champion_mae"]:
        return verdict
    because = f"its data is newer and its answers are the same: {verdict['because']}"
    return {**verdict, "promoted": True, "because": because}


def _errors(champion: Predictor, fitted: Predictor, unit: str) -> str:
    errors = [f"{one.validation_mae:.4g}" for one in (fitted, champion)]
    return f"validation error {errors[0]} {unit}, the champion's was {errors[1]}"


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
    now, stored = workspace.rows(fitted.dataset), answers_when_fitted(workspace, champion)
    keys = [(now.ids[row], int(now.fingerprints[row])) for row in rows]
    answers = np.array([stored.get(key, np.nan) for key in keys])
    task = Task.from_doc(workspace.store.record(fitted.task))
    seen = seen_by(workspace, modules_behind(workspace, champion), task, now)[rows]
    new = np.flatnonzero(np.isnan(answers) & ~seen)
    if len(new):
        predictor = load_predictor(workspace, digest)
        graphs = graphs_for(workspace, champion, now, rows[new])
        answers[new] = predictor.answer(graphs, level=predictor.level).values
    return answers


def _bootstrap_interval(difference: FloatArray) -> tuple[float, float]:
    """Give the 95 % interval of a mean difference by resampling rows."""
    generator = np.random.default_rng(0)
    resampled = generator.integers(0, len(difference), size=(N_RESAMPLES, len(difference)))
    low, high = np.quantile(difference[resampled].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
