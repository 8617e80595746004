"""Gradient training."""

import math

import numpy as np
import pytest
import torch

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.head import Head
from moma_cl.learning.training import TrainingError, TrainingSet, predict_graphs, train
from moma_cl.readers.structure_json import structure_from_document
from moma_cl.recipe import TrainingSettings

SETTINGS = TrainingSettings(epochs=30, batch_size=8, patience=30)


@pytest.fixture(scope="module")
def data(made_up):
    rows = made_up(60)
    crystals = [structure_from_document(row["structure"]) for row in rows]
    targets = np.array([row["energy"] for row in rows])
    return TrainingSet(
        graphs=graphs_of(crystals, CGCNNBackbone),
        targets=(targets - targets.mean()) / targets.std(),
        train=np.arange(0, 45),
        validation=np.arange(45, 60),
    )


def fresh(kind="full"):
    encoder = CGCNNBackbone.pretrained()
    if kind == "adapter":
        encoder.add_adapters(4)
    return encoder, Head(encoder.feature_dim, encoder.n_blocks, 16, seed=0)


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_training_learns_what_the_validation_rows_confirm(data, kind):
    encoder, head = fresh(kind)
    report = train(encoder, head, data, SETTINGS)
    answers = predict_graphs(encoder, head, [data.graphs[row] for row in data.validation])
    error = np.abs(answers - data.targets[data.validation]).mean()
    assert error == pytest.approx(report.validation_mae)  # the best epoch was kept
    assert error < 0.5 * np.abs(data.targets[data.validation]).mean()


def test_an_adapter_training_leaves_the_backbone_as_it_was(data):
    encoder, head = fresh("adapter")
    before = {n: p.clone() for n, p in encoder.named_parameters() if "adapters" not in n}
    train(encoder, head, data, TrainingSettings(epochs=2, batch_size=16))
    after = dict(encoder.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_same_training_gives_the_same_bits_whatever_the_global_generator(data):
    vectors = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        encoder, head = fresh()
        train(encoder, head, data, TrainingSettings(epochs=2, batch_size=16))
        vectors.append(torch.nn.utils.parameters_to_vector(encoder.parameters()))
    assert torch.equal(*vectors)


def test_a_backbone_multiplies_the_rate_of_its_encoders_and_no_other(data, monkeypatch):
    def trained(factor, rate, *, adapters):
        monkeypatch.setattr(CGCNNBackbone, "learning_rate_factor", factor)
        encoder, head = fresh("adapter" if adapters else "full")
        settings = TrainingSettings(epochs=1, batch_size=16, encoder_learning_rate=rate)
        train(encoder, head, data, settings)
        return torch.nn.utils.parameters_to_vector(encoder.parameters())

    for adapters in (False, True):
        before, at_three_times = (trained(f, 1e-3, adapters=adapters) for f in (1.0, 3.0))
        assert torch.equal(at_three_times, trained(1.0, 3e-3, adapters=adapters))
        assert torch.equal(before, at_three_times) == adapters


def test_training_stops_when_validation_no_longer_gets_better(data):
    encoder, head = fresh()
    settings = TrainingSettings(epochs=50, batch_size=16, patience=2, encoder_learning_rate=0.2)
    report = train(encoder, head, data, settings)
    assert report.epochs == report.best_epoch + 2 < 50


def test_large_datasets_get_fewer_epochs(data):
    encoder, head = fresh()
    settings = TrainingSettings(epochs=50, batch_size=15, max_steps=9, patience=50)
    assert train(encoder, head, data, settings).epochs == 3


def test_a_loss_that_is_not_finite_is_an_error(data):
    encoder, head = fresh()
    broken = TrainingSet(
        graphs=data.graphs,
        targets=np.full(60, np.inf),
        train=data.train,
        validation=data.validation,
    )
    with pytest.raises(TrainingError, match="loss became inf at step 0"):
        train(encoder, head, broken, SETTINGS)


def test_parameters_that_do_not_move_are_an_error(data):
    encoder, head = fresh()
    still = TrainingSettings(
        epochs=2, encoder_learning_rate=0.0, head_learning_rate=0.0, weight_decay=0.0
    )
    with pytest.raises(TrainingError, match="no parameter moved"):
        train(encoder, head, data, still)


def test_an_empty_fold_is_an_error(data):
    encoder, head = fresh()
    nothing = TrainingSet(
        graphs=data.graphs,
        targets=data.targets,
        train=data.train,
        validation=np.zeros(0, np.int64),
    )
    with pytest.raises(TrainingError, match="stop on 0"):
        train(encoder, head, nothing, SETTINGS)


def test_progress_is_told_of_every_step(data):
    told = []
    encoder, head = fresh()
    train(
        encoder,
        head,
        data,
        TrainingSettings(epochs=2, batch_size=16),
        progress=lambda done, total: told.append((done, total)),
    )
    steps = 2 * math.ceil(len(data.train) / 16)
    assert told == [(step, steps) for step in range(1, steps + 1)]
