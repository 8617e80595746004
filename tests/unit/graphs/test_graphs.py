import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch_geometric.data import Batch, Data

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs.batching import batches_by_size, collate
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.codec import decode, encode
from moma_cl.graphs.lookup import graph_key, graphs_of
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_cl.testing.crystals import example_crystals, isolated_atom

BACKBONES = [CHGNetBackbone, CGCNNBackbone]
CRYSTALS = PackedCrystals.pack([*example_crystals().values(), isolated_atom()])


def same(graphs, others):
    return all(type(a) is type(b) and equal(a, b) for a, b in zip(graphs, others, strict=True))


def equal(one, other):
    ours, theirs = one.to_dict(), other.to_dict()
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and torch.equal(value, theirs[name])
        for name, value in ours.items()
    )


@pytest.fixture
def cache(tmp_path):
    with ByteCache(tmp_path / "graphs") as opened:
        yield opened


@pytest.fixture
def counted(monkeypatch):
    """CHGNet, with the number of graphs built."""
    built = []
    original = CHGNetBackbone.to_graphs.__func__

    def to_graphs(cls, crystals):
        built.extend(crystals)
        return original(cls, crystals)

    monkeypatch.setattr(CHGNetBackbone, "to_graphs", classmethod(to_graphs))
    return built


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cached_graphs_are_those_that_were_built(cache, backbone):
    built = graphs_of(CRYSTALS, backbone)
    assert same(graphs_of(CRYSTALS, backbone, cache), built)
    assert same(graphs_of(CRYSTALS, backbone, cache), built)


def test_tensors_of_any_kind_and_shape_are_kept(cache):
    tensors = {
        "flags": torch.tensor([True, False, True]),
        "large": torch.tensor([[1 << 40], [-(1 << 40)]]),
        "small": torch.tensor([[3, -4]]),
        "empty": torch.zeros(2, 0, dtype=torch.int64),
        "bytes": torch.tensor([7, 8, 9], dtype=torch.uint8),
        "one": torch.tensor(2.5, dtype=torch.float64),
        "halves": torch.tensor([0.5], dtype=torch.float16),
    }
    larger = {name: torch.cat([t, t]) if t.dim() else t for name, t in tensors.items()}
    cache.put_many({b"one": encode(tensors), b"two": encode(larger)})
    missing, *found = decode(cache.get_many([b"none", b"one", b"two"]))
    assert missing is None
    for ours, theirs in zip(found, (tensors, larger), strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            assert torch.equal(ours[name], tensor)


def test_what_is_read_may_be_written_to(cache):
    graphs_of(CRYSTALS, CHGNetBackbone, cache)
    for graph in graphs_of(CRYSTALS, CHGNetBackbone, cache):
        graph.bond_length.zero_()
        graph.edge_index.zero_()
    assert same(graphs_of(CRYSTALS, CHGNetBackbone, cache), graphs_of(CRYSTALS, CHGNetBackbone))


def test_a_graph_is_built_once(cache, counted):
    graphs_of(CRYSTALS, CHGNetBackbone, cache)
    graphs_of(CRYSTALS, CHGNetBackbone, cache)
    assert len(counted) == len(CRYSTALS)


def test_the_cache_outlives_the_process(tmp_path, counted):
    for _ in range(2):
        with ByteCache(tmp_path) as cache:
            graphs_of(CRYSTALS, CHGNetBackbone, cache)
    assert len(counted) == len(CRYSTALS)


def test_what_was_written_before_a_failure_is_kept(cache, counted, monkeypatch):
    monkeypatch.setattr("moma_cl.graphs.lookup._AT_ONCE", 2)

    def interrupt(done):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graphs_of(CRYSTALS, CHGNetBackbone, cache, progress=interrupt)
    graphs_of(CRYSTALS, CHGNetBackbone, cache)
    assert len(counted) == len(CRYSTALS)


def test_keys_tell_structures_and_backbones_apart():
    one = example_crystals()["diamond"]
    moved = Crystal(
        lattice=one.lattice, atomic_numbers=one.atomic_numbers, frac_coords=one.frac_coords + 1e-12
    )
    keys = {graph_key(c, b) for c in (*CRYSTALS, moved) for b in BACKBONES}
    assert len(keys) == 2 * (len(CRYSTALS) + 1)


@pytest.mark.parametrize("value", [b"", b"no tensors"])
def test_an_entry_that_is_no_graph_is_built_again(cache, counted, value):
    expected = graphs_of(CRYSTALS, CHGNetBackbone, cache)
    cache.put_many({graph_key(CRYSTALS[0], CHGNetBackbone): value})
    assert same(graphs_of(CRYSTALS, CHGNetBackbone, cache), expected)
    assert len(counted) == len(CRYSTALS) + 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_batch_is_what_torch_geometric_makes(backbone):
    graphs = graphs_of(CRYSTALS, backbone)
    ours, theirs = collate(graphs), Batch.from_data_list(graphs)
    assert ours.num_graphs == theirs.num_graphs == len(graphs)
    assert ours.num_nodes == theirs.num_nodes
    assert isinstance(ours, backbone.graph_class)
    assert same([ours], [theirs])


def test_collating_leaves_the_graphs_untouched():
    graphs = graphs_of(CRYSTALS, CHGNetBackbone)
    collate([graphs[0]] * 3)
    assert same(graphs, graphs_of(CRYSTALS, CHGNetBackbone))


def test_graphs_of_a_plug_in_are_collated_too():
    graphs = [
        Data(x=torch.ones(n, 2), edge_index=torch.zeros(2, 1, dtype=torch.long)) for n in (1, 2)
    ]
    batch = collate(graphs)
    assert batch.edge_index.tolist() == [[0, 1], [0, 1]]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_hold_every_structure_once_within_the_budget(sizes, budget):
    batches = batches_by_size(sizes, budget)
    assert sorted(np.concatenate([*batches, []]).tolist()) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or sum(sizes[i] for i in batch) <= budget


def test_batches_hold_similar_sizes_and_do_not_depend_on_chance():
    sizes = np.array([9, 1, 5, 1, 9, 5])
    batches = batches_by_size(sizes, 10)
    assert [batch.tolist() for batch in batches] == [[1, 3, 2], [5], [0], [4]]
