"""The domain of a predictor."""

import numpy as np
import pytest

from moma_cl.predictors.domain import Applicability, Domain


def distances(domain, points):
    """Mean distance to the nearest known rows, in units of the reach."""
    return domain.nearest(points, domain.neighbours).distances.mean(axis=1)


def test_known_structures_are_mostly_inside_and_far_ones_outside():
    known = np.random.default_rng(0).normal(size=(400, 8))
    domain = Domain.fit(known, 5, elements=())
    alike = np.random.default_rng(1).normal(size=(400, 8))
    assert 0.75 < np.mean(distances(domain, alike) <= 1.0) <= 0.95
    assert np.all(distances(domain, alike + 10.0) > domain.limit)


def test_distances_are_in_units_of_the_reach():
    domain = Domain.fit(np.arange(10.0)[:, None], 1, elements=())
    assert distances(domain, np.array([[9.0], [11.0]])) == pytest.approx([0.0, 2.0], abs=1e-6)


@pytest.mark.parametrize("n_known", [1, 2, 3])
def test_few_known_structures_are_enough(n_known):
    domain = Domain.fit(np.arange(float(n_known))[:, None] * np.ones((1, 3)), 5, elements=())
    assert np.all(np.isfinite(distances(domain, np.zeros((2, 3)))))


def test_known_rows_are_inside_at_the_edge_and_outside_in_fixed_shares():
    known = np.random.default_rng(0).normal(size=(1000, 8))
    domain = Domain.fit(known, 5, elements=())
    own = domain.among_known(5).distances.mean(axis=1)
    words = [domain.applicability(distance) for distance in own]
    shares = [words.count(word) / 1000 for word in Applicability]
    assert shares == pytest.approx([0.85, 0.125, 0.025], abs=0.002)


def test_what_has_an_element_nobody_knows_is_outside_however_near():
    domain = Domain.fit(np.random.default_rng(0).normal(size=(50, 3)), 5, elements=(8, 12))
    assert domain.strangers([8, 8, 26, 12]) == (26,)
    assert domain.applicability(0.1) == Applicability.INSIDE
    assert domain.applicability(0.1, strangers=True) == Applicability.OUTSIDE


def test_a_known_row_is_not_its_own_neighbour():
    domain = Domain.fit(np.random.default_rng(0).normal(size=(40, 3)), 5, elements=())
    near = domain.among_known(5)
    assert not np.any(near.indices == np.arange(40)[:, None])
    assert np.all(np.diff(near.distances, axis=1) >= 0)


def test_rounding_noise_among_the_known_is_not_the_yardstick_for_others():
    generator = np.random.default_rng(0)
    known = generator.normal(size=(30, 2))
    known[:, 1] *= 1e-4
    domain = Domain.fit(known, 5, elements=())
    near, far = distances(domain, np.array([[0.0, 1e-3], [0.0, 1.0]]))
    assert near < 1.0
    assert 2.0 < far < 200.0
