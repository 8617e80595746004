import numpy as np
import pytest
import torch
from hypothesis import given, settings

from moma_cl.backbones.sevennet import quotient
from moma_cl.backbones.sevennet.angular import wigner_3j, wigner_matrices
from moma_cl.backbones.sevennet.backbone import N_SCALARS, SevenNet0Backbone, SevenNetL3i5Backbone
from moma_cl.backbones.sevennet.edge_tensors import harmonics_of
from moma_cl.backbones.sevennet.quotient import equivariant_quotient
from moma_cl.backbones.symmetry import SymmetricCrystal, symmetrise
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import crystal_of, example_crystals, rotation, supercell
from tests.helpers.symmetric_crystals import (
    mirror_image,
    molybdenum_disulfide,
    quartz,
    racemate,
    symmetric_crystals,
)


@pytest.fixture(scope="module", params=[SevenNet0Backbone, SevenNetL3i5Backbone])
def encoder(request):
    return request.param.pretrained().double()


def features(encoder, crystal, *, merged=True):
    """Features of every block, of every atom in an order that only elements decide."""
    graph = encoder.to_graph(crystal, quotient=merged, dtype=torch.float64)
    with torch.no_grad():
        blocks = encoder(collate([graph]))
    counts = (graph.node_weight / graph.node_weight.min()).long()
    order = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return torch.stack([block[order] for block in blocks]), graph.atomic_numbers[order]


def exactly(symmetric):
    """The symmetrised geometry itself as a crystal."""
    return crystal_of(symmetric.lattice, symmetric.atomic_numbers, symmetric.frac_coords)


def difference(one, other):
    """Largest difference of the means over each element's atoms, of every block."""
    worst = torch.zeros(len(one[0]))
    for element in one[1].unique():
        means = [blocks[:, numbers == element].mean(1) for blocks, numbers in (one, other)]
        gap = (means[0] - means[1]).abs().amax(1) / means[1].abs().amax(1)
        worst = torch.maximum(worst, gap)
    return worst


CRYSTALS = {
    **example_crystals(),
    "quartz": quartz(),
    "disulfide": molybdenum_disulfide(),
    "racemate": racemate(quartz()),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_nothing_changes(encoder, name):
    crystal = exactly(symmetrise(CRYSTALS[name]))
    merged, full = features(encoder, crystal), features(encoder, crystal, merged=False)
    assert difference(merged, full).max() < 1e-10


@given(crystal=symmetric_crystals())
@settings(max_examples=25, deadline=None)
def test_nothing_changes_in_any_crystal(crystal):
    encoder = SevenNet0Backbone.pretrained().double()
    exact = exactly(symmetrise(crystal))
    merged, full = features(encoder, exact), features(encoder, exact, merged=False)
    assert difference(merged, full).max() < 1e-9


def test_rounded_coordinates_cost_little(encoder):
    merged = features(encoder, molybdenum_disulfide(decimals=5))
    full = features(encoder, molybdenum_disulfide(decimals=5), merged=False)
    assert difference(merged, full).max() < 3e-4
    assert len(merged[1]) == len(full[1])


def test_a_supercell_is_its_primitive_cell(encoder):
    crystal = CRYSTALS["quartz"]
    one = encoder.to_graph(crystal, dtype=torch.float64)
    many = encoder.to_graph(supercell(crystal, (2, 1, 2)), dtype=torch.float64)
    assert one.edge_tensor.shape == many.edge_tensor.shape
    assert torch.equal(many.node_weight, 4 * one.node_weight)
    assert difference(features(encoder, crystal), features(encoder, CRYSTALS["quartz"])).max() == 0
    gap = difference(features(encoder, crystal), features(encoder, supercell(crystal, (2, 1, 2))))
    assert gap.max() < 1e-9


def test_scalars_of_mirror_images_differ_from_the_third_layer_on(encoder):
    pair = [features(encoder, crystal) for crystal in (quartz(), mirror_image(quartz()))]
    gap = difference(*((blocks[:, :, :N_SCALARS], numbers) for blocks, numbers in pair))
    assert gap[:2].max() < 1e-9
    assert gap[2:].min() > 1e-6


def test_atoms_that_only_an_inversion_swaps_are_not_merged(encoder):
    graph = encoder.to_graph(racemate(quartz()), dtype=torch.float64)
    assert len(symmetrise(racemate(quartz())).rotations) > len(
        symmetrise(racemate(quartz())).proper.rotations
    )
    assert graph.node_weight.sum() == 18
    orbits = symmetrise(racemate(quartz())).images.min(axis=0)
    assert len(graph.node_weight) > len(set(orbits))


def test_with_improper_operations_features_would_change(encoder, monkeypatch):
    crystal = exactly(symmetrise(racemate(quartz())))
    right = features(encoder, crystal)
    monkeypatch.setattr(SymmetricCrystal, "proper", property(lambda self: self))
    wrong = features(encoder, crystal)
    assert difference(wrong, right).max() > 1e-6


def test_noise_above_the_tolerance_is_not_merged(encoder):
    crystal = CRYSTALS["perovskite"]
    moves = np.random.default_rng(1).normal(scale=1e-3, size=(5, 3))
    shaken = crystal_of(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords + moves)
    merged, full = features(encoder, shaken), features(encoder, shaken, merged=False)
    assert len(encoder.to_graph(shaken).node_weight) == 5
    assert difference(merged, full).max() < 1e-9


def test_symmetry_leaves_fewer_rows_and_edges():
    found = equivariant_quotient(symmetrise(CRYSTALS["rock salt"]), 5.0, 2)
    assert found.row_counts.tolist() == [[1, 0, 0]] * 2  # nothing but scalars has cubic symmetry
    assert found.orbit_sizes.tolist() == [1, 1]
    full = equivariant_quotient(symmetrise(CRYSTALS["rock salt"]), 5.0, 2, merged=False)
    assert found.edges.shape[1] < full.edges.shape[1] / 8


def test_an_atom_without_neighbours_has_no_edges():
    lonely = crystal_of(20 * np.eye(3), [18], [[0, 0, 0]])
    found = equivariant_quotient(symmetrise(lonely), 5.0, 3)
    assert found.edges.shape == (3, 0)
    assert found.lengths.shape == found.tensors.shape == (0,)


def test_edges_are_those_of_a_plain_search():
    crystal = CRYSTALS["low symmetry"]
    found = equivariant_quotient(symmetrise(crystal), 5.0, 0, merged=False)
    cells = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3)
    away = crystal.frac_coords[:, None] - crystal.frac_coords
    distances = np.linalg.norm((away[:, :, None] + cells) @ crystal.lattice, axis=-1)
    expected = np.sort(distances[(distances < 5.0) & (distances > 1e-6)])
    assert np.allclose(np.sort(found.lengths[found.edges[2]]), expected)


class TestAngular:
    def test_harmonics_turn_by_wigner_matrices(self):
        turns = np.stack([rotation(seed) for seed in range(5)])
        points = np.random.default_rng(0).normal(size=(20, 3))
        points /= np.linalg.norm(points, axis=1)[:, None]
        values = harmonics_of(points, 3)
        for turn, row in zip(turns, wigner_matrices(turns, 3), strict=True):
            turned = harmonics_of(points @ turn.T, 3)
            for degree, part in enumerate(np.split(row, [1, 10, 35])):
                matrix = part.reshape(2 * degree + 1, -1)
                columns = slice(degree**2, (degree + 1) ** 2)
                assert np.allclose(turned[:, columns], values[:, columns] @ matrix.T, atol=1e-13)
                assert np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-13)

    def test_harmonics_have_component_normalisation(self):
        values = harmonics_of(np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]), 3)
        for degree in range(4):
            squares = (values[:, degree**2 : (degree + 1) ** 2] ** 2).sum(1)
            assert squares == pytest.approx(2 * degree + 1)

    @pytest.mark.parametrize("degrees", quotient.coupled_degrees(3))
    def test_couplings_are_invariant_and_of_norm_one(self, degrees):
        coupling = wigner_3j(*degrees)
        row = wigner_matrices(rotation(3)[None], 3)[0]
        parts = [part.reshape(2 * n + 1, -1) for n, part in enumerate(np.split(row, [1, 10, 35]))]
        turned = np.einsum("abc,ia,jb,kc->ijk", coupling, *(parts[one] for one in degrees))
        assert np.allclose(turned, coupling, atol=1e-13)
        assert np.linalg.norm(coupling) == pytest.approx(1.0)
