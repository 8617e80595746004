"""What a module keeps so that it can answer by itself."""

import numpy as np
import pytest

from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import Readout, fit_readout
from moma_cl.predictors.module_answers import (
    TRAINING_POINTS,
    VALIDATION_POINTS,
    ModuleAnswers,
    ModuleRows,
    answer_errors,
    sample,
)
from moma_cl.properties.transforms import Transform
from moma_cl.records.records import Calibration
from moma_cl.structures.crystals import Crystal

WIDTH = 4  # of the node features: embeddings have four statistics of one block
SALT = Crystal(
    lattice=4.0 * np.eye(3),
    atomic_numbers=np.array([11, 17]),
    frac_coords=np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
)
SLAB = Crystal(
    lattice=np.diag([4.0, 4.0, 30.0]), atomic_numbers=np.array([8]), frac_coords=np.zeros((1, 3))
)


def make(n_rows=900, n_train=300, n_validation=100, transform=Transform.NONE, points=None):
    """Answers of a readout that errs more, the larger the first feature; and new rows alike."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(n_rows + 2000, 4 * WIDTH)).astype(np.float32)
    noise = 0.3 * generator.normal(size=len(embeddings)) * np.exp(embeddings[:, -1])
    targets = embeddings.sum(axis=1) / 4 + noise
    numbers = np.arange(n_rows)
    split = sample(*np.split(numbers, [n_train, n_train + n_validation]))
    normaliser = Normaliser(transform=transform, mean=1.0, deviation=2.0)
    readout = fit_readout(embeddings[:n_train], targets[:n_train], n_train)
    n_points = len(split.train) + len(split.validation)
    rows = ModuleRows(
        split=split,
        embeddings=embeddings[:n_rows],
        feature_dim=WIDTH,
        targets=targets[:n_rows],
        fingerprints=np.arange(n_rows, dtype=np.uint64) << np.uint64(20),
        learned=[SALT, SLAB],
        points=points or [SALT] * n_points,
    )
    answers = ModuleAnswers.fit(readout, normaliser, rows)
    return answers, embeddings[n_rows:], targets[n_rows:]


def covered(answers, embeddings, targets, level):
    from moma_cl.predictors.difficulty import N_NEIGHBOURS
    from moma_cl.predictors.domain import points_of

    near = answers.calibrated.domain.nearest(points_of(embeddings, WIDTH), N_NEIGHBOURS)
    width = answers.calibrated.half_widths(near, level)
    return np.mean(np.abs(answers.readout.predict(embeddings) - targets) <= width)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_cover_new_rows_as_promised(level):
    answers, embeddings, targets = make(n_rows=2400)  # 2,000 of them held out
    assert covered(answers, embeddings, targets, level) == pytest.approx(level, abs=0.035)


def test_what_is_stored_answers_with_the_same_bits():
    answers, embeddings, _ = make(transform=Transform.LOG10)
    arrays = answers.to_arrays()
    read = ModuleAnswers.from_arrays(arrays, Transform.LOG10)
    assert read.normaliser == answers.normaliser
    assert read.label_range == answers.label_range
    points = embeddings[:, -2 * WIDTH :].astype(np.float64)
    ours, theirs = (one.calibrated.domain.nearest(points, 10) for one in (answers, read))
    assert ours.distances.tobytes() == theirs.distances.tobytes()
    for level in (0.5, 0.9):
        widths = [one.calibrated.half_widths(ours, level) for one in (answers, read)]
        assert widths[0] == pytest.approx(widths[1], rel=1e-12)
    again = read.to_arrays()
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert read.fits(arrays, WIDTH)


def test_a_domain_is_a_sample_in_half_precision():
    answers, _, _ = make(n_rows=2000, n_train=1500, n_validation=300)
    known = answers.to_arrays()["domain_known"]
    assert known.shape == (TRAINING_POINTS + VALIDATION_POINTS, 2 * WIDTH)
    assert known.dtype == np.float16
    assert len(answers.calibrated.residuals) == 200  # every held-out row
    assert answers.calibrated.domain.elements == (8, 11, 17)


def test_few_rows_are_all_kept():
    split = sample(np.arange(20), np.arange(20, 24), np.arange(24, 30))
    assert [len(part) for part in (split.train, split.validation, split.held_out)] == [20, 4, 6]


def test_points_with_vacuum_are_remembered():
    answers, _, _ = make(n_rows=30, n_train=20, n_validation=5, points=[SLAB] * 20 + [SALT] * 5)
    assert answers.slabs.tolist() == [True] * 20 + [False] * 5


def test_without_held_out_rows_the_range_of_the_targets_is_all_there_is():
    answers, _, _ = make(n_rows=30, n_train=25, n_validation=5)
    assert answers.calibration == Calibration.RANGE
    assert answers.label_range[0] < answers.label_range[1]


def test_a_module_without_readout_or_normaliser_cannot_answer():
    readout = Readout(
        centre=np.zeros(4), spread=np.ones(4), layers=((np.ones((1, 4)), np.zeros(1)),)
    )
    assert ModuleAnswers.from_arrays({}, Transform.NONE) is None
    assert ModuleAnswers.from_arrays(readout.to_arrays(), Transform.NONE) is None


@pytest.mark.parametrize("name", ["domain_slabs", "domain_centre", "domain_spread"])
def test_arrays_that_do_not_go_together_are_told(name):
    answers, _, _ = make()
    arrays = answers.to_arrays()
    assert name in arrays
    arrays[name] = arrays[name][:-1]
    assert not ModuleAnswers.from_arrays(arrays, Transform.NONE).fits(arrays, WIDTH)


def test_errors_of_logarithms_are_those_of_the_values():
    training, held_out = np.log10([1.0, 10.0, 100.0]), np.log10([20.0, 40.0])
    errors = answer_errors("log10(GPa)", training, held_out, np.log10([30.0, 40.0]))
    assert errors["unit"] == "GPa"
    assert errors["n_held_out"] == 2
    assert errors["mae"] == pytest.approx(5.0)
    assert errors["mae_of_median"] == pytest.approx(20.0)


def test_errors_that_nobody_could_measure_are_none():
    errors = answer_errors("eV", np.ones(3), np.zeros(0), np.zeros(0))
    assert errors == {"unit": "eV", "mae": None, "mae_of_median": None, "n_held_out": 0}
