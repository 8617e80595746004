"""CHGNet 0.3.0 as an encoder on PyG batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.chgnet.graph import ANGLE_CUTOFF, BOND_CUTOFF, CHGNetGraph, chgnet_graphs
from moma_cl.backbones.chgnet.kernels import padded, product
from moma_cl.backbones.chgnet.layers import (
    FEATURE_DIM,
    N_ANGULAR,
    N_RADIAL,
    Angles,
    AngleUpdate,
    AngularBasis,
    AtomConv,
    BondChange,
    BondConv,
    Edges,
    RadialBasis,
    table_rows,
)
from moma_cl.backbones.chgnet.weights import encoder_state, readout_state
from moma_cl.core.pyg import Batch
from moma_cl.structures.crystals import Crystal

N_ELEMENTS = 94
"""Elements CHGNet knows, hydrogen to plutonium."""

# Enough that the cost of each structure vanishes, few enough that all their edges fit in a cache.
_ATOMS_AT_ONCE = 1024


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
    graph_version: ClassVar[int] = 2
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
    def to_graph(cls, crystal: Crystal, *, quotient: bool = True) -> CHGNetGraph:
        """Build the graph of one structure.

        Parameters
        ----------
        crystal
            The structure.
        quotient
            Whether to merge what cannot be told apart; features of the atoms are the same.

        Returns
        -------
        CHGNetGraph
            Its atoms, bonds and angles.
        """
        return chgnet_graphs([crystal], merged=quotient)[0]

    @classmethod
    def to_graphs(cls, crystals: Sequence[Crystal]) -> list[CHGNetGraph]:
        """Build the graphs of several structures, many at a time.

        Parameters
        ----------
        crystals
            The structures.

        Returns
        -------
        list[CHGNetGraph]
            What `to_graph` gives for each.
        """
        filled = np.cumsum([crystal.n_atoms for crystal in crystals]) // _ATOMS_AT_ONCE
        ends = [*(np.flatnonzero(np.diff(filled)) + 1).tolist(), len(crystals)]
        graphs: list[CHGNetGraph] = []
        for end in ends:
            graphs += chgnet_graphs(crystals[len(graphs) : end], merged=True)
        return graphs

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

        Only short bonds ever change, so all this goes from the basis in one product.
        """
        layers = [cast("AtomConv", convolution).bonds for convolution in self.atom_convs]
        first = torch.cat([layer.weight for layer in layers]) @ self.bond_embedding.weight
        weight = torch.cat([self.bond_weights.weight, first])
        bias = torch.cat([weight.new_zeros(FEATURE_DIM), *(layer.bias for layer in layers)])
        sizes = [FEATURE_DIM, *[2 * FEATURE_DIM] * len(layers)]
        return torch.split(product(basis, weight, bias), sizes, dim=1)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.atom_embedding.weight.dtype


def _edges(batch: Batch, bond_weights: Tensor) -> Edges:
    """Make edges; those added to round their number up have messages that count nought times."""
    neighbors, centers, bonds = map(padded, (*batch.edge_index, batch.edge_bond))
    return Edges(
        centers=centers,
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
        self.angles = Angles(
            firsts=firsts,
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


def _factors(weights: Tensor, bonds: Tensor, counts: Tensor) -> Tensor:
    """Multiply the weight of each message's bond by how often the message counts."""
    return weights.index_select(0, bonds).mul_(counts.to(weights.dtype)[:, None])
