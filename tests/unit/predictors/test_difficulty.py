"""How hard a structure is to predict, and intervals that follow it."""

import numpy as np
import pytest

from moma_cl.datasets.split import Split
from moma_cl.predictors.calibration import Answered, calibrate
from moma_cl.predictors.difficulty import N_NEIGHBOURS, Difficulty, kernel_left_out_errors
from moma_cl.predictors.domain import Domain
from moma_cl.predictors.intervals import conformal_quantile
from moma_cl.recipe import PredictorSettings
from moma_cl.records.records import Calibration

FEATURE_DIM = 4
N_FEATURES = 4 * FEATURE_DIM


def answered(seed=0, noise=None, n_rows=400):
    """Rows of which those with a large first feature are noisy, by 4 : 1 or as given."""
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(n_rows, N_FEATURES))
    embeddings[:, -1] = 3.0 * generator.uniform(size=n_rows)
    noise = noise or (lambda rows: np.where(rows[:, -1] > 1.5, 1.0, 0.25))
    smooth = embeddings[:, 0]
    targets = smooth + noise(embeddings) * generator.normal(size=n_rows)
    rows = np.arange(n_rows)
    split = Split(
        calibration=Calibration.HELD_OUT,
        train=rows[: n_rows // 2],
        validation=rows[n_rows // 2 : 3 * n_rows // 4],
        held_out=rows[3 * n_rows // 4 :],
    )
    return Answered(
        embeddings=embeddings,
        feature_dim=FEATURE_DIM,
        targets=targets,
        fingerprints=rows.astype(np.uint64),
        elements=(8, 12),
        split=split,
        validation=smooth[split.validation],
        held_out=smooth[split.held_out],
    )


def test_left_out_errors_are_those_of_fitting_again_without_the_row():
    generator = np.random.default_rng(0)
    embeddings, targets = generator.normal(size=(30, 3)), generator.normal(size=30)
    groups = np.arange(30)
    groups[[4, 9, 17]] = 4
    errors = kernel_left_out_errors(embeddings, targets, groups)
    from moma_cl.learning.kernel_head import matern, squared_distances
    from moma_cl.learning.standardisation import centre_and_spread
    from moma_cl.predictors.difficulty import LENGTH_SCALE, RIDGE

    centre, spread = centre_and_spread(embeddings)
    rows = (embeddings - centre) / spread
    squared = squared_distances(rows, rows)
    kernel = matern(squared, LENGTH_SCALE * np.sqrt(np.median(squared)))
    goal = targets - targets.mean()
    for row in (0, 4, 9):
        left = np.flatnonzero(groups != groups[row])
        solved = np.linalg.solve(kernel[np.ix_(left, left)] + RIDGE * np.eye(len(left)), goal[left])
        assert errors[row] == pytest.approx(goal[row] - kernel[row, left] @ solved, abs=1e-9)


def test_difficulty_is_larger_far_away_and_among_badly_predicted_rows():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(300, 3))
    errors = np.where(points[:, 0] > 0, 1.0, 0.1)
    domain = Domain.fit(points, 5, elements=())
    difficulty = Difficulty.fit(errors, domain)
    asked = np.array([[-1.0, 0, 0], [1.0, 0, 0], [-9.0, 0, 0]])
    calm, noisy, far = difficulty.of(domain.nearest(asked, N_NEIGHBOURS))
    assert 0 < calm < noisy
    assert far > 2 * calm


def test_intervals_follow_the_noise_where_validation_rows_show_some():
    calibrated = calibrate(answered(), PredictorSettings())
    scale, residuals = calibrated.residual_difficulty, calibrated.residuals
    assert np.all(np.diff(residuals) >= 0)
    varying = conformal_quantile(residuals / scale, 0.9) * scale.mean()
    assert varying < conformal_quantile(residuals, 0.9)


def test_widths_are_constant_where_nothing_is_gained_and_where_few_rows_decide():
    far_is_easier = answered(noise=lambda rows: np.exp(-np.abs(rows[:, 8:]).sum(axis=1) / 3))
    few = answered(n_rows=100)
    for rows in (far_is_easier, few):
        calibrated = calibrate(rows, PredictorSettings())
        assert calibrated.residual_difficulty is None
        assert calibrated.difficulty is None


def test_varying_intervals_cover_new_rows_as_promised():
    covered = []
    for seed in range(20):
        calibrated = calibrate(answered(seed, n_rows=600), PredictorSettings())
        residuals, scale = calibrated.residuals, calibrated.residual_difficulty
        scale = np.ones(len(residuals)) if scale is None else scale
        order = np.random.default_rng(seed).permutation(len(residuals))
        first, second = order[::2], order[1::2]
        width = conformal_quantile(residuals[first] / scale[first], 0.9) * scale[second]
        covered.append(np.mean(residuals[second] <= width))
    assert 0.88 <= np.mean(covered) <= 0.94
