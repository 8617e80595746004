"""CGCNN on PyTorch Geometric's ``CGConv``: small, not trained, with the same bits everywhere."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import CGConv

from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.backbones.graph_arrays import Graphs, Kind
from moma_cl.backbones.neighbors import Neighbors, find_neighbors
from moma_cl.backbones.quotient import merge, unmerged
from moma_cl.core.pyg import Batch
from moma_cl.structures.crystals import Crystal

BOND_CUTOFF = 8.0
"""Largest distance of a neighbour, Å."""

N_NEIGHBORS = 12
"""Neighbours of an atom; more where several are as far away as the last."""

N_ELEMENTS = 100
"""Largest atomic number, fermium's."""

# Distances closer than this belong to one shell, which is taken whole or not at all, Å.
_SHELL = 0.01
# Distance and width of the Gaussian functions of a length, Å.
_WIDTH = 0.2
_SEED = 2018


class CGCNNGraph(CrystalGraph):
    """Atoms and directed edges from their nearest neighbours.

    Attributes
    ----------
    atomic_numbers
        Element of each node, shape ``(n_nodes,)``.
    node_weight
        Atoms of the cell that each node stands for, shape ``(n_nodes,)``.
    edge_index
        Neighbour and centre of each edge, shape ``(2, n_edges)``.
    edge_length
        Length of each edge, float64, shape ``(n_edges,)``, Å.
    edge_weight
        How often each edge's message counts at its centre, shape ``(n_edges,)``.
    """


KINDS = MappingProxyType(
    {
        "edges": Kind(
            values=("edge_length",),
            references={"edge_index": "atoms"},
            summed="edge_index",
            weight="edge_weight",
        ),
        "atoms": Kind(codes=("atomic_numbers",), weight="node_weight"),
    }
)
"""The kinds of members of a graph, for the symmetry quotient, in the order messages pass."""


class WeightedCGConv(CGConv):  # type: ignore[misc]  # torch_geometric is untyped
    """A crystal graph convolution whose messages are averaged by weight.

    v_i ← v_i + Σ_e w_e σ(z_e W_f + b_f) ⊙ g(z_e W_s + b_s) / Σ_e w_e over the edges e of atom i,
    where z_e are the features of both atoms and the edge, and g is softplus.

    References
    ----------
    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), arXiv 1710.10324, equation 5.
    """

    def forward(
        self, features: Tensor, edge_index: Tensor, lengths: Tensor, weight: Tensor
    ) -> Tensor:
        """Update the node features, shape ``(n_nodes, feature_dim)``.

        ``edge_index``, shape ``(2, n_edges)``, has the neighbour and the centre of each edge;
        ``lengths``, shape ``(n_edges, n_gaussians)``, Gaussian functions of its length; ``weight``,
        shape ``(n_edges,)``, how often its message counts.
        """
        neighbors, centers = edge_index
        total = weight.new_zeros(len(features)).index_add(0, centers, weight)
        share = weight / total.index_select(0, centers)
        ends = (features.index_select(0, end) for end in (centers, neighbors))
        messages = self.message(*ends, lengths) * share[:, None]
        updated: Tensor = features.index_add(0, centers, messages)
        return updated

    # torch_geometric would generate one, in a file that stays in the temporary folder
    propagate = forward


class CGCNNBackbone(Backbone):
    """Crystal graph convolutional network, initialised from a fixed seed.

    Messages are averaged over an atom's neighbours and nothing is normalised over the batch, so
    that a structure has the same features in any batch.
    """

    name: ClassVar[str] = "cgcnn"
    version: ClassVar[str] = "1"
    graph_version: ClassVar[int] = 2
    feature_dim: ClassVar[int] = 64
    n_blocks: ClassVar[int] = 3
    elements: ClassVar[frozenset[int]] = frozenset(range(1, N_ELEMENTS + 1))
    graph_class: ClassVar[type[CGCNNGraph]] = CGCNNGraph

    centers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centers", torch.arange(0.0, BOND_CUTOFF + _WIDTH / 2, _WIDTH))
        self.embedding = nn.Embedding(N_ELEMENTS, self.feature_dim)
        self.convolutions = nn.ModuleList(
            [
                WeightedCGConv(self.feature_dim, dim=len(self.centers), aggr="add")
                for _ in range(self.n_blocks)
            ]
        )

    @classmethod
    def pretrained(cls) -> Self:
        """Make the network and draw its parameters, which are the same every time."""
        backbone = cls.empty()
        generator = torch.Generator().manual_seed(_SEED)
        fan_in = 2 * cls.feature_dim + len(backbone.centers)
        bound = 1.0 / math.sqrt(fan_in)
        with torch.no_grad():
            for parameter in backbone.convolutions.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
            backbone.embedding.weight.normal_(generator=generator)
        return backbone

    @classmethod
    def to_graph(cls, crystal: Crystal, *, quotient: bool = True) -> CGCNNGraph:
        """Build the graph of one structure: its atoms and their nearest neighbours.

        The symmetry quotient, if taken, leaves the features of atoms as they are.
        """
        division = merge if quotient else unmerged
        (attributes,) = division(_whole_graph(crystal), KINDS).split(KINDS)
        return CGCNNGraph.of(attributes)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs; a block is a convolution."""
        lengths = batch.edge_length.to(self.centers.dtype)
        weight = batch.edge_weight.to(lengths.dtype)
        gaussians = torch.exp(-(((lengths[:, None] - self.centers) / _WIDTH) ** 2))
        features = self.embedding(batch.atomic_numbers - 1)
        blocks: list[Tensor] = []
        for block, convolution in enumerate(self.convolutions):
            features = convolution(features, batch.edge_index, gaussians, weight)
            features = self.adapt(block, features)
            blocks.append(features)
        return blocks


def _whole_graph(crystal: Crystal) -> Graphs:
    """Describe all atoms and the edges from their nearest neighbours."""
    pairs = find_neighbors(crystal, BOND_CUTOFF)
    edges = pairs.subset(_nearest(pairs, crystal.n_atoms))
    return Graphs(
        arrays={
            "atomic_numbers": crystal.atomic_numbers.astype(np.int64),
            "edge_index": np.stack([edges.neighbors, edges.centers]),
            "edge_length": edges.distances,
        },
        counts={"edges": np.array([len(edges)]), "atoms": np.array([crystal.n_atoms])},
    )


def _nearest(pairs: Neighbors, n_atoms: int) -> NDArray[np.bool_]:
    """Choose the nearest neighbours of each atom, whole shells at a time, shape ``(n_pairs,)``."""
    order = np.lexsort((pairs.distances, pairs.centers))
    counts = np.bincount(pairs.centers, minlength=n_atoms)
    starts = np.cumsum(counts) - counts
    # an atom without neighbours has no last one, and its limit is never used
    last = starts + np.minimum(counts, N_NEIGHBORS) - 1
    limits = pairs.distances[order][last.clip(min=0)] if len(order) else np.zeros(n_atoms)
    chosen: NDArray[np.bool_] = pairs.distances <= limits[pairs.centers] + _SHELL
    return chosen
