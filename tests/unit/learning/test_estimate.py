"""Leave-one-out estimates of a module's use."""

import numpy as np
import pytest

from moma_cl.learning import estimate
from moma_cl.learning.estimate import knn_leave_one_out, ridge_leave_one_out, winsorised
from moma_cl.recipe import EstimateSettings

SETTINGS = EstimateSettings()


def alone(targets):
    """Every row its own group."""
    return np.arange(len(targets))


def plain_knn(embeddings, targets, k, temperature):
    """Equation 2 of the paper, one row at a time."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    answers = []
    for row in range(len(targets)):
        similarity = unit @ unit[row]
        others = [j for j in range(len(targets)) if j != row and similarity[j] <= 1 - 1e-5]
        nearest = sorted(others, key=lambda j: (-similarity[j], j))[:k]
        weights = np.exp(similarity[nearest] / temperature)
        answers.append(float(weights @ targets[nearest] / weights.sum()))
    return np.array(answers)


def test_knn_is_the_paper_s_formula(monkeypatch):
    generator = np.random.default_rng(0)
    embeddings, targets = generator.normal(size=(60, 8)), generator.normal(size=60)
    expected = plain_knn(embeddings, targets, 5, 0.2)
    assert np.allclose(knn_leave_one_out(embeddings, targets, alone(targets), SETTINGS), expected)
    monkeypatch.setattr(estimate, "BLOCK_ENTRIES", 7 * 60)
    assert np.allclose(knn_leave_one_out(embeddings, targets, alone(targets), SETTINGS), expected)


def test_knn_takes_equal_similarities_in_the_order_of_rows():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    settings = EstimateSettings(k=1, duplicate_distance=-1.0)
    answers = knn_leave_one_out(embeddings, np.array([5.0, 1.0, 2.0, 3.0]), np.arange(4), settings)
    assert answers.tolist() == [1.0, 2.0, 1.0, 1.0]


def test_near_duplicates_are_not_neighbours():
    embeddings = np.array([[1.0, 0.0], [1.0, 1e-6], [0.7, 0.7], [0.0, 1.0]])
    targets = np.array([9.0, 9.0, 1.0, 1.0])
    assert knn_leave_one_out(embeddings, targets, alone(targets), SETTINGS)[:2] == pytest.approx(
        [1.0, 1.0]
    )


def test_a_row_whose_others_are_all_duplicates_has_no_estimate():
    answers = knn_leave_one_out(np.ones((3, 2)), np.arange(3.0), np.arange(3), SETTINGS)
    assert np.isnan(answers).all()


@pytest.mark.parametrize("n_rows", [0, 1])
def test_too_few_rows_for_a_neighbour_have_no_estimate(n_rows):
    assert np.isnan(
        knn_leave_one_out(np.ones((n_rows, 2)), np.ones(n_rows), np.arange(n_rows), SETTINGS)
    ).all()


def test_k_shrinks_to_the_rows_there_are():
    answers = knn_leave_one_out(np.eye(3), np.array([0.0, 3.0, 6.0]), np.arange(3), SETTINGS)
    assert answers.tolist() == pytest.approx([4.5, 3.0, 1.5])


@pytest.mark.parametrize(("n_rows", "n_features"), [(20, 50), (60, 6)])
def test_closed_form_ridge_is_what_leaving_each_row_out_gives(n_rows, n_features, monkeypatch):
    generator = np.random.default_rng(1)
    embeddings = generator.normal(size=(n_rows, n_features)) * generator.uniform(1, 9, n_features)
    targets = embeddings[:, 0] + 0.1 * generator.normal(size=n_rows)
    monkeypatch.setattr(estimate, "RIDGES", np.array([1.0]))
    features = (embeddings - embeddings.mean(0)) / embeddings.std(0) / np.sqrt(n_features)
    penalty = 1.0 * n_rows * 1e-3 * np.diag([0.0, *np.ones(n_features)])  # not the intercept
    design = np.column_stack([np.ones(n_rows), features])
    for row, answer in enumerate(ridge_leave_one_out(embeddings, targets, alone(targets))):
        rest = np.arange(n_rows) != row
        system = design[rest].T @ design[rest] + penalty
        coefficients = np.linalg.solve(system, design[rest].T @ targets[rest])
        assert answer == pytest.approx(design[row] @ coefficients, abs=1e-8)


def test_ridge_tells_a_telling_embedding_from_noise():
    generator = np.random.default_rng(2)
    targets = generator.normal(size=80)
    telling = targets[:, None] * np.ones((1, 4)) + 0.1 * generator.normal(size=(80, 4))
    noise = generator.normal(size=(80, 4))
    errors = [
        np.abs(ridge_leave_one_out(e, targets, alone(targets)) - targets).mean()
        for e in (telling, noise)
    ]
    assert errors[0] < 0.2 * errors[1]


def test_features_that_never_vary_do_not_matter():
    generator = np.random.default_rng(3)
    embeddings, targets = generator.normal(size=(30, 3)), generator.normal(size=30)
    padded = np.column_stack([embeddings, np.full(30, 7.0)])
    assert np.allclose(
        ridge_leave_one_out(embeddings, targets, alone(targets)),
        ridge_leave_one_out(padded, targets, alone(targets)),
    )


def test_winsorising_pulls_in_the_ends_alone():
    targets = np.append(np.linspace(0, 1, 99), 1e6)
    pulled = winsorised(targets, 0.01)
    assert pulled.max() < 1e5
    assert np.array_equal(pulled[1:98], targets[1:98])


def test_rows_of_one_structure_are_left_out_together(monkeypatch):
    generator = np.random.default_rng(4)
    embeddings, targets = generator.normal(size=(24, 5)), generator.normal(size=24)
    groups = np.arange(24) // 3
    monkeypatch.setattr(estimate, "RIDGES", np.array([1.0]))
    features = (embeddings - embeddings.mean(0)) / embeddings.std(0) / np.sqrt(5)
    design = np.column_stack([np.ones(24), features])
    penalty = 1.0 * 24 * 1e-3 * np.diag([0.0, *np.ones(5)])
    answers = ridge_leave_one_out(embeddings, targets, groups)
    for row, answer in enumerate(answers):
        rest = groups != groups[row]
        system = design[rest].T @ design[rest] + penalty
        coefficients = np.linalg.solve(system, design[rest].T @ targets[rest])
        assert answer == pytest.approx(design[row] @ coefficients, abs=1e-8)


@pytest.mark.parametrize("estimator", ["ridge", "knn"])
def test_noise_that_stands_twice_is_still_noise(estimator):
    generator = np.random.default_rng(5)
    embeddings = np.repeat(generator.normal(size=(60, 8)), 2, axis=0)
    targets = np.repeat(generator.normal(size=60), 2)
    groups = np.repeat(np.arange(60), 2)
    settings = EstimateSettings(estimator=estimator)
    answers = estimate.leave_one_out_predictions(embeddings, targets, groups, settings)
    assert np.abs(answers - targets).mean() > 0.5
