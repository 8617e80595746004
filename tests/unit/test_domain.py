"""The domain of a predictor."""

import numpy as np
import pytest

from moma_cl.domain import Applicability, Domain, applicability


def test_known_structures_are_mostly_inside_and_far_ones_outside():
    known = np.random.default_rng(0).normal(size=(400, 8))
    domain = Domain.fit(known, 5)
    alike = np.random.default_rng(1).normal(size=(400, 8))
    assert 0.85 < np.mean(domain.distances(alike) <= 1.0) <= 1.0
    assert np.all(domain.distances(alike + 10.0) > 1.5)


def test_distances_are_in_units_of_the_reach():
    domain = Domain.fit(np.arange(10.0)[:, None], 1)
    assert domain.distances(np.array([[9.0], [11.0]])) == pytest.approx([0.0, 2.0], abs=1e-6)


@pytest.mark.parametrize("n_known", [1, 2, 3])
def test_few_known_structures_are_enough(n_known):
    domain = Domain.fit(np.arange(float(n_known))[:, None] * np.ones((1, 3)), 5)
    assert np.all(np.isfinite(domain.distances(np.zeros((2, 3)))))


def test_a_stored_domain_answers_with_the_same_bits():
    domain = Domain.fit(np.random.default_rng(0).normal(size=(30, 4)), 5)
    rows = np.random.default_rng(1).normal(size=(10, 4))
    again = Domain.from_arrays(domain.to_arrays())
    assert np.array_equal(domain.distances(rows), again.distances(rows))


@pytest.mark.parametrize(
    ("distance", "word"),
    [(0.0, Applicability.INSIDE), (1.0, "inside"), (1.2, "edge"), (2.0, "outside")],
)
def test_distances_in_words(distance, word):
    assert applicability(distance) == word


def test_rounding_noise_among_the_known_is_not_the_yardstick_for_others():
    generator = np.random.default_rng(0)
    known = generator.normal(size=(30, 2))
    known[:, 1] *= 1e-4
    domain = Domain.fit(known, 5)
    near, far = domain.distances(np.array([[0.0, 1e-3], [0.0, 1.0]]))
    assert near < 1.0
    assert 2.0 < far < 200.0
