"""CHGNet's graph of a crystal: atoms, bonds and the angles between short bonds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.base import CrystalGraph
from moma_cl.backbones.graph_arrays import Graphs, Kind
from moma_cl.backbones.neighbors import Neighbors, find_neighbors, joined, pair_directions
from moma_cl.backbones.quotient import merge, unmerged
from moma_cl.structures.crystals import Crystal

BOND_CUTOFF = 6.0
"""Largest length of a bond, Å."""

ANGLE_CUTOFF = 3.0
"""Largest length of the two bonds of an angle, Å."""

# Keeps the arc cosine of straight angles differentiable; CHGNet was trained with it.
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
        Other and first bond of each angle as positions in ``short_bond``, shape ``(2, n_angles)``.
        The first bond receives the message.
    angle_vertex
        Node at the vertex of each angle, shape ``(n_angles,)``.
    angle
        Angle between the bonds, shape ``(n_angles,)``, rad.
    edge_weight
        How often each edge's message counts at its centre, shape ``(n_edges,)``.
    angle_weight
        How often each angle's message counts at its first bond, shape ``(n_angles,)``.
    """

    counted_by: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "edge_index": "atomic_numbers",
            "edge_bond": "bond_length",
            "short_bond": "bond_length",
            "angle_index": "short_bond",
            "angle_vertex": "atomic_numbers",
        }
    )


KINDS = MappingProxyType(
    {
        "angles": Kind(
            values=("angle",),
            references={"angle_index": "short bonds", "angle_vertex": "atoms"},
            summed="angle_index",
            weight="angle_weight",
        ),
        "short bonds": Kind(references={"short_bond": "bonds"}, summed="short_bond"),
        "bonds": Kind(values=("bond_length",)),
        "edges": Kind(
            references={"edge_index": "atoms", "edge_bond": "bonds"},
            summed="edge_index",
            weight="edge_weight",
        ),
        "atoms": Kind(codes=("atomic_numbers",), weight="node_weight"),
    }
)
"""The kinds of members of a graph, for the symmetry quotient, in the order messages pass."""


def chgnet_graphs(crystals: Sequence[Crystal], *, merged: bool) -> list[CHGNetGraph]:
    """Build CHGNet's graph of each structure, if ``merged`` then its symmetry quotient."""
    if not crystals:
        return []
    graphs = (merge if merged else unmerged)(whole_graphs(crystals), KINDS)
    return [CHGNetGraph.of(attributes) for attributes in graphs.split(KINDS)]


def whole_graphs(crystals: Sequence[Crystal]) -> Graphs:
    """Describe all atoms, bonds, edges and angles of structures, without weights.

    Cutoffs act on the structures as given; lengths and angles come from the lattice and the
    coordinates rounded to float32, as in the package the parameters were trained with.
    """
    n_atoms = np.array([crystal.n_atoms for crystal in crystals])
    neighbors = [find_neighbors(crystal, BOND_CUTOFF) for crystal in crystals]
    edges, bonds, first = pair_directions(joined(neighbors, n_atoms))
    owners = np.repeat(np.arange(len(crystals)), n_atoms)
    vectors = _vectors(crystals, owners, edges)
    lengths = np.linalg.norm(vectors, axis=1)
    pairs = _angle_edges(edges, edges.distances[first][bonds])
    directions = vectors / lengths[:, None]
    cosines = np.einsum("ad,ad->a", directions[pairs[0]], directions[pairs[1]])
    short, angle_index = np.unique(bonds[pairs], return_inverse=True)
    vertices = edges.centers[pairs[1]]
    bond_atoms = edges.centers[first]
    members = {
        "angles": vertices,
        "short bonds": bond_atoms[short],
        "bonds": bond_atoms,
        "edges": edges.centers,
        "atoms": np.arange(len(owners)),
    }
    return Graphs(
        arrays={
            "atomic_numbers": np.concatenate([c.atomic_numbers for c in crystals], dtype=np.int64),
            "edge_index": np.stack([edges.neighbors, edges.centers]),
            "edge_bond": bonds,
            "bond_length": lengths[first],
            "short_bond": short,
            "angle_index": angle_index.reshape(2, -1),
            "angle_vertex": vertices,
            "angle": np.arccos(cosines * _COSINE_SCALE),
        },
        counts={
            kind: np.bincount(owners[atoms], minlength=len(crystals))
            for kind, atoms in members.items()
        },
    )


def _vectors(crystals: Sequence[Crystal], owners: IntArray, edges: Neighbors) -> FloatArray:
    """Give the vectors from neighbour to centre, shape ``(n_edges, 3)``, Å."""
    lattices = _rounded(np.stack([crystal.lattice for crystal in crystals]))
    coordinates = [_rounded(crystal.frac_coords) for crystal in crystals]
    positions = np.concatenate(
        [sites @ lattice for sites, lattice in zip(coordinates, lattices, strict=True)]
    )
    images = np.einsum("ei,eij->ej", edges.images, lattices[owners[edges.centers]])
    vectors: FloatArray = positions[edges.centers] - (positions[edges.neighbors] + images)
    return vectors


def _rounded(values: FloatArray) -> FloatArray:
    return values.astype(np.float32).astype(np.float64)


def _angle_edges(edges: Neighbors, bond_distances: FloatArray) -> IntArray:
    """Give the pairs (other, first) of short edges around each atom, shape ``(2, n_angles)``.

    The first edge may be exactly as long as the cutoff and the other may not, because CHGNet
    compares the first with ≤ and the other with <. The length of a bond is that of its first edge.
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
