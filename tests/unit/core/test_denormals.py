import pytest
import torch

from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.core.denormals import without_denormals
from moma_cl.learning.embedding import embed
from moma_cl.recipe import EmbeddingSettings
from moma_cl.testing.crystals import example_crystals


def smallest():
    return float(torch.tensor(1e-30) * torch.tensor(1e-10))


@pytest.fixture(autouse=True)
def _as_torch_starts():
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def test_holds_as_long_as_it_is_asked_for():
    assert smallest() > 0.0
    with without_denormals():
        assert smallest() == 0.0
    assert smallest() > 0.0


def test_leaves_alone_what_held_before():
    with without_denormals():
        with without_denormals():
            pass
        assert smallest() == 0.0


def test_ends_with_an_error():
    with pytest.raises(ValueError, match="why"), without_denormals():
        raise ValueError("why")
    assert smallest() > 0.0


def test_embeddings_have_the_same_bits():
    encoder = CHGNetBackbone.pretrained()
    graphs = [encoder.to_graph(crystal) for crystal in example_crystals().values()]
    fast = embed(encoder, graphs, EmbeddingSettings())
    slow = embed.__wrapped__(encoder, graphs, EmbeddingSettings())
    assert fast.tobytes() == slow.tobytes()
