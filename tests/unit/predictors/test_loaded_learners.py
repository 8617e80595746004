"""Learners of one backbone that answer together."""

import numpy as np

from moma_cl.predictors.loaded_learners import LoadedEncoder, Readings
from moma_cl.predictors.module_readouts import ReadoutBaseline, ReadoutScale


def test_each_learner_reads_the_modules_by_the_scale_of_its_own_training():
    generator = np.random.default_rng(0)
    readings = Readings(values=generator.normal(size=(5, 2)), weights=np.array([0.7, 0.3]))
    baseline = ReadoutBaseline(coefficients=np.array([0.5, -1.0, 0.2]), spread=0.3)
    outputs = generator.normal(size=5)
    for centre in (0.0, 0.4):
        scale = ReadoutScale(centre=np.full(2, centre), spread=np.array([1.0, 2.0]))
        one = LoadedEncoder(
            encoder=None, head=None, baseline=baseline, scale=scale, rescaling=(2.0, 0.1)
        )
        features = scale.features(readings.values, readings.weights)
        expected = 2.0 * (0.3 * outputs + baseline.predict(features)) + 0.1
        assert np.allclose(one.predict(outputs, readings), expected)
