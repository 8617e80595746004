"""Prediction intervals."""

import numpy as np
import pytest

from moma_cl.predictors.intervals import (
    conformal_quantile,
    cross_validation_interval,
    within_bounds,
)


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


@pytest.mark.parametrize(
    ("answer", "bounds", "expected"),
    [
        ((-54.0, -97.0, -22.0), (0.0, np.inf), (0.0, 0.0, 32.0)),  # all outside, and still wide
        ((10.0, -4.0, 24.0), (0.0, np.inf), (10.0, 0.0, 24.0)),
        ((10.0, -np.inf, np.inf), (0.0, np.inf), (10.0, 0.0, np.inf)),
        ((0.7, 0.6, 0.8), (-1.0, 0.5), (0.5, 0.4, 0.5)),
        ((-54.0, -97.0, -22.0), (-np.inf, np.inf), (-54.0, -97.0, -22.0)),
        ((-3.0, 24.0, 30.0), (0.0, np.inf), (0.0, 0.0, 33.0)),  # the range of labels
    ],
)
def test_answers_keep_what_the_property_can_be(answer, bounds, expected):
    kept = within_bounds(tuple(np.array([part]) for part in answer), bounds, 6.0)
    assert [float(part[0]) for part in kept] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "spread", "bounds", "expected"),
    [
        (24.4, 0.0, (-np.inf, np.inf), (0.0, 48.8)),  # one row
        (-2.0, 0.0, (-np.inf, np.inf), (-4.0, 0.0)),
        (0.0, 0.0, (-np.inf, np.inf), (-1.0, 1.0)),
        (24.4, 2.0, (-np.inf, np.inf), (23.4, 25.4)),
        (0.0, 2.0, (0.0, np.inf), (0.0, 1.0)),
    ],
)
def test_no_interval_is_of_zero_width(value, spread, bounds, expected):
    answer = np.array([value])
    _, lower, upper = within_bounds((answer, answer, answer), bounds, spread)
    assert (lower[0], upper[0]) == pytest.approx(expected)
