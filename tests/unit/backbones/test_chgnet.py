import contextlib
import io

import numpy as np
import pytest
import torch

from moma_cl.backbones.chgnet import weights
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import (
    crystal_of,
    example_crystals,
    is_apart,
    isolated_atom,
    supercell,
)
from moma_store.errors import BackboneError

# the package sorts formulas by electronegativity, which noble gases lack
pytestmark = pytest.mark.filterwarnings("ignore:No Pauling electronegativity")


def random_crystal(seed):
    """Any cell, any elements, atoms at least 1.6 Å apart: no symmetry at all."""
    rng = np.random.default_rng(seed)
    lattice = 2.5 * rng.integers(1, 4) * np.eye(3) + rng.normal(scale=0.6, size=(3, 3))
    sites = [rng.random(3)]
    for candidate in rng.random((200, 3)):
        if len(sites) < 12 and is_apart(candidate, sites, lattice, 1.6):
            sites.append(candidate)
    return crystal_of(lattice, rng.integers(1, 95, len(sites)), sites)


SIMPLE = {
    "no angles": crystal_of(4.5 * np.eye(3), [55], [[0, 0, 0]]),
    "one atom, straight angles": crystal_of(2.9 * np.eye(3), [84], [[0, 0, 0]]),
    "bonds of exactly the angle cutoff": crystal_of(3.0 * np.eye(3), [26], [[0, 0, 0]]),
    "bonds of exactly the bond cutoff": crystal_of(6.0 * np.eye(3), [26], [[0, 0, 0]]),
    "slab": crystal_of(np.diag([3.2, 3.2, 25.0]), [12, 8], [[0, 0, 0.5], [0.5, 0.5, 0.56]]),
    "molecule": crystal_of(15 * np.eye(3), [8, 1, 1], [[0, 0, 0], [0.06, 0, 0], [0, 0.06, 0.02]]),
    "one short bond without a partner": crystal_of(
        15 * np.eye(3), [7, 7], [[0, 0, 0], [0.07, 0, 0]]
    ),
    "left-handed cell": crystal_of(-3.3 * np.eye(3), [22, 7], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "coordinates outside the cell": crystal_of(
        4 * np.eye(3), [3, 9], [[-2.3, 1.7, 0], [0, 0.2, 5.5]]
    ),
}
CRYSTALS = {
    **SIMPLE,
    **example_crystals(),
    "supercell": supercell(example_crystals()["perovskite"], (2, 2, 1)),
    **{f"random {seed}": random_crystal(seed) for seed in range(20)},
}


@pytest.fixture(scope="module")
def package():
    from chgnet.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    return model


@pytest.fixture(scope="module")
def encoder():
    return CHGNetBackbone.pretrained()


def package_graph(package, structure, dtype):
    from pymatgen.core import Element, Structure

    species = [Element.from_Z(int(number)) for number in structure.atomic_numbers]
    graph = package.graph_converter(Structure(structure.lattice, species, structure.frac_coords))
    for name in ("atom_frac_coord", "lattice", "neighbor_image"):
        setattr(graph, name, getattr(graph, name).detach().to(dtype))
    return graph


def package_features(package, graphs):
    """Features after each atom convolution, without the package's own casts."""
    from chgnet.model.model import BatchedGraph

    features = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: features.append(output))
        for layer in package.atom_conv_layers
    ]
    with torch.no_grad():
        batched = BatchedGraph.from_graphs(
            graphs, package.bond_basis_expansion, package.angle_basis_expansion
        )
        package._compute(batched)
    for hook in hooks:
        hook.remove()
    return features


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        (torch.float32, (1e-5, 1e-5, 1e-5, 5e-5)),
        (torch.float64, (1e-8, 1e-8, 1e-8, 1e-8)),
    ],
)
def test_features_are_those_of_the_package(package, encoder, dtype, bounds):
    crystals = [*CRYSTALS.values()]
    theirs = [package_graph(package, structure, dtype) for structure in crystals]
    ours = [CHGNetBackbone.to_graph(structure, quotient=False) for structure in crystals]
    models = (package, encoder)
    try:
        for model in models:
            model.to(dtype)
        expected = package_features(package, theirs)
        with torch.no_grad():
            features = encoder(collate(ours))
    finally:
        for model in models:
            model.to(torch.float32)
    assert all(block.dtype == dtype for block in features)
    differences = [relative(one, other) for one, other in zip(features, expected, strict=True)]
    assert np.all(np.array(differences) <= bounds), differences


@pytest.mark.parametrize("name", CRYSTALS)
def test_edges_and_angles_are_those_of_the_package(package, name):
    theirs = package_graph(package, CRYSTALS[name], torch.float64)
    ours = CHGNetBackbone.to_graph(CRYSTALS[name], quotient=False)
    edges = np.sort(theirs.atom_graph.reshape(-1, 2).numpy() @ [1000, 1])
    assert np.array_equal(edges, np.sort(ours.edge_index.flip(0).numpy().T @ [1000, 1]))
    assert len(ours.bond_length) == len(theirs.undirected2directed)
    vertices = theirs.bond_graph.reshape(-1, 5)[:, 0].numpy()
    assert np.array_equal(np.sort(vertices), np.sort(ours.angle_vertex.numpy()))
    bonds = np.unique(theirs.bond_graph.reshape(-1, 5)[:, [1, 3]].numpy())
    assert len(ours.short_bond) == len(bonds)


def test_both_directions_of_a_bond_have_its_length():
    graph = CHGNetBackbone.to_graph(CRYSTALS["random 3"], quotient=False)
    assert torch.equal(
        torch.bincount(graph.edge_bond), torch.full_like(graph.bond_length, 2).long()
    )
    one, other = (
        graph.edge_index[:, torch.argsort(graph.edge_bond, stable=True)].view(2, -1, 2).unbind(2)
    )
    assert torch.equal(one, other.flip(0))


def test_an_isolated_atom_keeps_the_features_of_its_element(encoder):
    batch = collate([encoder.to_graph(isolated_atom())])
    features = encoder(batch)
    embedded = encoder.atom_embedding(batch.atomic_numbers - 1)
    assert all(torch.equal(block, embedded) for block in features)


def test_multiplicities_count_as_repeated_messages(encoder):
    graph = encoder.to_graph(CRYSTALS["random 5"], quotient=False)
    repeated = graph.clone()
    repeated.edge_index = torch.cat([graph.edge_index] * 2, dim=1)
    repeated.edge_bond = torch.cat([graph.edge_bond] * 2)
    repeated.angle_index = torch.cat([graph.angle_index] * 3, dim=1)
    repeated.angle_vertex = torch.cat([graph.angle_vertex] * 3)
    repeated.angle = torch.cat([graph.angle] * 3)
    repeated.edge_weight = torch.cat([graph.edge_weight] * 2)
    repeated.angle_weight = torch.cat([graph.angle_weight] * 3)
    weighted = graph.clone()
    weighted.edge_weight = torch.full((graph.edge_index.shape[1],), 2.0)
    weighted.angle_weight = torch.full((len(graph.angle),), 3.0)
    assert len(graph.angle) > 0
    with torch.no_grad():
        pairs = zip(encoder(collate([weighted])), encoder(collate([repeated])), strict=True)
        assert max(relative(one, other) for one, other in pairs) < 1e-5


def test_every_parameter_influences_the_features(encoder):
    learning = CHGNetBackbone.pretrained()
    batch = collate([learning.to_graph(structure) for structure in CRYSTALS.values()])
    sum(block.square().sum() for block in learning(batch)).backward()
    assert [n for n, p in learning.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_loading_prints_nothing(capfd):
    weights.package_state.cache_clear()
    CHGNetBackbone.pretrained()
    assert capfd.readouterr().out == ""


def test_other_parameters_than_expected_are_refused(monkeypatch):
    weights.package_state.cache_clear()
    monkeypatch.setattr(weights, "DIGEST", "0" * 64)
    with pytest.raises(BackboneError, match=r"install chgnet==0\.4\.2"):
        CHGNetBackbone.pretrained()
    weights.package_state.cache_clear()


def test_a_missing_package_is_named(monkeypatch):
    weights.package_state.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "chgnet.model", None)
    with pytest.raises(BackboneError, match="install chgnet"):
        CHGNetBackbone.pretrained()
    assert CHGNetBackbone.empty().device.type == "cpu"
    weights.package_state.cache_clear()
