import json

import numpy as np
import pytest
import torch

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.parameters import (
    ParameterManifest,
    load_vector,
    manifest_of,
    rounded,
    to_vector,
)
from moma_cl.records.records import ModuleKind
from moma_store.codecs import to_ordered
from moma_store.errors import BackboneError


@pytest.fixture
def backbone():
    return CGCNNBackbone.pretrained()


@pytest.fixture
def manifest(backbone):
    return manifest_of(backbone, ModuleKind.FULL)


def test_offsets_delimit_each_tensor(backbone, manifest):
    vector = to_vector(backbone, manifest)
    state = backbone.state_dict()
    for i, name in enumerate(manifest.names):
        piece = vector[manifest.offsets[i] : manifest.offsets[i + 1]]
        assert np.array_equal(piece, state[name].numpy().ravel())
    assert manifest.offsets[-1] == manifest.size == len(vector)


def test_a_manifest_survives_json(manifest):
    document = json.loads(json.dumps(manifest.to_json()))
    assert ParameterManifest.from_json(document) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": [0, 1]},
        {"names": ["a"]},
        {"shapes": 3},
        {"shapes": [["x"]]},
    ],
)
def test_a_damaged_manifest_is_refused(manifest, change):
    with pytest.raises(BackboneError):
        ParameterManifest.from_json(manifest.to_json() | change)


def test_a_manifest_without_offsets_is_refused():
    with pytest.raises(BackboneError, match="not a manifest"):
        ParameterManifest.from_json({"names": [], "shapes": []})


def test_every_bit_pattern_survives(backbone, manifest):
    patterns = np.random.default_rng(0).integers(0, 2**32, manifest.size, dtype=np.uint32)
    vector = patterns.view(np.float32)
    load_vector(backbone, vector, manifest)
    assert np.array_equal(to_vector(backbone, manifest).view(np.uint32), patterns)


def test_the_vector_is_a_copy(backbone, manifest):
    vector = to_vector(backbone, manifest)
    with torch.no_grad():
        next(backbone.parameters()).zero_()
    assert vector[: manifest.sizes[0]].any()


def test_a_read_only_vector_can_be_loaded(backbone, manifest):
    vector = to_vector(backbone, manifest)
    vector.setflags(write=False)
    load_vector(backbone, vector, manifest)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_another_precision_is_refused(backbone, manifest, dtype):
    with pytest.raises(BackboneError, match="float32"):
        load_vector(backbone, np.zeros(manifest.size, dtype=dtype), manifest)


def test_another_length_is_refused(backbone, manifest):
    with pytest.raises(BackboneError, match="belongs to another backbone"):
        load_vector(backbone, np.zeros(manifest.size - 1, dtype=np.float32), manifest)


def test_another_order_of_tensors_is_refused(backbone, manifest):
    reordered = ParameterManifest(names=manifest.names[::-1], shapes=manifest.shapes[::-1])
    with pytest.raises(BackboneError, match=r"got convolutions.*expected embedding.weight"):
        load_vector(backbone, to_vector(backbone, manifest), reordered)


def test_missing_tensors_are_refused(backbone, manifest):
    shorter = ParameterManifest(names=manifest.names[:-1], shapes=manifest.shapes[:-1])
    with pytest.raises(BackboneError, match="got nothing"):
        to_vector(backbone, shorter)


def test_full_and_adapter_parameters_do_not_overlap(backbone, manifest):
    backbone.add_adapters(4)
    adapters = manifest_of(backbone, ModuleKind.ADAPTER)
    assert manifest_of(backbone, ModuleKind.FULL) == manifest
    assert not set(adapters.names) & set(manifest.names)
    assert adapters.size == backbone.n_blocks * (2 * 4 * 64 + 4 + 64)


@pytest.mark.parametrize("kind", [ModuleKind.ADAPTER, ModuleKind.NONE])
def test_parameters_of_a_kind_that_is_not_there_are_an_error(backbone, kind):
    with pytest.raises(BackboneError, match=f"no parameters of kind '{kind}'"):
        manifest_of(backbone, kind)


def test_adapters_start_from_the_same_parameters_whatever_was_drawn_before():
    vectors = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        backbone = CGCNNBackbone.empty()
        backbone.add_adapters(4)
        vectors.append(to_vector(backbone, manifest_of(backbone, ModuleKind.ADAPTER)))
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_rounded_parameters_are_close_and_end_in_the_base_s_bits():
    generator = np.random.default_rng(0)
    base = generator.normal(size=5000).astype(np.float32)
    trained = (base * (1 + 0.05 * generator.normal(size=5000))).astype(np.float32)
    trained[:10] = base[:10]
    result = rounded(trained, base, 8)
    assert np.array_equal(result[:10], base[:10])
    assert np.abs(result / trained - 1).max() < 2**-15
    assert np.all((to_ordered(result) - to_ordered(base)) % 256 == 0)
    assert np.array_equal(rounded(trained, base, 0), trained)
    assert np.array_equal(rounded(result, base, 8), result)


def test_rounding_never_leaves_the_finite_numbers():
    largest = np.full(3, np.finfo(np.float32).max, np.float32)
    assert np.isfinite(rounded(largest, np.array([1.0, -1.0, 0.0], np.float32), 16)).all()
