"""The contract of a backbone as a pytest class, for built-in backbones and for plug-ins."""

# ruff: noqa: D102, S101  tests: their names say what they show, and they assert it

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import load_vector, manifest_of, to_vector
from moma_cl.core.pyg import Batch, Data
from moma_cl.graphs.batching import collate, collate_for
from moma_cl.records.records import ModuleKind
from moma_cl.structures.crystals import Crystal
from moma_cl.testing.crystals import (
    crystal_of,
    example_crystals,
    isolated_atom,
    rotation,
    supercell,
)
from moma_cl.testing.other_device import other_device

TOLERANCE = 1e-5
"""Largest difference of features that mean the same, relative to the largest feature."""

_ADAPTER_WIDTH = 8


class BackboneContract:
    """Tests that every backbone must pass.

    Subclass it in a test module and name the backbone; pytest must be installed::

        class TestMyNet(BackboneContract):
            backbone_class = MyNet
    """

    backbone_class: ClassVar[type[Backbone]]

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> Backbone:
        """Load the pretrained encoder, which no test may change."""
        return cls.backbone_class.pretrained()

    @pytest.fixture(params=example_crystals())
    def crystal(self, request: pytest.FixtureRequest) -> Crystal:
        """Give each of the example crystals."""
        return example_crystals()[request.param]

    def test_every_block_gives_features_of_every_node(
        self, encoder: Backbone, crystal: Crystal
    ) -> None:
        batch = collate([encoder.to_graph(crystal)] * 2)
        features = _encode(encoder, batch)
        assert len(features) == encoder.n_blocks
        assert {tuple(block.shape) for block in features} == {
            (batch.num_nodes, encoder.feature_dim)
        }
        assert all(block.dtype == torch.float32 for block in features)
        assert all(torch.isfinite(block).all() for block in features)

    def test_nodes_stand_for_all_atoms(self, encoder: Backbone, crystal: Crystal) -> None:
        graph = encoder.to_graph(crystal)
        assert isinstance(graph, encoder.graph_class)
        assert float(graph.node_weight.sum()) == crystal.n_atoms
        assert all(isinstance(value, Tensor) for value in graph.to_dict().values())

    def test_building_a_graph_leaves_the_crystal_untouched(
        self, encoder: Backbone, crystal: Crystal
    ) -> None:
        arrays = (crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)
        before = [array.tobytes() for array in arrays]
        encoder.to_graph(crystal)
        assert [array.tobytes() for array in arrays] == before

    def test_graphs_of_one_crystal_are_equal(self, encoder: Backbone, crystal: Crystal) -> None:
        one, other = encoder.to_graph(crystal), encoder.to_graph(crystal)
        _assert_equal_data(one, other)

    def test_many_graphs_at_once_are_those_of_each(self, encoder: Backbone) -> None:
        crystals = _all_crystals()
        for crystal, graph in zip(crystals, encoder.to_graphs(crystals), strict=True):
            _assert_equal_data(encoder.to_graph(crystal), graph)

    def test_no_graphs_of_no_crystals(self, encoder: Backbone) -> None:
        assert encoder.to_graphs([]) == []

    def test_collating_agrees_with_torch_geometric(self, encoder: Backbone) -> None:
        graphs = [encoder.to_graph(crystal) for crystal in _all_crystals()]
        ours, theirs = collate(graphs), Batch.from_data_list(graphs)
        assert ours.num_graphs == theirs.num_graphs
        _assert_equal_data(ours, theirs)

    def test_a_structure_has_the_same_features_in_any_batch(self, encoder: Backbone) -> None:
        graphs = [encoder.to_graph(crystal) for crystal in _all_crystals()]
        together = _pooled(encoder, graphs)
        for position, graph in enumerate(graphs):
            _assert_close(_pooled(encoder, [graph])[0], together[position])

    def test_the_order_of_atoms_does_not_matter(self, encoder: Backbone, crystal: Crystal) -> None:
        order = np.random.default_rng(1).permutation(crystal.n_atoms)
        permuted = replace(
            crystal,
            atomic_numbers=crystal.atomic_numbers[order],
            frac_coords=crystal.frac_coords[order],
        )
        _assert_same_structure(encoder, crystal, permuted)

    def test_rotation_does_not_matter(self, encoder: Backbone, crystal: Crystal) -> None:
        rotated = replace(crystal, lattice=crystal.lattice @ rotation(2).T)
        _assert_same_structure(encoder, crystal, rotated)

    def test_translation_does_not_matter(self, encoder: Backbone, crystal: Crystal) -> None:
        shift = np.random.default_rng(3).random(3)
        moved = replace(crystal, frac_coords=(crystal.frac_coords + shift) % 1.0)
        _assert_same_structure(encoder, crystal, moved)

    def test_a_supercell_is_the_same_structure(self, encoder: Backbone, crystal: Crystal) -> None:
        _assert_same_structure(encoder, crystal, supercell(crystal, (2, 1, 3)))

    def test_different_structures_have_different_features(self, encoder: Backbone) -> None:
        pooled = _pooled(encoder, [encoder.to_graph(crystal) for crystal in _all_crystals()])
        distances = torch.cdist(pooled, pooled) + torch.eye(len(pooled)) * pooled.abs().max()
        assert float(distances.min()) > 100 * TOLERANCE * float(pooled.abs().max())

    def test_an_isolated_atom_is_answered(self, encoder: Backbone) -> None:
        alone = _pooled(encoder, [encoder.to_graph(isolated_atom())])
        assert torch.isfinite(alone).all()

    def test_every_element_is_answered(self, encoder: Backbone) -> None:
        numbers = np.array(sorted(encoder.elements))
        positions = np.linspace(0.0, 1.0, len(numbers), endpoint=False)
        crystal = crystal_of(
            np.diag([3.0 * len(numbers), 4.0, 4.0]), numbers, np.outer(positions, [1.0, 0.0, 0.0])
        )
        assert torch.isfinite(_pooled(encoder, [encoder.to_graph(crystal)])).all()

    def test_parameters_survive_the_way_through_a_vector(self, encoder: Backbone) -> None:
        manifest = manifest_of(encoder, ModuleKind.FULL)
        vector = to_vector(encoder, manifest)
        restored = self.backbone_class.empty()
        load_vector(restored, vector, manifest)
        assert to_vector(restored, manifest).tobytes() == vector.tobytes()
        batch = collate([encoder.to_graph(crystal) for crystal in _all_crystals()])
        for mine, theirs in zip(_encode(restored, batch), _encode(encoder, batch), strict=True):
            assert torch.equal(mine, theirs)

    def test_features_and_gradients_off_the_cpu_are_those_of_the_cpu(self) -> None:
        graphs = [self.backbone_class.to_graph(crystal) for crystal in _all_crystals()]

        def last_features(device: torch.device) -> Iterator[Tensor]:
            encoder = self.backbone_class.pretrained().to(device)
            features = encoder(collate_for(encoder, graphs))[-1]
            features.square().mean().backward()
            yield features.detach().cpu()
            yield from (p.grad.cpu() for p in encoder.parameters() if p.grad is not None)

        here = list(last_features(torch.device("cpu")))
        with other_device() as device:
            there = list(last_features(device))
        largest = max(float(gradient.abs().max()) for gradient in here[1:])
        _assert_close(there[0], here[0])
        for mine, theirs in zip(there[1:], here[1:], strict=True):
            assert float((mine - theirs).abs().max()) <= TOLERANCE * largest

    def test_pretrained_parameters_are_always_the_same(self, encoder: Backbone) -> None:
        torch.manual_seed(4)
        state = torch.random.get_rng_state()
        again = self.backbone_class.pretrained()
        assert torch.equal(torch.random.get_rng_state(), state)
        manifest = manifest_of(encoder, ModuleKind.FULL)
        assert to_vector(again, manifest).tobytes() == to_vector(encoder, manifest).tobytes()

    def test_new_adapters_change_nothing(self, encoder: Backbone, crystal: Crystal) -> None:
        adapted = self._adapted()
        batch = collate([encoder.to_graph(crystal)])
        for mine, theirs in zip(_encode(adapted, batch), _encode(encoder, batch), strict=True):
            assert torch.equal(mine, theirs)

    def test_only_adapters_learn(self, crystal: Crystal) -> None:
        adapted = self._adapted()
        adapted(collate([adapted.to_graph(crystal)]))[-1].square().sum().backward()
        learning = {name for name, p in adapted.named_parameters() if p.grad is not None}
        assert learning == set(manifest_of(adapted, ModuleKind.ADAPTER).names)

    def test_adapters_survive_the_way_through_a_vector(self, crystal: Crystal) -> None:
        trained, fresh = self._adapted(), self._adapted()
        manifest = manifest_of(trained, ModuleKind.ADAPTER)
        start = to_vector(fresh, manifest)
        noise = np.random.default_rng(5).normal(scale=0.1, size=len(start)).astype(np.float32)
        load_vector(trained, start + noise, manifest)
        batch = collate([trained.to_graph(crystal)])
        assert not torch.equal(_encode(trained, batch)[-1], _encode(fresh, batch)[-1])
        load_vector(fresh, to_vector(trained, manifest), manifest)
        assert torch.equal(_encode(trained, batch)[-1], _encode(fresh, batch)[-1])

    def _adapted(self) -> Backbone:
        adapted = self.backbone_class.pretrained()
        adapted.add_adapters(_ADAPTER_WIDTH)
        return adapted


def _all_crystals() -> list[Crystal]:
    return [*example_crystals().values(), isolated_atom()]


def _encode(encoder: Backbone, batch: Batch) -> list[Tensor]:
    with torch.no_grad():
        features: list[Tensor] = encoder(batch)
    return features


def _pooled(encoder: Backbone, graphs: list[Data]) -> Tensor:
    """Means over atoms of all blocks, shape ``(n_structures, n_blocks * feature_dim)``."""
    batch = collate(graphs)
    features = torch.cat(_encode(encoder, batch), dim=1)
    weight = batch.node_weight[:, None]
    rows = torch.cat([features * weight, weight], dim=1)
    sums = rows.new_zeros(len(graphs), rows.shape[1]).index_add(0, batch.batch, rows)
    return sums[:, :-1] / sums[:, -1:]


def _assert_equal_data(one: Data, other: Data) -> None:
    ours, theirs = one.to_dict(), other.to_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def _assert_same_structure(encoder: Backbone, one: Crystal, other: Crystal) -> None:
    first, second = (_pooled(encoder, [encoder.to_graph(crystal)])[0] for crystal in (one, other))
    _assert_close(first, second)


def _assert_close(got: Tensor, expected: Tensor) -> None:
    difference = float((got - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCE, f"features differ by {difference:.1e} of the largest"
