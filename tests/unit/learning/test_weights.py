"""The convex program for composition weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from moma_cl.learning.weights import duality_gap, solve_weights


def independent(generator, n_rows, n_modules, targets, spread):
    return targets[:, None] + spread * generator.normal(size=(n_rows, n_modules)) * (
        generator.uniform(0.1, 2.0, size=n_modules)
    )


def singular(generator, n_rows, n_modules, targets, spread):
    few = independent(generator, n_rows, max(1, n_modules // 3), targets, spread)
    return few @ generator.dirichlet(np.ones(few.shape[1]), size=n_modules).T


def identical(generator, n_rows, n_modules, targets, spread):
    return np.repeat(independent(generator, n_rows, 1, targets, spread), n_modules, axis=1)


def near_perfect(generator, n_rows, n_modules, targets, spread):
    return independent(generator, n_rows, n_modules, targets, 1e-7 * spread)


def by_nonnegative_least_squares(residuals):
    """Solve the same problem with another solver: the sum as a heavily weighted equation."""
    n_rows, n_modules = residuals.shape
    heavy = 1e4
    system = np.vstack([residuals / np.sqrt(n_rows), np.full((1, n_modules), heavy)])
    found, _ = nnls(system, np.append(np.zeros(n_rows), heavy), maxiter=10_000)
    return found / found.sum()


@pytest.mark.parametrize("make", [independent, singular, identical, near_perfect])
def test_no_second_solver_finds_better_weights(make):
    generator = np.random.default_rng(0)
    for _ in range(50):
        n_rows, n_modules = int(generator.integers(5, 300)), int(generator.integers(1, 40))
        targets = 10 ** generator.uniform(-3, 3) * generator.normal(size=n_rows) + 5.0
        predictions = make(generator, n_rows, n_modules, targets, targets.std())
        ours = solve_weights(predictions, targets, prune=0.0)
        residuals = (predictions - targets[:, None]) / targets.std()
        gram = residuals.T @ residuals / n_rows
        theirs = by_nonnegative_least_squares(residuals)
        assert np.all(ours.values >= 0)
        assert abs(ours.values.sum() - 1) <= 1e-12
        assert ours.duality_gap <= 1e-9
        assert ours.values @ gram @ ours.values <= theirs @ gram @ theirs + 1e-9


def test_the_one_right_module_gets_all_the_weight():
    generator = np.random.default_rng(1)
    targets = generator.normal(size=100)
    wrong = generator.normal(size=(100, 4))
    weights = solve_weights(np.column_stack([wrong, targets]), targets, prune=1e-6)
    assert weights.values.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_pruning_drops_small_weights_and_costs_no_more_than_allowed():
    generator = np.random.default_rng(2)
    targets = generator.normal(size=200)
    predictions = independent(generator, 200, 30, targets, 1.0)
    exact = solve_weights(predictions, targets, prune=0.0)
    pruned = solve_weights(predictions, targets, prune=1e-3)
    assert np.count_nonzero(pruned.values) < np.count_nonzero(exact.values)
    assert exact.objective <= pruned.objective <= exact.objective + 1e-3
    assert abs(pruned.values.sum() - 1) <= 1e-12


@given(st.integers(0, 10_000), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_weights_do_not_depend_on_the_unit(seed, shift, scale):
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=40)
    predictions = independent(generator, 40, 5, targets, 1.0)
    plain = solve_weights(predictions, targets, prune=1e-6)
    other = solve_weights(predictions * scale + shift, targets * scale + shift, prune=1e-6)
    # a large shift costs digits of the numbers themselves
    assert np.allclose(plain.values, other.values, atol=1e-4)


def test_constant_targets_do_not_divide_by_zero():
    weights = solve_weights(np.array([[1.0, 2.0], [1.0, 3.0]]), np.array([1.0, 1.0]), prune=1e-6)
    assert weights.values.tolist() == [1.0, 0.0]


def test_the_gap_of_the_optimum_is_zero_and_elsewhere_bounds_the_loss():
    gram = np.diag([1.0, 3.0])
    assert duality_gap(gram, np.array([0.75, 0.25])) == pytest.approx(0.0, abs=1e-12)
    worse = np.array([0.5, 0.5])
    assert duality_gap(gram, worse) >= worse @ gram @ worse - 0.75
