"""Merging parameter vectors."""

import numpy as np
import pytest

from moma_cl.learning import merge as module
from moma_cl.learning.merge import merge
from moma_store.errors import InvalidInputError
from tests.helpers.stores import new_store


def test_one_vector_at_weight_one_comes_back_bit_for_bit():
    bits = np.random.default_rng(0).integers(0, 2**32, size=1000, dtype=np.uint32)
    bits[:3] = [0x80000000, 0x7FC12345, 0xFFFFFFFF]  # -0, and NaNs with payloads
    vector = bits.view(np.float32)
    merged = merge(1000, [(1.0, [vector[:300], vector[300:]])])
    assert np.array_equal(merged.view(np.uint32), bits)
    assert merged is not vector


def test_merging_is_the_weighted_mean(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    vectors = np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)
    merged = merge(50, zip([0.5, 0.3, 0.2], [[v[:20], v[20:]] for v in vectors], strict=True))
    assert merged.dtype == np.float32
    assert np.allclose(merged, [0.5, 0.3, 0.2] @ vectors.astype(float), atol=1e-6)


def test_vectors_are_not_changed():
    vector = np.ones(5, np.float32)
    merge(5, [(0.5, [vector]), (0.5, [vector])])
    assert vector.tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("weighted", "said"),
    [
        ([], "nothing to merge"),
        ([(0.5, [np.ones(3, np.float32)]), (0.5, [np.ones(4, np.float32)])], "different backbones"),
        ([(0.5, [np.ones(3, np.float32)]), (0.4, [np.ones(3, np.float32)])], "sum to 0.9"),
    ],
)
def test_what_cannot_be_merged_is_refused(weighted, said):
    with pytest.raises(InvalidInputError, match=said):
        merge(3, weighted)


def test_vectors_merge_out_of_the_store_as_they_do_out_of_memory(tmp_path):
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(3, 3_000_000)).astype(np.float32)
    vectors[0][:3] = [np.nan, -0.0, np.inf]
    weights = [0.2, 0.3, 0.5]
    with new_store(tmp_path / "hub") as store:
        links = [store.put_blob({"p": vector}, {}) for vector in vectors]
        streams = [store.blob_pieces(link, "p") for link in links]
        merged = merge(vectors.shape[1], zip(weights, streams, strict=True))
    whole = merge(vectors.shape[1], zip(weights, ([v] for v in vectors), strict=True))
    assert np.array_equal(merged.view(np.uint32), whole.view(np.uint32))
