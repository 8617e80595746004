"""CHGNet 0.3.0 as an encoder on PyG batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.chgnet.graph import (
    ANGLE_CUTOFF,
    BOND_CUTOFF,
    CHGNetGraph,
    chgnet_graphs,
    graph_size,
)
from moma_cl.backbones.chgnet.kernels import padded, product
from moma_cl.backbones.chgnet.layers import (
    FEATURE_DIM,
    N_ANGULAR,
    N_RADIAL,
    AngleUpdate,
    AngularBasis,
    AtomConv,
    BondChange,
    BondConv,
    Messages,
    RadialBasis,
    table_rows,
)
from moma_cl.backbones.chgnet.weights import encoder_state
from moma_cl.core.pyg import Batch
from moma_cl.structures.crystals import Crystal

N_ELEMENTS = 94
"""Largest atomic number, plutonium's."""

# Enough that the cost of a call vanishes, few enough that all edges fit in a processor's cache.
_ATOMS_AT_ONCE = 1024


class CHGNetBackbone(Backbone):
    """CHGNet's interaction blocks, from whose features the published model reads the energy.

    A block ends with an atom convolution, so that there are four.

    References
    ----------
    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), arXiv 2302.14231.
    """

    name: ClassVar[str] = "chgnet"
    version: ClassVar[str] = "0.3.0"
    graph_version: ClassVar[int] = 2
    feature_dim: ClassVar[int] = FEATURE_DIM
    n_blocks: ClassVar[int] = 4
    elements: ClassVar[frozenset[int]] = frozenset(range(1, N_ELEMENTS + 1))
    graph_class: ClassVar[type[CHGNetGraph]] = CHGNetGraph

    def __init__(self) -> None:
        super().__init__()
        self.atom_embedding = nn.Embedding(N_ELEMENTS, FEATURE_DIM)
        self.bond_basis = RadialBasis(BOND_CUTOFF)
        self.short_bond_basis = RadialBasis(ANGLE_CUTOFF)
        self.angle_basis = AngularBasis()
        self.bond_embedding = nn.Linear(N_RADIAL, FEATURE_DIM, bias=False)
        self.bond_weights = nn.Linear(N_RADIAL, FEATURE_DIM, bias=False)
        self.short_bond_weights = nn.Linear(N_RADIAL, FEATURE_DIM, bias=False)
        self.angle_embedding = nn.Linear(2 * N_ANGULAR + 1, FEATURE_DIM, bias=False)
        self.atom_convs = nn.ModuleList([AtomConv() for _ in range(self.n_blocks)])
        self.bond_convs = nn.ModuleList([BondConv() for _ in range(self.n_blocks - 1)])
        # the update after the last bond convolution would feed nothing
        self.angle_updates = nn.ModuleList([AngleUpdate() for _ in range(self.n_blocks - 2)])

    @classmethod
    def pretrained(cls) -> Self:
        """Make the encoder with the parameters that `encoder_state` takes out of ``chgnet``."""
        backbone = cls.empty()
        backbone.load_state_dict(encoder_state())
        return backbone

    @classmethod
    def to_graph(cls, crystal: Crystal, *, quotient: bool = True) -> CHGNetGraph:
        """Build the graph of one structure: its atoms, bonds and angles.

        The symmetry quotient, if taken, leaves the features of atoms as they are.
        """
        return chgnet_graphs([crystal], merged=quotient)[0]

    @classmethod
    def graph_size(cls, crystal: Crystal, enough: int) -> int:
        """Count edges and angles: of a dense cell each atom has tens of thousands of angles."""
        return graph_size(crystal, enough)

    @classmethod
    def to_graphs(cls, crystals: Sequence[Crystal]) -> list[CHGNetGraph]:
        """Build the graph of each structure, many at a time."""
        filled = np.cumsum([crystal.n_atoms for crystal in crystals]) // _ATOMS_AT_ONCE
        ends = [*(np.flatnonzero(np.diff(filled)) + 1).tolist(), len(crystals)]
        graphs: list[CHGNetGraph] = []
        for end in ends:
            graphs += chgnet_graphs(crystals[len(graphs) : end], merged=True)
        return graphs

    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs; a block ends with its atom convolution."""
        basis = self.bond_basis(padded(batch.bond_length, 1.0))
        weights, *terms = self._bond_products(basis)
        edges = _edges(batch, weights)
        short = _ShortBonds(self, batch, basis)
        atoms = self.atom_embedding(batch.atomic_numbers - 1)
        blocks: list[Tensor] = []
        for block, convolution in enumerate(self.atom_convs):
            atoms = convolution(atoms, terms[block], short.change, edges)
            atoms = self.adapt(block, atoms)
            blocks.append(atoms)
            if block < self.n_blocks - 1:
                short.update(block, atoms)
        return blocks

    def _bond_products(self, basis: Tensor) -> tuple[Tensor, ...]:
        """Give each bond's weights, and its part of the first layer of every atom convolution.

        Only the features of short bonds change between blocks, so one product of the basis gives
        all of this. Shapes ``(n_bonds, feature_dim)`` and ``(n_bonds, 2 * feature_dim)``.
        """
        layers = [cast("AtomConv", convolution).bonds for convolution in self.atom_convs]
        first = torch.cat([layer.weight for layer in layers]) @ self.bond_embedding.weight
        weight = torch.cat([self.bond_weights.weight, first])
        bias = torch.cat([weight.new_zeros(FEATURE_DIM), *(layer.bias for layer in layers)])
        sizes = [FEATURE_DIM, *[2 * FEATURE_DIM] * len(layers)]
        return torch.split(product(basis, weight, bias), sizes, dim=1)


def _edges(batch: Batch, bond_weights: Tensor) -> Messages:
    """Make edges; messages of those that only round their number up count zero times."""
    neighbors, centers, bonds = map(padded, (*batch.edge_index, batch.edge_bond))
    return Messages(
        receivers=centers,
        terms=table_rows((centers, neighbors), bonds, len(batch.atomic_numbers)),
        factors=_factors(bond_weights, bonds, padded(batch.edge_weight)),
    )


class _ShortBonds:
    """The bonds and angles that the bond convolutions act on, and their state between blocks."""

    def __init__(self, backbone: CHGNetBackbone, batch: Batch, basis: Tensor) -> None:
        self.backbone = backbone
        self.index: Tensor = batch.short_bond
        self.change: BondChange | None = None
        self.active = len(batch.angle) > 0
        if not self.active:
            return
        others, firsts, vertices = map(padded, (*batch.angle_index, batch.angle_vertex))
        lengths = batch.bond_length.index_select(0, self.index)
        self.weights = backbone.short_bond_weights(backbone.short_bond_basis(lengths))
        self.angles = Messages(
            receivers=firsts,
            terms=table_rows((firsts, others), vertices, len(self.index)),
            factors=_factors(self.weights, others, padded(batch.angle_weight)),
        )
        self.bonds = backbone.bond_embedding(basis.index_select(0, self.index))
        features = backbone.angle_basis(padded(batch.angle))
        self.features = product(features, backbone.angle_embedding.weight)

    def update(self, block: int, atoms: Tensor) -> None:
        """Run the bond convolution of a block and the angle update after it, if any."""
        if not self.active:
            return
        convolution = self.backbone.bond_convs[block]
        change = convolution(atoms, self.bonds, self.weights, self.features, self.angles)
        self.bonds = self.bonds + change
        total = change if self.change is None else self.change.features + change
        self.change = BondChange(bonds=self.index, features=total)
        if block < len(self.backbone.angle_updates):
            layer = self.backbone.angle_updates[block]
            self.features = layer(atoms, self.bonds, self.features, self.angles)


def _factors(weights: Tensor, bonds: Tensor, counts: Tensor) -> Tensor:
    """Multiply the weight of each message's bond by how often the message counts."""
    return weights.index_select(0, bonds).mul_(counts.to(weights.dtype)[:, None])
