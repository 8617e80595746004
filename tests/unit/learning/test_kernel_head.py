"""The kernel head."""

import numpy as np
import pytest

from moma_cl.learning.kernel_head import fit_kernel_head, matern
from moma_cl.recipe import KernelSettings

SETTINGS = KernelSettings()


def smooth_rows(n_rows, seed=0):
    embeddings = np.random.default_rng(seed).normal(size=(n_rows, 4))
    return embeddings, np.sin(embeddings[:, 0]) + embeddings[:, 1] ** 2


def test_it_learns_a_smooth_function():
    embeddings, targets = smooth_rows(300)
    head, _ = fit_kernel_head(embeddings, targets, SETTINGS)
    new, truth = smooth_rows(50, seed=1)
    assert np.abs(head.predict(new)[:, 0] - truth).mean() < 0.1 * truth.std()


def test_leave_one_out_choice_does_not_overfit_noise():
    embeddings = np.random.default_rng(0).normal(size=(100, 4))
    noise = np.random.default_rng(1).normal(size=100)
    head, choice = fit_kernel_head(embeddings, noise, SETTINGS)
    assert choice.ridge == max(SETTINGS.ridges)
    assert np.abs(head.predict(smooth_rows(50)[0])[:, 0]).mean() < 0.8


def test_each_subset_sees_its_rows_only():
    embeddings, targets = smooth_rows(60)
    mask = np.arange(60) < 40
    both, choice = fit_kernel_head(embeddings, targets, SETTINGS, subsets=[mask, ~mask])
    changed = np.where(mask, targets, 100.0)
    other, _ = fit_kernel_head(embeddings, changed, SETTINGS, choice=choice, subsets=[mask, ~mask])
    assert np.array_equal(both.duals[:, 0], other.duals[:, 0])
    assert not np.allclose(both.duals[:, 1], other.duals[:, 1])


def test_a_subset_without_rows_predicts_the_mean():
    embeddings, targets = smooth_rows(10)
    head, _ = fit_kernel_head(embeddings, targets, SETTINGS, subsets=[np.zeros(10, bool)])
    assert head.predict(embeddings).tolist() == [[0.0]] * 10


def test_many_rows_are_sampled():
    embeddings, targets = smooth_rows(200)
    head, _ = fit_kernel_head(embeddings, targets, KernelSettings(max_rows=50))
    assert head.support.shape == (50, 4)


def test_equal_rows_and_constant_features_are_no_trouble():
    head, _ = fit_kernel_head(np.ones((5, 3)), np.arange(5.0) - 2, SETTINGS)
    assert head.predict(np.ones((1, 3)))[0, 0] == pytest.approx(0.0, abs=1e-6)


def test_the_kernel_is_one_at_distance_zero_and_falls():
    values = matern(np.array([0.0, 1.0, 4.0, 100.0]), 1.0)
    assert values[0] == 1.0
    assert np.all(np.diff(values) < 0)


def test_noise_that_stands_twice_is_smoothed_all_the_same():
    embeddings = np.repeat(np.random.default_rng(0).normal(size=(60, 4)), 2, axis=0)
    noise = np.repeat(np.random.default_rng(1).normal(size=60), 2)
    groups = np.repeat(np.arange(60), 2)
    _, fooled = fit_kernel_head(embeddings, noise, SETTINGS)
    _, choice = fit_kernel_head(embeddings, noise, SETTINGS, groups=groups)
    assert choice.ridge == max(SETTINGS.ridges)
    assert fooled.ridge < choice.ridge


def test_a_head_drawn_to_constants_answers_in_between():
    embeddings, targets = smooth_rows(40)
    halves = [np.arange(40) < 20, np.arange(40) >= 20]
    head, _ = fit_kernel_head(embeddings, targets, SETTINGS, subsets=halves)
    constants = np.array([1.0, -2.0])
    before, drawn = head.predict(embeddings), head.drawn_to(constants, 0.75).predict(embeddings)
    assert np.allclose(drawn, 0.75 * before + 0.25 * constants)
    assert np.array_equal(head.drawn_to(constants, 1.0).predict(embeddings), before)
    assert np.array_equal(head.drawn_to(constants, 0.0).predict(embeddings), 0 * before + constants)
