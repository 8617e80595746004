"""CHGNet 0.3.0 as an encoder on PyG batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.chgnet.graph import (
    ANGLE_CUTOFF,
    BOND_CUTOFF,
    CHGNetGraph,
    chgnet_graphs,
    graph_size,
)
from moma_cl.backbones.chgnet.layers import (
    FEATURE_DIM,
    N_ANGULAR,
    N_RADIAL,
    AngleUpdate,
    AngularBasis,
    AtomConv,
    BondConv,
    RadialBasis,
    widened,
)
from moma_cl.backbones.chgnet.messages import Messages
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
        basis = widened(self.bond_basis(batch.bond_length))
        embedding = widened(self.bond_embedding.weight)
        weights = functional.linear(basis, widened(self.bond_weights.weight))
        edges = _edges(batch, basis.dtype)
        bonds = functional.linear(basis[batch.short_bond], embedding)
        short = _ShortBonds(self, batch, bonds)
        atoms = self.atom_embedding(batch.atomic_numbers - 1)
        blocks: list[Tensor] = []
        for block, convolution in enumerate(self.atom_convs):
            terms = cast("AtomConv", convolution).of_bonds(basis, embedding)
            atoms = convolution(atoms, terms, weights, short.change, edges)
            atoms = self.adapt(block, atoms)
            blocks.append(atoms)
            if block < self.n_blocks - 1:
                short.update(block, atoms)
        return blocks


def _edges(batch: Batch, dtype: torch.dtype) -> Messages:
    """Say what the messages along edges are made of: atoms, bonds, changes of short bonds."""
    neighbors, centers = batch.edge_index
    bonds = batch.edge_bond
    short = bonds.new_full((len(batch.bond_length),), -1)
    short[batch.short_bond] = torch.arange(len(batch.short_bond), device=short.device)
    index = [2 * centers, 2 * neighbors + 1, bonds, short[bonds], bonds, centers]
    counts = batch.edge_weight.to(dtype)
    cut, apart = _middle(batch, centers)
    return Messages(index=torch.stack(index), counts=counts, cut=cut, apart=apart)


def _middle(batch: Batch, atoms: Tensor) -> tuple[int, bool]:
    """Find where to cut messages in two, and whether all of a structure stay together then.

    They do if both parts have a quarter of the messages or more; else the cut is in the middle.
    ``atoms`` has an atom of each message, in the order of structures.
    """
    n_messages = len(atoms)
    if n_messages == 0 or atoms.device.type != "cpu":
        return 0, True
    middle = n_messages // 2
    structure = int(batch.batch[atoms[middle]])
    ends = [int((atoms < batch.ptr[structure + after]).sum()) for after in (0, 1)]
    end = min(ends, key=lambda end: abs(end - middle))
    return (end, True) if n_messages <= 4 * end <= 3 * n_messages else (middle, False)


class _ShortBonds:
    """The bonds and angles that the bond convolutions act on, and their state between blocks."""

    def __init__(self, backbone: CHGNetBackbone, batch: Batch, bonds: Tensor) -> None:
        self.backbone = backbone
        self.index: Tensor = batch.short_bond
        self.bonds = bonds
        self.change: Tensor | None = None
        self.active = len(batch.angle) > 0
        if not self.active:
            return
        others, firsts = batch.angle_index
        cut, apart = _middle(batch, batch.angle_vertex)
        index = [2 * firsts, 2 * others + 1, batch.angle_vertex, torch.full_like(firsts, -1)]
        self.angles = Messages(
            index=torch.stack([*index, others, firsts]),
            counts=batch.angle_weight.to(bonds.dtype),
            cut=cut,
            apart=apart,
        )
        own = torch.arange(len(firsts), device=firsts.device)
        self.updates = Messages(
            index=torch.stack([*index, others, own]),
            counts=torch.ones_like(self.angles.counts),
            cut=cut,
            apart=apart,
        )
        lengths = batch.bond_length.index_select(0, self.index)
        self.weights = backbone.short_bond_weights(backbone.short_bond_basis(lengths))
        basis = widened(backbone.angle_basis(batch.angle))
        self.features = functional.linear(basis, widened(backbone.angle_embedding.weight))

    def update(self, block: int, atoms: Tensor) -> None:
        """Run the bond convolution of a block and the angle update after it, if any."""
        if not self.active:
            return
        convolution = self.backbone.bond_convs[block]
        change = convolution(atoms, self.bonds, self.weights, self.features, self.angles)
        self.bonds = self.bonds + change
        self.change = change if self.change is None else self.change + change
        if block < len(self.backbone.angle_updates):
            layer = self.backbone.angle_updates[block]
            self.features = layer(atoms, self.bonds, self.features, self.updates)
