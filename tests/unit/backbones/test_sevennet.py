import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sevennet_exactness import differences, our_answers, package_answers
from benchmarks.sevennet_package import Package
from moma_cl.backbones.sevennet import weights
from moma_cl.backbones.sevennet.backbone import SevenNet0Backbone, SevenNetL3i5Backbone
from moma_cl.backbones.sevennet.convolution import Edges, Rows, convolve, plain_convolve
from moma_cl.backbones.sevennet.paths import layer_paths
from moma_cl.backbones.symmetry import symmetrise
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import example_crystals, supercell
from moma_store.errors import BackboneError
from tests.helpers.symmetric_crystals import molybdenum_disulfide, quartz

BACKBONES = [SevenNet0Backbone, SevenNetL3i5Backbone]
CRYSTALS = [
    *example_crystals().values(),
    quartz(),
    molybdenum_disulfide(),
    supercell(quartz(), (1, 1, 2)),
]


@pytest.mark.filterwarnings("ignore")  # the package's own
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_features_energies_and_gradients_are_those_of_the_package(backbone, dtype, bound):
    package = Package(backbone, dtype)
    symmetric = [symmetrise(crystal) for crystal in CRYSTALS]
    expected = package_answers(package, symmetric)
    found = our_answers(backbone, CRYSTALS, symmetric, package)
    assert differences(found, expected).max() < bound


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_same_bits_whenever_it_is_run(backbone):
    batch = collate([backbone.to_graph(crystal) for crystal in CRYSTALS])
    found = []
    for _ in range(2):
        encoder = backbone.pretrained()
        blocks = encoder(batch)
        sum(block.square().sum() for block in blocks).backward()
        found.append([*blocks, *(parameter.grad for parameter in encoder.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_empty_encoder_needs_no_package(backbone, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    weights.checkpoint.cache_clear()
    backbone.empty()
    with pytest.raises(BackboneError, match="not installed; install sevenn"):
        backbone.pretrained()
    weights.checkpoint.cache_clear()


def test_another_checkpoint_is_refused(monkeypatch):
    file, _ = SevenNet0Backbone.checkpoint_file
    digest = hashlib.sha256(b"another").hexdigest()
    monkeypatch.setattr(SevenNet0Backbone, "checkpoint_file", (file, digest))
    with pytest.raises(BackboneError, match=f"has SHA-256 .* expected {digest}"):
        SevenNet0Backbone.pretrained()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_dense_cells_are_counted_before_their_graph_is_built(backbone):
    cell = example_crystals()["rock salt"]
    dense = replace(supercell(cell, (2, 2, 2)), lattice=cell.lattice / 2)
    enough = 20_000
    assert backbone.graph_size(cell, enough) <= enough < backbone.graph_size(dense, enough)
    graph = backbone.to_graph(dense, quotient=False)
    assert backbone.graph_size(dense, enough) >= graph.num_edges


def random_layer(seed, degree):
    """A layer, and edges between nodes of which some have fewer rows, or none."""
    rng = np.random.default_rng(seed)
    channels = (32, 16, 16, 16)[: degree + 1]
    paths = layer_paths(channels, degree, degree)
    n_nodes, n_edges, n_lengths = 6, 17, 5
    counts = np.stack([rng.integers(0, 2 * n + 2, n_nodes) for n in range(degree + 1)], axis=1)
    rows = Rows.of(torch.from_numpy(counts))
    index = np.stack(
        [rng.integers(0, n_nodes, n_edges), np.sort(rng.integers(0, n_nodes, n_edges))]
    )
    index = np.vstack([index, rng.integers(0, n_lengths, n_edges)])
    n_values = sum(
        counts[source, path.source] * counts[target, path.target]
        for source, target, _ in index.T
        for path in paths.blocks
    )
    edges = Edges(
        index=torch.from_numpy(index), tensors=torch.from_numpy(rng.normal(size=n_values))
    )
    features = [
        torch.from_numpy(rng.normal(size=(len(owners), width)))
        for owners, width in zip(rows.owners, channels, strict=True)
    ]
    return (
        paths,
        rows,
        edges,
        torch.from_numpy(rng.normal(size=(n_lengths, paths.n_weights))),
        features,
    )


@given(seed=st.integers(0, 10**6), degree=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_the_kernel_is_its_formula(seed, degree):
    paths, rows, edges, weight, features = random_layer(seed, degree)
    answers = []
    for step in (convolve, plain_convolve):
        inputs = [tensor.clone().requires_grad_() for tensor in (weight, *features)]
        messages = step(paths, rows, edges, inputs[0], inputs[1:])
        total = sum((message * message.detach().cos()).sum() for message in messages)
        gradients = torch.autograd.grad(total, inputs, allow_unused=True)
        answers.append((messages, gradients))
    for ours, plain in zip(*answers[0:2], strict=True):
        for one, other in zip(ours, plain, strict=True):
            expected = torch.zeros_like(one) if other is None else other
            assert torch.allclose(one, expected, rtol=1e-12, atol=1e-12)


def test_rows_that_are_not_contiguous_are_no_trap():
    paths, rows, edges, weight, features = random_layer(0, 2)
    strided = torch.stack([weight, weight], dim=2)[:, :, 0]
    expected = convolve(paths, rows, edges, weight, features)
    for one, other in zip(convolve(paths, rows, edges, strided, features), expected, strict=True):
        assert torch.equal(one, other)
