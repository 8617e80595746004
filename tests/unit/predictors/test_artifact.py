"""What the blobs of predictors and learners hold comes back with the same bits."""

import numpy as np
import pytest

from moma_cl.learning.kernel_head import fit_kernel_head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.artifact import CrossValidation, GoldenAnswers, PredictorArtifact
from moma_cl.predictors.calibration import Calibrated
from moma_cl.predictors.difficulty import N_NEIGHBOURS, Difficulty
from moma_cl.predictors.domain import Domain
from moma_cl.predictors.learner_artifact import (
    FinetunedEncoder,
    LearnerArtifact,
    RowAnswers,
)
from moma_cl.predictors.module_readouts import ReadoutBaseline, ReadoutScale
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import KernelSettings
from moma_cl.structures.crystals import Crystal, PackedCrystals

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(60, 4))
READOUTS = GENERATOR.normal(size=(60, 2))
TARGETS = READOUTS @ [1.0, 0.5] + 0.1 * POINTS[:, 0]


def artifact(**parts):
    """An artifact with as few parts as there can be, and those that are given."""
    domain = Domain.fit(POINTS, 5, elements=(8, 12))
    smallest = {
        "normaliser": Normaliser.fit(TARGETS, Transform.NONE),
        "label_range": (-1.0, 2.0),
        "deciding_rows": np.arange(5),
        "deciding_answers": TARGETS[:5],
        "calibrated": Calibrated(domain=domain, residuals=np.sort(np.abs(TARGETS))),
    }
    return PredictorArtifact(**{**smallest, **parts})


def learner(**parts):
    """An artifact of a learner with its answers, and the parts that are given."""
    validation = RowAnswers(rows=np.array([1, 4, 7]), answers=TARGETS[:3])
    held_out = RowAnswers(rows=np.array([2, 3]), answers=TARGETS[3:5])
    return LearnerArtifact(validation=validation, held_out=held_out, **parts)


def stored(written):
    read = (
        LearnerArtifact.from_arrays(written.to_arrays())
        if isinstance(written, LearnerArtifact)
        else PredictorArtifact.from_arrays(written.to_arrays(), Transform.NONE)
    )
    assert_equal(read.to_arrays(), written.to_arrays())
    return read


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert np.array_equal(array, second[name])


def test_the_smallest_artifact_comes_back_without_the_other_parts():
    read = stored(artifact())
    assert read.normaliser == artifact().normaliser
    assert read.label_range == (-1.0, 2.0)
    assert (read.golden, read.cross_validation) == (None, None)
    read = stored(learner())
    assert (read.kernel, read.finetuned, read.baseline) == (None, None, None)
    assert (read.readout_scale, read.folds) == (None, None)


def test_answers_are_found_by_their_rows():
    read = stored(learner())
    assert read.validation.of(np.array([1, 7])).tolist() == TARGETS[[0, 2]].tolist()
    assert read.held_out.rows.tolist() == [2, 3]


@pytest.mark.parametrize("with_readouts", [False, True])
def test_a_stored_kernel_head_answers_with_the_same_bits(with_readouts):
    readouts = READOUTS if with_readouts else None
    head, _ = fit_kernel_head(POINTS, TARGETS, KernelSettings(), readouts=readouts)
    kernel = stored(learner(kernel=head)).kernel
    assert kernel.uses_readouts == with_readouts
    assert np.array_equal(kernel.predict(POINTS, readouts), head.predict(POINTS, readouts))


def test_a_stored_domain_and_difficulty_answer_with_the_same_bits():
    domain = artifact().calibrated.domain
    difficulty = Difficulty.fit(np.abs(TARGETS), domain)
    residuals = np.sort(np.abs(TARGETS[:20]))
    written = Calibrated(
        domain=domain,
        residuals=residuals,
        difficulty=difficulty,
        residual_difficulty=np.ones(20),
    )
    read = stored(artifact(calibrated=written)).calibrated
    near = domain.nearest(POINTS + 0.1, N_NEIGHBOURS)
    again = read.domain.nearest(POINTS + 0.1, N_NEIGHBOURS)
    assert np.array_equal(near.distances, again.distances)
    assert np.array_equal(read.half_widths(again, 0.8), written.half_widths(near, 0.8))
    assert read.domain.elements == (8, 12)


def test_a_fine_tuned_encoder_and_readouts_come_back():
    baseline = ReadoutBaseline(coefficients=np.arange(3.0), spread=0.25)
    finetuned = FinetunedEncoder(
        parameters=np.arange(4, dtype=np.float32), head=np.ones(2, np.float32)
    )
    scale = ReadoutScale.fit(READOUTS)
    read = stored(learner(finetuned=finetuned, baseline=baseline, readout_scale=scale))
    assert read.finetuned.parameters.tolist() == [0, 1, 2, 3]
    assert read.baseline.spread == 0.25
    weights = np.array([0.5, 0.5])
    assert np.array_equal(
        read.readout_scale.features(READOUTS, weights), scale.features(READOUTS, weights)
    )


def test_cross_validation_and_golden_answers_come_back():
    crystal = Crystal(
        lattice=4.0 * np.eye(3), atomic_numbers=np.array([8]), frac_coords=np.zeros((1, 3))
    )
    golden = GoldenAnswers(crystals=PackedCrystals.pack([crystal]), answers=np.ones((4, 1)))
    cross_validation = CrossValidation(residuals=np.ones(3), groups=np.arange(3))
    assert stored(learner(folds=np.arange(3))).folds.tolist() == [0, 1, 2]
    read = stored(artifact(golden=golden, cross_validation=cross_validation))
    assert read.cross_validation.residuals.tolist() == [1.0] * 3
    assert read.cross_validation.groups.tolist() == [0, 1, 2]
    assert read.golden.answers.tolist() == [[1.0]] * 4
    assert read.golden.crystals[0].atomic_numbers.tolist() == [8]
