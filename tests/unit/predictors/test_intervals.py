"""Prediction intervals."""

import numpy as np

from moma_cl.predictors.intervals import conformal_quantile, cross_validation_interval


def test_conformal_intervals_cover_new_rows_as_promised():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        scores = np.abs(generator.standard_t(3, size=99))
        covered.append(
            np.mean(np.abs(generator.standard_t(3, size=200)) <= conformal_quantile(scores, 0.9))
        )
    assert 0.89 <= np.mean(covered) <= 0.92


def test_too_few_rows_give_an_infinite_interval_not_a_narrow_one():
    assert conformal_quantile(np.ones(8), 0.9) == np.inf
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0
    lower, upper = cross_validation_interval(
        np.zeros((2, 3)), np.ones(8), np.zeros(8, np.int64), 0.9
    )
    assert lower.tolist() == [-np.inf, -np.inf]
    assert upper.tolist() == [np.inf, np.inf]


def test_equal_models_give_the_quantile_on_both_sides():
    residuals = np.arange(1.0, 20.0)
    lower, upper = cross_validation_interval(
        np.full((1, 2), 5.0), residuals, np.arange(19) % 2, 0.9
    )
    assert (lower[0], upper[0]) == (5.0 - 18.0, 5.0 + 18.0)


def test_models_that_differ_widen_the_interval():
    residuals, groups = np.ones(40), np.arange(40) % 2
    same = cross_validation_interval(np.array([[0.0, 0.0]]), residuals, groups, 0.9)
    apart = cross_validation_interval(np.array([[-3.0, 3.0]]), residuals, groups, 0.9)
    assert apart[0] < same[0]
    assert apart[1] > same[1]
