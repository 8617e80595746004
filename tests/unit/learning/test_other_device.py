"""Training, embedding and predicting off the CPU: nothing is copied in silence, by any backbone."""

import numpy as np
import pytest
import torch

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.sevennet.backbone import SevenNet0Backbone, SevenNetL3i5Backbone
from moma_cl.graphs.batching import collate_for
from moma_cl.learning.embedding import embed
from moma_cl.learning.head import Head, head_vector, load_head_vector
from moma_cl.learning.training import TrainingSet, predict_graphs, train
from moma_cl.recipe import EmbeddingSettings, TrainingSettings
from moma_cl.testing.crystals import example_crystals, isolated_atom
from moma_cl.testing.other_device import SilentCopyError, other_device

BACKBONES = [CGCNNBackbone, CHGNetBackbone, SevenNet0Backbone, SevenNetL3i5Backbone]
CPU = torch.device("cpu")


def graphs_of(backbone):
    return backbone.to_graphs([*example_crystals().values(), isolated_atom()])


def learner(backbone, device, kind="full"):
    encoder = backbone.pretrained()
    if kind == "adapter":
        encoder.add_adapters(4)
    head = Head(encoder.feature_dim, encoder.n_blocks, 8, seed=0)
    return encoder.to(device), head.to(device)


def assert_close(got, expected):
    assert np.abs(got - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_training_and_predicting_give_on_another_device_what_they_give_on_the_cpu(backbone, kind):
    graphs = graphs_of(backbone)
    data = TrainingSet(
        graphs=graphs,
        targets=np.array([0.5, -1.0, 0.2, 1.0, -0.7]),
        train=np.arange(4),
        validation=np.array([4]),
    )
    settings = TrainingSettings(epochs=2, batch_size=3, patience=2)

    def trained(device):
        encoder, head = learner(backbone, device, kind)
        report = train(encoder, head, data, settings)
        return report.validation_mae, predict_graphs(encoder, head, graphs), head_vector(head)

    with other_device() as device:
        there = trained(device)
    here = trained(CPU)
    assert there[0] == pytest.approx(here[0], rel=2e-4)
    for got, expected in zip(there[1:], here[1:], strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_embeddings_of_another_device_are_those_of_the_cpu(backbone):
    graphs, settings = graphs_of(backbone), EmbeddingSettings()
    with other_device() as device:
        there = embed(backbone.pretrained().to(device), graphs, settings)
    assert_close(there, embed(backbone.pretrained(), graphs, settings))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_number_of_double_precision_is_moved(backbone):
    """Apple's GPUs have none."""
    with other_device() as device:
        batch = collate_for(backbone.pretrained().to(device), graphs_of(backbone))
        tensors = [value for _, value in batch if isinstance(value, torch.Tensor)]
        assert {value.device.type for value in tensors} == {device.type}
        assert {v.dtype for v in tensors if v.is_floating_point()} == {torch.float32}


def test_a_head_is_filled_where_it_is():
    source, head = Head(6, 2, 4, seed=0), Head(6, 2, 4, seed=1)
    with other_device() as device:
        load_head_vector(head.to(device), head_vector(source))
        assert head_vector(head).tobytes() == head_vector(source).tobytes()


@pytest.mark.parametrize(
    "copy",
    [
        lambda here, there: here + there,
        lambda here, there: there[here.long()],
        lambda here, there: there.copy_(here),
        lambda here, there: bool(there.sum() > 0),
        lambda here, there: there.sum().item(),
        lambda here, there: there[there > 0],
        lambda here, there: torch.equal(there, there),
    ],
)
def test_silent_copies_are_refused(copy):
    with other_device() as device:
        there = torch.ones(3).to(device)
        with pytest.raises(SilentCopyError):
            copy(torch.ones(3), there)


@pytest.mark.parametrize("read", [torch.Tensor.numpy, torch.Tensor.tolist])
def test_numbers_of_another_device_are_not_read(read):
    with other_device() as device:
        there = torch.ones(3).to(device)
        with pytest.raises((RuntimeError, TypeError, SilentCopyError)):
            read(there)
        assert read(there.cpu()) is not None
