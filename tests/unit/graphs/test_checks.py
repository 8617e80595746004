"""Graphs that would not fit in memory, or that the backbone cannot build, are the status of a row."""

import json

import numpy as np
import pytest

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs import prefetch
from moma_cl.graphs.batching import load_of
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.checks import MAX_GRAPH_SIZE, check_graph_size, check_graphs, graphs_or_errors
from moma_cl.graphs.prefetch import with_graphs, with_graphs_of
from moma_cl.hub import Hub
from moma_cl.structures.checks import RowError
from moma_cl.testing.crystals import crystal_of, example_crystals, supercell
from tests.helpers.hubs import add_task, make_hub

FEW = list(example_crystals().values())


def grid(count, spacing, noise=0.0):
    """A cubic cell of hydrogen atoms."""
    sites = np.stack(np.meshgrid(*[np.arange(count)] * 3), axis=-1).reshape(-1, 3) / count
    sites = sites + np.random.default_rng(0).normal(scale=noise, size=sites.shape)
    return crystal_of(count * spacing * np.eye(3), np.ones(count**3), sites)


@pytest.mark.parametrize(
    "crystal", [*FEW, grid(3, 1.5, 0.02), grid(2, 0.9), supercell(FEW[1], (3, 2, 2))]
)
def test_the_size_of_a_graph_is_known_before_it_is_built(crystal):
    graph = CHGNetBackbone.to_graph(crystal, quotient=False)
    exact = graph.edge_index.shape[1] + graph.angle.shape[0]
    assert CHGNetBackbone.graph_size(crystal, exact - 1) == exact
    assert CHGNetBackbone.graph_size(crystal, exact) <= exact
    enough = exact // 2
    assert CHGNetBackbone.graph_size(crystal, enough) > enough


@pytest.mark.parametrize("crystal", [grid(6, 0.8), grid(10, 0.8), grid(4, 0.8), grid(5, 0.9, 0.01)])
def test_a_dense_cell_is_refused_before_its_graph_is_built(crystal):
    size = CHGNetBackbone.graph_size(crystal, MAX_GRAPH_SIZE)
    error = check_graph_size(crystal, size)
    assert error.code == "graph-too-large"
    assert "Å³ per atom" in error.message


def test_a_dense_cluster_in_an_empty_cell_is_refused():
    cluster = grid(6, 0.8)
    places = cluster.frac_coords @ cluster.lattice
    crystal = crystal_of(40 * np.eye(3), cluster.atomic_numbers, places / 40)
    assert CHGNetBackbone.graph_size(crystal, MAX_GRAPH_SIZE) > MAX_GRAPH_SIZE


def test_large_cells_of_metals_and_oxides_are_not_refused():
    copper = crystal_of(
        3.61 * np.eye(3), [29] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    for crystal, repeats in ((copper, (6, 6, 6)), (FEW[0], (5, 5, 5)), (FEW[2], (5, 5, 7))):
        size = CHGNetBackbone.graph_size(supercell(crystal, repeats), MAX_GRAPH_SIZE)
        assert size <= MAX_GRAPH_SIZE


def test_dense_graphs_fill_a_batch_as_their_angles_do():
    sparse, dense = (CHGNetBackbone.to_graph(c, quotient=False) for c in (FEW[0], grid(4, 1.2)))
    assert load_of(sparse) == sparse.num_edges
    assert load_of(dense) == max(dense.num_edges, dense.angle.shape[0] // 16)


@pytest.fixture
def failing(monkeypatch):
    """A backbone that fails for the third of the examples."""
    build = CGCNNBackbone.to_graph.__func__

    def to_graph(cls, crystal, **options):
        if len(crystal.atomic_numbers) == 5:
            raise MemoryError("too much")
        return build(cls, crystal, **options)

    monkeypatch.setattr(CGCNNBackbone, "to_graph", classmethod(to_graph))
    return CGCNNBackbone


def kinds(graphs):
    return [graph.code if isinstance(graph, RowError) else None for graph in graphs]


def test_a_graph_that_cannot_be_built_costs_no_other(failing, tmp_path, monkeypatch):
    expected = [None, None, "graph-failed", None]
    assert kinds(graphs_or_errors(FEW, failing)) == expected
    assert "MemoryError: too much" in graphs_or_errors(FEW, failing)[2].message
    assert kinds(check_graphs(FEW, [failing])) == expected
    with ByteCache(tmp_path / "cache") as cache:
        assert kinds(check_graphs(FEW, [failing], cache)) == expected
    monkeypatch.setattr(prefetch, "n_cores", lambda: 2)
    monkeypatch.setattr(prefetch, "_ALONE", 1)
    chunks = [(number, FEW) for number in range(4)]
    assert [kinds(graphs) for _, graphs in with_graphs(chunks, failing)] == [expected] * 4


@pytest.mark.parametrize("failing_first", [False, True])
def test_a_graph_that_one_backbone_cannot_build_costs_its_row_only(
    failing, tmp_path, failing_first
):
    backbones = [failing, CHGNetBackbone] if failing_first else [CHGNetBackbone, failing]
    expected, told = [None, None, "graph-failed", None], []
    with ByteCache(tmp_path / "cache") as cache:
        for kept in (None, cache):
            assert kinds(check_graphs(FEW, backbones, kept, told.append)) == expected
    assert told == sorted(told[: len(told) // 2]) + sorted(told[len(told) // 2 :])
    assert 0 < told[-1] <= len(FEW) * len(backbones)
    chunks = [(number, FEW) for number in range(3)]
    built = list(with_graphs_of(chunks, backbones))
    assert [number for number, _ in built] == [0, 1, 2]
    for _, graphs in built:
        assert list(graphs) == [backbone.name for backbone in backbones]
        assert kinds(graphs["cgcnn"]) == expected
        assert kinds(graphs["chgnet"]) == [None] * 4


def row(crystal, **columns):
    from moma_cl.structures.elements import SYMBOLS

    return {
        "structure": {
            "lattice": crystal.lattice.tolist(),
            "species": [SYMBOLS[number] for number in crystal.atomic_numbers],
            "frac_coords": crystal.frac_coords.tolist(),
        },
        **columns,
    }


def test_a_run_goes_on_where_a_graph_cannot_be_built(tmp_path, made_up, request):
    hub = make_hub(tmp_path / "hub")
    request.getfixturevalue("failing")
    rows = [*made_up(12), row(FEW[2], id="bad", gap=1.0)]
    add_task(hub, "gap", rows, unit="eV", compose=False)
    path = tmp_path / "ask.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    statuses = [answer.status for answer in Hub(hub).iter_predictions("gap", [path])]
    assert statuses == ["ok"] * 12 + ["graph-failed"]
    dry = Hub(hub).add_data("gap", [path], dry_run=True)
    assert [refusal.code for refusal in dry.refusals] == ["graph-failed"]
