"""Kernel learners of few rows: heads beside the median of the rows."""

import numpy as np
import pytest

from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.records.records import ModuleKind, Predictor
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import record


def fitted(hub, rows, target):
    """The predictor and the kernel learner of a task of few rows."""
    hubs.add_task(hub, "task", rows, target=target, module=ModuleKind.NONE)
    predictor = Predictor.from_doc(record(hub, "fitted/task"))
    with Store.open(hub) as store:
        return predictor, StoredLearner.load(store, predictor.learners[0])


def error_of_median(rows, target):
    values = np.array([row[target] for row in rows])
    left_out = [np.median(np.delete(values, place)) for place in range(len(values))]
    return np.abs(values - left_out).mean()


def test_where_a_head_learns_nothing_it_errs_no_more_than_the_median(hub, made_up):
    tails = np.random.default_rng(0).pareto(1.2, size=30)
    rows = [{**row, "tail": float(tail)} for row, tail in zip(made_up(30), tails, strict=True)]
    predictor, learner = fitted(hub, rows, "tail")
    assert predictor.validation_maes["kernel"] < 1.05 * error_of_median(rows, "tail")
    assert learner.artifact.kernel.offsets.all()


def test_where_a_head_learns_it_answers_alone(hub, made_up):
    rows = made_up(60)
    predictor, learner = fitted(hub, rows, "energy")
    assert predictor.validation_maes["kernel"] < 0.7 * error_of_median(rows, "energy")
    assert np.abs(learner.artifact.kernel.offsets).max() < 0.01


def test_the_head_of_each_fold_has_a_median_of_its_own(hub, made_up):
    _, learner = fitted(hub, made_up(40), "energy")
    head, folds = learner.artifact.kernel, learner.artifact.folds
    assert head.offsets.shape == head.duals.shape[1:] == (folds.max() + 2,)


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_very_few_rows_are_answered(hub, made_up, n_rows):
    rows = [{**row, "energy": float(place)} for place, row in enumerate(made_up(n_rows))]
    if n_rows == 1:
        rows = made_up(1)
    predictor, _ = fitted(hub, rows, "energy")
    assert np.isfinite(list(predictor.validation_maes.values())).all()
