"""Readouts: what a module says of its own property."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

from moma_cl.learning.readout import (
    NETWORKS,
    RIDGES,
    LinearReadouts,
    Readout,
    _SideBySide,
    fit_readout,
    linear_readout,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def embeddings(generator):
    return generator.normal(3.0, 2.0, (400, 40)).astype(np.float32)


def bent(embeddings):
    first, second = (embeddings[:, column].astype(np.float64) - 3.0 for column in (0, 1))
    return np.abs(first) + 0.5 * second


def test_a_linear_readout_tells_the_property_of_unseen_rows(embeddings):
    targets = embeddings[:, :3].astype(np.float64) @ [1.0, -2.0, 0.5] + 0.7
    readout = fit_readout(embeddings[:250], targets[:250], 250)
    assert np.abs(readout.predict(embeddings[250:]) - targets[250:]).max() < 1e-3
    (stored,) = readout.to_arrays().values()
    assert stored.shape == (41,)


@pytest.mark.parametrize("n_features", [5, 60], ids=["fewer", "more"])
def test_with_fewer_or_more_features_than_rows_it_is_the_ridge_with_the_least_error(
    generator, n_features
):
    rows = generator.normal(size=(20, n_features)).astype(np.float32)
    targets = rows[:, 0] - rows[:, 1] + 0.3 * generator.normal(size=20)
    scaled = StandardScaler().fit_transform(rows.astype(np.float64))
    ridges = [Ridge(alpha=20 * ridge) for ridge in RIDGES]
    errors = [
        np.abs(cross_val_predict(one, scaled, targets, cv=LeaveOneOut()) - targets).mean()
        for one in ridges
    ]
    best = ridges[int(np.argmin(errors))].fit(scaled, targets)
    readout = fit_readout(rows, targets, len(rows))
    assert readout.predict(rows) == pytest.approx(best.predict(scaled), abs=1e-3)


def test_a_linear_readout_of_noise_says_little(generator):
    embeddings = generator.normal(size=(100, 400)).astype(np.float32)
    readout = fit_readout(embeddings[:80], generator.normal(size=80), 80)
    # interpolating the noise would give predictions as large as the noise
    assert readout.predict(embeddings[80:]).std() < 0.5


def test_a_network_stays_where_it_errs_less(embeddings):
    few = embeddings[:, :4].copy()
    linear, network = (
        fit_readout(few[:350], bent(few)[:350], n_train)
        for n_train in (350, 300)  # without rows that decide, it is linear
    )
    assert len(network.layers) == 3
    errors = [np.abs(one.predict(few[350:]) - bent(few)[350:]).mean() for one in (linear, network)]
    assert errors[1] < 0.5 * errors[0]


def test_a_linear_readout_stays_where_it_errs_less(embeddings):
    targets = embeddings[:, :20].astype(np.float64).sum(axis=1)
    readout = fit_readout(embeddings, targets, 350)
    assert len(readout.layers) == 1
    assert np.abs(readout.predict(embeddings) - targets).max() < 1e-2


@pytest.mark.parametrize("n_train", [400, 350])
def test_a_stored_readout_says_the_same(embeddings, n_train):
    readout = fit_readout(embeddings, bent(embeddings), n_train)
    again = Readout.from_arrays(readout.to_arrays())
    assert again is not None
    np.testing.assert_allclose(again.predict(embeddings), readout.predict(embeddings), atol=2e-5)
    third = Readout.from_arrays(again.to_arrays())
    assert third is not None
    np.testing.assert_allclose(third.predict(embeddings), again.predict(embeddings), atol=2e-5)


def test_the_same_rows_give_the_same_bits(embeddings):
    first, second = (fit_readout(embeddings, bent(embeddings), 350).to_arrays() for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_what_a_network_says_does_not_depend_on_who_asks_beside(embeddings):
    readout = fit_readout(embeddings, bent(embeddings), 350)
    alone = np.concatenate([readout.predict(embeddings[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, readout.predict(embeddings)[:20], rtol=1e-12)


def test_networks_side_by_side_are_one_network_that_answers_their_mean(generator):
    networks = _SideBySide(6)
    features = generator.normal(size=(20, 6)).astype(np.float32)
    with torch.no_grad():
        each = networks(torch.from_numpy(features)).numpy()
    assert each.shape == (NETWORKS, 20)
    assert np.ptp(each, axis=0).min() > 0  # they differ
    layers = tuple((layer[:, :-1], layer[:, -1]) for layer in networks.joined())
    one = Readout(centre=np.zeros(6), spread=np.ones(6), layers=layers)
    np.testing.assert_allclose(one.predict(features), each.mean(axis=0), atol=2e-3)


def test_networks_read_some_columns_alone_where_the_others_mislead(generator):
    embeddings = generator.normal(size=(400, 300)).astype(np.float32)
    targets = np.abs(embeddings[:, 0].astype(np.float64)) + 0.5 * embeddings[:, 1]
    alone = fit_readout(embeddings[:300], targets[:300], 200, columns=np.array([0, 1]))
    weights, _ = alone.layers[0]
    assert not weights[:, 2:].any()
    every = fit_readout(embeddings[:300], targets[:300], 200)
    errors = [
        np.abs(one.predict(embeddings[300:]) - targets[300:]).mean() for one in (alone, every)
    ]
    assert errors[0] < 0.5 * errors[1]


def test_a_module_without_a_readout_says_nothing():
    assert Readout.from_arrays({"parameters": np.zeros(3)}) is None


def test_readouts_of_several_properties_say_what_each_alone_says(embeddings):
    targets = [embeddings[:, column].astype(np.float64) + column for column in range(3)]
    each = [linear_readout(embeddings[:250], values[:250]) for values in targets]
    stored = LinearReadouts.of(each).to_array()
    together = LinearReadouts.from_array(stored)
    assert (stored.shape, stored.dtype) == ((3, 41), np.float32)
    assert together.to_array().tolist() == stored.tolist()
    predicted = together.predict(embeddings[250:])
    for column, readout in enumerate(each):
        assert np.abs(predicted[:, column] - readout.predict(embeddings[250:])).max() < 1e-4
        assert np.abs(predicted[:, column] - targets[column][250:]).max() < 1e-3
