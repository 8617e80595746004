"""CHGNet 0.3.0 as an encoder on PyG batches."""

from __future__ import annotations

from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.chgnet_graph import ANGLE_CUTOFF, BOND_CUTOFF, CHGNetGraph, chgnet_graph
from moma_cl.backbones.chgnet_layers import (
    FEATURE_DIM,
    N_ANGULAR,
    N_RADIAL,
    Angles,
    AngleUpdate,
    AngularBasis,
    AtomConv,
    BondConv,
    Edges,
    RadialBasis,
)
from moma_cl.backbones.chgnet_weights import encoder_state, readout_state
from moma_cl.structures.crystals import Crystal

N_ELEMENTS = 94
"""Elements CHGNet knows, hydrogen to plutonium."""


class CHGNetBackbone(Backbone):
    """CHGNet's interaction blocks: what its energy, forces and magnetic moments are read from.

    Gives the features after each of the four atom convolutions; the last are those that the
    published model normalises and reads the energy from (`CHGNetReadout`).

    References
    ----------
    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), arXiv 2302.14231.
    """

    name: ClassVar[str] = "chgnet"
    version: ClassVar[str] = "0.3.0"
    graph_version: ClassVar[int] = 1
    feature_dim: ClassVar[int] = FEATURE_DIM
    n_blocks: ClassVar[int] = 4
    cutoff: ClassVar[float] = BOND_CUTOFF
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
        """Take the parameters out of the ``chgnet`` package.

        Returns
        -------
        Self
            The encoder in evaluation mode, on the CPU, in float32.

        Raises
        ------
        BackboneError
            If the package is missing or brings other parameters than version 0.3.0's.
        """
        backbone = cls.empty()
        backbone.load_state_dict(encoder_state())
        return backbone

    @classmethod
    def empty(cls) -> Self:
        """Make the encoder without the ``chgnet`` package, to be filled from a store.

        Returns
        -------
        Self
            The encoder with arbitrary parameters, in evaluation mode.
        """
        with torch.random.fork_rng(devices=[]):
            return cls().eval()

    @classmethod
    def to_graph(cls, crystal: Crystal) -> CHGNetGraph:
        """Build the graph of one structure.

        Parameters
        ----------
        crystal
            The structure.

        Returns
        -------
        CHGNetGraph
            Its atoms, bonds and angles.
        """
        return chgnet_graph(crystal)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs.

        Parameters
        ----------
        batch
            Graphs made by `to_graph`, collated.

        Returns
        -------
        list[Tensor]
            Atom features after each atom convolution, four tensors of shape
            ``(n_nodes, feature_dim)``.
        """
        edges = self._edges(batch)
        basis = self.bond_basis(batch.bond_length)
        weights = self.bond_weights(basis)
        short = _ShortBonds(self, batch, basis)
        atoms = self.atom_embedding(batch.atomic_numbers - 1)
        blocks: list[Tensor] = []
        for block, convolution in enumerate(self.atom_convs):
            terms = self._bond_terms(block, basis, short)
            atoms = self.adapt(block, convolution(atoms, terms, weights, edges))
            blocks.append(atoms)
            if block < self.n_blocks - 1:
                short.update(block, atoms)
        return blocks

    def _edges(self, batch: Batch) -> Edges:
        neighbors, centers = batch.edge_index
        weight = _column(batch, "edge_weight", self.dtype)
        return Edges(neighbors=neighbors, centers=centers, bonds=batch.edge_bond, weight=weight)

    def _bond_terms(self, block: int, basis: Tensor, short: _ShortBonds) -> Tensor:
        """Apply a convolution's first layer to all bond features.

        Only short bonds ever change, so the others go from the basis to the product in one step.
        """
        linear = cast("AtomConv", self.atom_convs[block]).bonds
        terms = functional.linear(basis, linear.weight @ self.bond_embedding.weight, linear.bias)
        if short.change is None:
            return terms
        return terms.index_add(0, short.index, functional.linear(short.change, linear.weight))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.atom_embedding.weight.dtype


class _ShortBonds:
    """The bonds and angles that the bond convolutions act on, and their state between blocks."""

    def __init__(self, backbone: CHGNetBackbone, batch: Batch, basis: Tensor) -> None:
        self.backbone = backbone
        self.index: Tensor = batch.short_bond
        self.change: Tensor | None = None
        self.active = len(batch.angle) > 0
        if not self.active:
            return
        others, firsts = batch.angle_index
        weight = _column(batch, "angle_weight", backbone.dtype)
        self.angles = Angles(others=others, firsts=firsts, nodes=batch.angle_node, weight=weight)
        lengths = batch.bond_length.index_select(0, self.index)
        self.weights = backbone.short_bond_weights(backbone.short_bond_basis(lengths))
        self.bonds = backbone.bond_embedding(basis.index_select(0, self.index))
        self.features = backbone.angle_embedding(backbone.angle_basis(batch.angle))

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
            self.features = layer(atoms, self.bonds, self.features, self.angles)


class CHGNetReadout(nn.Module):
    """CHGNet's energy, read from the last features; not part of what modules specialise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(FEATURE_DIM)
        self.hidden = nn.ModuleList([nn.Linear(FEATURE_DIM, FEATURE_DIM) for _ in range(3)])
        self.energy = nn.Linear(FEATURE_DIM, 1)
        self.reference = nn.Embedding(N_ELEMENTS, 1)

    @classmethod
    def pretrained(cls) -> Self:
        """Take the read-out's parameters out of the ``chgnet`` package.

        Returns
        -------
        Self
            The read-out in evaluation mode.

        Raises
        ------
        BackboneError
            If the package is missing or brings other parameters than version 0.3.0's.
        """
        with torch.random.fork_rng(devices=[]):
            readout = cls().eval()
        readout.load_state_dict(readout_state())
        return readout

    def forward(self, features: Tensor, batch: Batch) -> Tensor:
        """Read the energy of each structure.

        Parameters
        ----------
        features
            Atom features after the last block, shape ``(n_nodes, feature_dim)``.
        batch
            The graphs they belong to.

        Returns
        -------
        Tensor
            Energies, shape ``(n_structures,)``, eV/atom.
        """
        hidden = self.norm(features)
        for layer in self.hidden:
            hidden = functional.silu(layer(hidden))
        energies = self.energy(hidden) + self.reference(batch.atomic_numbers - 1)
        weight = batch.node_weight.to(energies.dtype)
        totals = energies.new_zeros(2, batch.num_graphs)
        rows = torch.stack([energies[:, 0] * weight, weight])
        energy, n_atoms = totals.index_add(1, batch.batch, rows)
        mean: Tensor = energy / n_atoms
        return mean


def _column(batch: Batch, name: str, dtype: torch.dtype) -> Tensor | None:
    """Give an optional weight as a column."""
    return batch[name].to(dtype)[:, None] if name in batch else None
