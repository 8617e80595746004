"""SevenNet's graph of a crystal: its equivariant symmetry quotient."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch

from moma_cl.backbones.base import CrystalGraph
from moma_cl.backbones.neighbors import find_neighbors
from moma_cl.backbones.sevennet.paths import n_values
from moma_cl.backbones.sevennet.quotient import equivariant_quotient
from moma_cl.backbones.symmetry import symmetrise, unsymmetric
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.lattices import heights

_VALUES_OF_AN_EDGE = 60  # numbers that take the memory of one edge or angle of CHGNet


class SevenNetGraph(CrystalGraph):
    """Representatives of atoms, and classes of edges with the tensors that hold their geometry.

    Attributes
    ----------
    atomic_numbers
        Element of each node, shape ``(n_nodes,)``.
    node_weight
        Atoms of the cell that each node stands for, shape ``(n_nodes,)``.
    row_counts
        Rows of features of each node and degree, shape ``(n_nodes, degree + 1)``.
    edge_index
        Source and target of each class of edges, shape ``(2, n_edges)``, sorted by target.
    edge_distance
        Position of the length of each class in ``distance``, shape ``(n_edges,)``.
    distance
        Distinct lengths, shape ``(n_distances,)``, Å, in float64.
    edge_tensor
        The edge tensors of classes one after another, shape ``(n_values,)``.
    """

    counted_by: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"edge_index": "atomic_numbers", "edge_distance": "distance"}
    )

    @property
    def load(self) -> int:
        """What fills the memory, in weights of one length: 960 numbers, or 1,800 in degree 3."""
        per_node, per_value = 4, 1000
        n_lengths, n_nodes = len(self.distance), len(self.atomic_numbers)
        return n_lengths + per_node * n_nodes + len(self.edge_tensor) // per_value


def graph_size(crystal: Crystal, cutoff: float, degree: int, enough: int) -> int:
    """Count edges as `moma_cl.backbones.base.Backbone.graph_size` says, by what their tensors hold.

    Parameters
    ----------
    crystal
        The structure.
    cutoff
        Largest length of an edge, Å.
    degree
        Largest degree of the harmonics.
    enough
        Up to here the number may be any bound.

    Returns
    -------
    int
        The number of edges, each counted as often as its tensor is as large as an edge of CHGNet.
    """
    weight = -(-n_values(degree) // _VALUES_OF_AN_EDGE)
    images = int(np.prod(np.floor(2 * cutoff / heights(crystal.lattice)) + 1))
    bound = weight * crystal.n_atoms**2 * images
    return bound if bound <= enough else weight * len(find_neighbors(crystal, cutoff))


def sevennet_graph(
    crystal: Crystal, cutoff: float, degree: int, *, merged: bool, dtype: torch.dtype
) -> SevenNetGraph:
    """Build the graph of one structure, if ``merged`` then its symmetry quotient.

    Parameters
    ----------
    crystal
        The structure.
    cutoff
        Largest length of an edge, Å.
    degree
        Largest degree of the harmonics.
    merged
        Whether to use symmetry, and to merge edges.
    dtype
        Precision of the edge tensors.

    Returns
    -------
    SevenNetGraph
        The graph.
    """
    symmetric = symmetrise(crystal) if merged else unsymmetric(crystal)
    quotient = equivariant_quotient(symmetric, cutoff, degree, merged=merged)
    weights = quotient.orbit_sizes * symmetric.n_cells
    tensors = torch.from_numpy(quotient.tensors)
    return SevenNetGraph.of(
        {
            "atomic_numbers": torch.from_numpy(symmetric.atomic_numbers[quotient.representatives]),
            "node_weight": torch.from_numpy(weights.astype(np.float32)),
            "row_counts": torch.from_numpy(quotient.row_counts),
            "edge_index": torch.from_numpy(quotient.edges[:2].copy()),
            "edge_distance": torch.from_numpy(quotient.edges[2].copy()),
            "distance": torch.from_numpy(quotient.lengths),
            "edge_tensor": tensors.to(dtype),
        }
    )
