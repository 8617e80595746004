import gzip
import json
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from moma_cl.backbones import colours
from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.chgnet.graph import BOND_CUTOFF, KINDS, CHGNetGraph, whole_graphs
from moma_cl.backbones.colours import TOLERANCE
from moma_cl.backbones.neighbors import find_neighbors
from moma_cl.backbones.quotient import merge, unmerged
from moma_cl.graphs.batching import collate
from moma_cl.learning.head import node_mean
from moma_cl.testing.crystals import (
    crystal_of,
    example_crystals,
    is_apart,
    isolated_atom,
    supercell,
)
from tests.helpers.symmetric_crystals import symmetric_crystals

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def graphs_of(structure):
    """The graph of a structure before it is merged."""
    return whole_graphs([structure], [find_neighbors(structure, BOND_CUTOFF)])


def triclinic(n_atoms, seed=0):
    """Nothing is like anything else: 20 Å³ an atom, at least 1.5 Å apart."""
    rng = np.random.default_rng(seed)
    lattice = (20.0 * n_atoms) ** (1 / 3) * (np.eye(3) + rng.normal(scale=0.08, size=(3, 3)))
    sites = np.zeros((0, 3))
    while len(sites) < n_atoms:
        candidate = rng.random(3)
        if is_apart(candidate, sites, lattice, 1.5):
            sites = np.vstack([sites, candidate])
    return crystal_of(lattice, rng.integers(1, 90, n_atoms), sites)


def real_crystals(per_file):
    from pymatgen.core import Element

    chosen = []
    for path in sorted(DATA.glob("*/*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            rows = [json.loads(line) for _, line in zip(range(per_file), lines, strict=False)]
        chosen += [
            crystal_of(one["lattice"], [Element(s).Z for s in one["species"]], one["frac_coords"])
            for one in (row["structure"] for row in rows)
        ]
    return chosen


CRYSTALS = {
    **example_crystals(),
    "isolated atom": isolated_atom(),
    "one atom": crystal_of(2.9 * np.eye(3), [84], [[0, 0, 0]]),
    "no angles": crystal_of(4.5 * np.eye(3), [55], [[0, 0, 0]]),
    "two atoms far from a pair": crystal_of(
        20 * np.eye(3), [7, 7, 2], [[0, 0, 0], [0.06, 0, 0], [0.5, 0.5, 0.5]]
    ),
    "supercell": supercell(example_crystals()["perovskite"], (2, 2, 1)),
    "supercell of low symmetry": supercell(example_crystals()["low symmetry"], (2, 1, 1)),
    "triclinic": triclinic(12),
    "inversion": crystal_of(
        triclinic(1).lattice * 1.9, [8, 8, 22], [[0.21, 0.13, 0.32], [-0.21, -0.13, -0.32], [0] * 3]
    ),
}


@pytest.fixture(scope="module")
def encoder():
    return CHGNetBackbone.pretrained().double()


def encoded(encoder, structure):
    """Features of every atom without the quotient, and of every class with it."""
    graphs = graphs_of(structure)
    whole, merged = unmerged(graphs, KINDS), merge(graphs, KINDS)
    return merged, *(encoder(collate([graph_of(division)])) for division in (whole, merged))


def graph_of(division):
    return CHGNetGraph(**division.split(KINDS)[0])


def largest_difference(encoder, structure):
    """Over all atoms and layers, relative to the largest feature."""
    with torch.no_grad():
        merged, whole, classes = encoded(encoder, structure)
    class_of_atom = torch.from_numpy(merged.classes["atoms"])
    restored = [block.index_select(0, class_of_atom) for block in classes]
    return max(
        float((one - other).abs().max() / one.abs().max())
        for one, other in zip(whole, restored, strict=True)
    )


def sizes(structure):
    return {name: int(max(of, default=-1)) + 1 for name, of in classes(structure).items()}


def classes(structure):
    return merge(graphs_of(structure), KINDS).classes


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_atom_has_the_features_it_has_without_the_quotient(encoder, name):
    assert largest_difference(encoder, CRYSTALS[name]) < 1e-6


@settings(deadline=None, max_examples=40)
@given(symmetric_crystals())
def test_features_are_unchanged_in_symmetric_and_nearly_symmetric_crystals(encoder, structure):
    assert largest_difference(encoder, structure) < 1e-5 * (1 + len(structure.atomic_numbers))


@pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the repository")
def test_pooled_features_are_unchanged_in_real_crystals(encoder):
    structures = [one for one in real_crystals(6) if one.n_atoms <= 120]
    ours, theirs = (
        collate([CHGNetBackbone.to_graph(one, quotient=merged) for one in structures])
        for merged in (True, False)
    )
    assert ours.num_nodes < 0.8 * theirs.num_nodes
    with torch.no_grad():
        for one, other in zip(encoder(ours), encoder(theirs), strict=True):
            reference = node_mean(other, theirs)
            difference = (node_mean(one, ours) - reference).abs().max() / reference.abs().max()
            assert float(difference) < 1e-6


def test_gradients_are_those_of_the_full_graph():
    structures = [*CRYSTALS.values()]
    gradients = []
    for merged in (False, True):
        learning = CHGNetBackbone.pretrained().double()
        batch = collate([learning.to_graph(one, quotient=merged) for one in structures])
        pooled = torch.cat([node_mean(block, batch) for block in learning(batch)], dim=1)
        (pooled * torch.linspace(-1, 1, pooled.shape[1], dtype=torch.float64)).sum().backward()
        gradients.append([parameter.grad for parameter in learning.parameters()])
    for full, ours in zip(*gradients, strict=True):
        assert float((ours - full).abs().max()) <= 1e-5 * float(full.abs().max())


@pytest.mark.parametrize("name", ["rock salt", "diamond", "perovskite", "low symmetry"])
@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3)])
def test_a_supercell_has_the_quotient_of_its_cell(name, repeats):
    cell = example_crystals()[name]
    counts = sizes(supercell(cell, repeats))
    # a cell of which little can be merged stays whole, its supercell does not
    kinds = ["atoms"] if name == "low symmetry" else [*KINDS]
    assert [counts[kind] for kind in kinds] == [sizes(cell)[kind] for kind in kinds]


def test_a_cell_of_three_hundred_atoms_is_as_small_as_its_primitive_cell(encoder):
    large = supercell(example_crystals()["perovskite"], (4, 4, 4))
    assert large.n_atoms == 320
    assert sizes(large)["atoms"] == 3
    assert largest_difference(encoder, large) < 1e-6


def test_a_quotient_counts_all_members():
    graph = CHGNetBackbone.to_graph(CRYSTALS["rock salt"])
    assert graph.node_weight.tolist() == [4, 4]
    # six at half the lattice constant, twelve at its diagonal, eight at that of space
    assert sorted(graph.edge_weight.tolist())[:2] == [6, 6]
    degree = torch.zeros(2).index_add(0, graph.edge_index[1], graph.edge_weight)
    full = CHGNetBackbone.to_graph(CRYSTALS["rock salt"], quotient=False)
    assert degree.tolist() == [len(full.edge_weight) / 8] * 2


@pytest.mark.parametrize("n_atoms", [1, 5, 40, 100])
def test_without_symmetry_atoms_stay_and_graphs_are_hardly_smaller(n_atoms):
    graphs = graphs_of(triclinic(n_atoms))
    full, merged = graphs.arrays, merge(graphs, KINDS).arrays
    assert merged["node_weight"].tolist() == [1.0] * n_atoms
    if n_atoms >= 40:
        assert all(np.array_equal(merged[name], values) for name, values in full.items())


@given(st.lists(st.floats(0, 1), max_size=30), st.sampled_from([1.0, 1e-4, 3e-6, 1e-300]))
def test_values_of_one_class_are_within_the_tolerance(values, scale):
    values = np.array(values) * scale
    numbers = colours.value_classes(values, np.zeros(len(values), dtype=int))
    for number in set(numbers.tolist()):
        assert np.ptp(values[numbers == number]) <= TOLERANCE
    order = np.argsort(values, kind="stable")
    assert (np.diff(numbers[order]) >= 0).all()
    assert len(numbers) == 0 or sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))


def test_a_chain_of_nearly_equal_values_is_not_merged_into_one():
    chain = 2.0 + 0.6 * TOLERANCE * np.arange(5)
    assert (
        len(set(colours.value_classes(np.repeat(chain, 3), np.zeros(15, dtype=int)).tolist())) == 5
    )
    pair = np.array([2.0, 2.0 + 0.6 * TOLERANCE, 3.0])
    assert colours.value_classes(pair, np.zeros(3, dtype=int)).tolist() == [0, 0, 1]
    assert colours.value_classes(pair, np.array([0, 1, 1])).tolist() == [0, 1, 2]


def test_a_chain_in_a_crystal_keeps_its_distances():
    heights = 0.25 * np.arange(4) + np.array([0, 0.5e-6, 1.5e-6, 3e-6])
    sites = np.stack([np.full(4, 0.1), np.full(4, 0.2), heights], axis=1)
    structure = crystal_of(np.diag([3.0, 3.0, 10.0]), [26] * 4, sites)
    graphs = graphs_of(structure)
    lengths = graphs.arrays["bond_length"]
    assert np.ptp(lengths[np.abs(lengths - 2.5) < 1e-3]) > TOLERANCE
    merged = merge(graphs, KINDS)
    kept = merged.arrays["bond_length"][merged.classes["bonds"]]
    assert len(merged.arrays["bond_length"]) < len(lengths)
    assert np.abs(kept - lengths).max() <= TOLERANCE


def test_isolated_atoms_of_one_element_are_one_class():
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.5]]
    graph = CHGNetBackbone.to_graph(crystal_of(30 * np.eye(3), [18, 18, 36], sites))
    assert graph.node_weight.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    "hash_of", [np.zeros_like, lambda hashes: hashes % np.uint64(5)], ids=["constant", "weak"]
)
def test_colliding_hashes_cost_the_quotient_and_never_the_exactness(encoder, monkeypatch, hash_of):
    monkeypatch.setattr(colours, "_mixed", hash_of)
    structure = supercell(example_crystals()["low symmetry"], (2, 1, 1))
    assert len(set(classes(structure)["atoms"].tolist())) == structure.n_atoms
    assert largest_difference(encoder, structure) < 1e-12


@settings(deadline=None, max_examples=30)
@given(symmetric_crystals())
def test_classes_are_equitable(structure):
    graphs = graphs_of(structure)
    arrays = graphs.arrays
    of = {name: part.tolist() for name, part in merge(graphs, KINDS).classes.items()}
    edges = zip(*arrays["edge_index"].tolist(), arrays["edge_bond"].tolist(), strict=True)
    received = {atom: Counter() for atom in range(structure.n_atoms)}
    for neighbor, center, bond in edges:
        received[center][of["atoms"][neighbor], of["bonds"][bond]] += 1
    by_class = {}
    for atom, messages in received.items():
        surroundings = (int(structure.atomic_numbers[atom]), messages)
        assert by_class.setdefault(of["atoms"][atom], surroundings) == surroundings


def test_the_same_crystal_gives_the_same_bytes():
    one, other = (CHGNetBackbone.to_graph(CRYSTALS["supercell"]) for _ in range(2))
    for name, tensor in one.to_dict().items():
        assert tensor.numpy().tobytes() == other[name].numpy().tobytes()


def test_many_structures_at_once_give_the_graphs_of_each():
    structures = [*CRYSTALS.values(), *(triclinic(3, seed) for seed in range(4))]
    together = CHGNetBackbone.to_graphs(structures)
    for structure, graph in zip(structures, together, strict=True):
        alone = CHGNetBackbone.to_graph(structure).to_dict()
        assert alone.keys() == graph.to_dict().keys()
        assert all(torch.equal(value, graph[name]) for name, value in alone.items())


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_backbone_of_another_kind_is_unchanged_too(name):
    encoder = CGCNNBackbone.pretrained().double()
    batches = [
        collate([CGCNNBackbone.to_graph(CRYSTALS[name], quotient=merged)])
        for merged in (True, False)
    ]
    with torch.no_grad():
        for one, other in zip(*(encoder(batch) for batch in batches), strict=True):
            means = node_mean(one, batches[0]), node_mean(other, batches[1])
            assert float((means[0] - means[1]).abs().max() / means[1].abs().max()) < 1e-6
