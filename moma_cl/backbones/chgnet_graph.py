"""From a crystal to CHGNet's graph: atoms, bonds and the angles between short bonds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch

from moma_cl.backbones.base import CrystalGraph
from moma_cl.backbones.neighbors import Neighbors, find_neighbors, pair_directions
from moma_cl.structures.crystals import Crystal, FloatArray, IntArray

BOND_CUTOFF = 6.0
"""Largest length of a bond, Å."""

ANGLE_CUTOFF = 3.0
"""Largest length of the two bonds of an angle, Å."""

# Keeps the arc cosine of straight angles differentiable; part of what CHGNet was trained with.
_COSINE_SCALE = 1.0 - 1e-6


class CHGNetGraph(CrystalGraph):
    """Atoms, directed edges that share undirected bonds, and angles between *short* bonds.

    A bond is short if an angle contains it. Lengths and angles are kept in float64 and cast by the
    forward pass, so that one graph serves both precisions.

    Attributes
    ----------
    atomic_numbers
        Element of each node, shape ``(n_nodes,)``.
    node_weight
        Atoms of the cell that each node stands for, shape ``(n_nodes,)``.
    edge_index
        Neighbour and centre of each directed edge, shape ``(2, n_edges)``.
    edge_bond
        Undirected bond of each edge, shape ``(n_edges,)``.
    bond_length
        Length of each bond, shape ``(n_bonds,)``, Å.
    short_bond
        Bonds that take part in angles, shape ``(n_short,)``.
    angle_index
        Other and first bond of each angle as positions in ``short_bond``; the first receives the
        message, shape ``(2, n_angles)``.
    angle_node
        Node at the vertex of each angle, shape ``(n_angles,)``.
    angle
        Angle between the bonds, shape ``(n_angles,)``, rad.
    edge_weight
        Optional multiplicity of each edge's message, shape ``(n_edges,)``.
    angle_weight
        Optional multiplicity of each angle's message, shape ``(n_angles,)``.
    """

    counted_by: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "edge_index": "atomic_numbers",
            "edge_bond": "bond_length",
            "short_bond": "bond_length",
            "angle_index": "short_bond",
            "angle_node": "atomic_numbers",
        }
    )


def chgnet_graph(crystal: Crystal) -> CHGNetGraph:
    """Build CHGNet's graph of one structure.

    Cutoffs act on the structure as given; lengths and angles come from the lattice and the
    coordinates rounded to float32, as in the package the parameters were trained with.

    Parameters
    ----------
    crystal
        The structure; an atom without neighbours, or no edge at all, is allowed.

    Returns
    -------
    CHGNetGraph
        Its graph.
    """
    edges, bonds, first = pair_directions(find_neighbors(crystal, BOND_CUTOFF))
    vectors = _vectors(crystal, edges)
    lengths = np.linalg.norm(vectors, axis=1)
    pairs = _angle_edges(edges, edges.distances[first][bonds])
    directions = vectors / lengths[:, None]
    cosines = np.einsum("ad,ad->a", directions[pairs[0]], directions[pairs[1]])
    short, angle_index = np.unique(bonds[pairs], return_inverse=True)
    return CHGNetGraph(
        atomic_numbers=torch.tensor(crystal.atomic_numbers, dtype=torch.int64),
        node_weight=torch.ones(crystal.n_atoms),
        edge_index=torch.from_numpy(np.stack([edges.neighbors, edges.centers])),
        edge_bond=torch.from_numpy(bonds),
        bond_length=torch.from_numpy(lengths[first]),
        short_bond=torch.from_numpy(short),
        angle_index=torch.from_numpy(angle_index.reshape(2, -1)),
        angle_node=torch.from_numpy(edges.centers[pairs[1]]),
        angle=torch.from_numpy(np.arccos(cosines * _COSINE_SCALE)),
    )


def _vectors(crystal: Crystal, edges: Neighbors) -> FloatArray:
    """Vectors from neighbour to centre, shape ``(n_edges, 3)``, Å."""
    lattice = crystal.lattice.astype(np.float32).astype(np.float64)
    positions = crystal.frac_coords.astype(np.float32).astype(np.float64) @ lattice
    images = edges.images.astype(np.float64) @ lattice
    vectors: FloatArray = positions[edges.centers] - (positions[edges.neighbors] + images)
    return vectors


def _angle_edges(edges: Neighbors, bond_distances: FloatArray) -> IntArray:
    """Ordered pairs (other, first) of short edges around one atom, shape ``(2, n_angles)``.

    The first edge may be exactly as long as the cutoff, the other may not: CHGNet compares them
    differently, and the length of a bond is that of its first direction.
    """
    candidates = np.flatnonzero((bond_distances <= ANGLE_CUTOFF) | (edges.distances < ANGLE_CUTOFF))
    centers = edges.centers[candidates]
    # edges are grouped by centre, so the partners of an edge are a run of candidates
    start = np.searchsorted(centers, centers, side="left")
    count = np.searchsorted(centers, centers, side="right") - start
    first = np.repeat(np.arange(len(candidates)), count)
    run_start = np.cumsum(count) - count
    other = np.arange(len(first)) - np.repeat(run_start, count) + np.repeat(start, count)
    pairs = candidates[np.stack([other, first])]
    valid = (
        (pairs[0] != pairs[1])
        & (edges.distances[pairs[0]] < ANGLE_CUTOFF)
        & (bond_distances[pairs[1]] <= ANGLE_CUTOFF)
    )
    kept: IntArray = pairs[:, valid]
    return kept
