"""Merging parameter vectors."""

import numpy as np
import pytest

from moma_cl.composition import merge as module
from moma_cl.composition.merge import merge
from moma_store.errors import InvalidInputError


def test_one_vector_at_weight_one_comes_back_bit_for_bit():
    bits = np.random.default_rng(0).integers(0, 2**32, size=1000, dtype=np.uint32)
    bits[:3] = [0x80000000, 0x7FC12345, 0xFFFFFFFF]  # -0, and NaNs with payloads
    vector = bits.view(np.float32)
    merged = merge([(1.0, vector)])
    assert np.array_equal(merged.view(np.uint32), bits)
    assert merged is not vector


def test_merging_is_the_weighted_mean(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    vectors = np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)
    merged = merge(zip([0.5, 0.3, 0.2], vectors, strict=True))
    assert merged.dtype == np.float32
    assert np.allclose(merged, [0.5, 0.3, 0.2] @ vectors.astype(float), atol=1e-6)


def test_vectors_are_not_changed():
    vector = np.ones(5, np.float32)
    merge([(0.5, vector), (0.5, vector)])
    assert vector.tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("weighted", "said"),
    [
        ([], "nothing to merge"),
        ([(0.5, np.ones(3, np.float32)), (0.5, np.ones(4, np.float32))], "different backbones"),
        ([(0.5, np.ones(3, np.float32)), (0.4, np.ones(3, np.float32))], "sum to 0.9"),
    ],
)
def test_what_cannot_be_merged_is_refused(weighted, said):
    with pytest.raises(InvalidInputError, match=said):
        merge(weighted)
