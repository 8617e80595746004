"""CHGNet's graph of a crystal: atoms, bonds and the angles between short bonds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.base import CrystalGraph
from moma_cl.backbones.graph_arrays import Graphs, Kind
from moma_cl.backbones.neighbors import Neighbors, find_neighbors, joined, pair_directions
from moma_cl.backbones.quotient import merge, unmerged
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.lattices import heights

BOND_CUTOFF = 6.0
"""Largest length of a bond, Å."""

ANGLE_CUTOFF = 3.0
"""Largest length of the two bonds of an angle, Å."""

# Edges and angles that are built together, which bounds the memory: some 200 bytes for each.
_SIZE_AT_ONCE = 1_000_000

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


def graph_size(crystal: Crystal, enough: int) -> int:
    """Count edges and angles as `moma_cl.backbones.base.Backbone.graph_size` says."""
    n_atoms, thickness = crystal.n_atoms, heights(crystal.lattice)
    # within a radius of an atom there are at most so many images of another
    near, far = (
        n_atoms * int(np.prod(np.floor(2 * radius / thickness) + 1))
        for radius in (ANGLE_CUTOFF, BOND_CUTOFF)
    )
    bound = n_atoms * (near**2 + far)
    if bound <= enough:
        return bound
    n_angles = _n_angles(find_neighbors(crystal, ANGLE_CUTOFF))
    return n_angles if n_angles > enough else n_angles + len(find_neighbors(crystal, BOND_CUTOFF))


def _n_angles(neighbors: Neighbors) -> int:
    """Count the ordered pairs of short edges around each atom."""
    n_short = np.bincount(neighbors.centers[neighbors.distances <= ANGLE_CUTOFF])
    return int((n_short * (n_short - 1)).sum())


def chgnet_graphs(crystals: Sequence[Crystal], *, merged: bool) -> list[CHGNetGraph]:
    """Build CHGNet's graph of each structure, if ``merged`` then its symmetry quotient."""
    neighbors = [find_neighbors(crystal, BOND_CUTOFF) for crystal in crystals]
    filled = np.cumsum([len(part) + _n_angles(part) for part in neighbors]) // _SIZE_AT_ONCE
    starts = [0, *(np.flatnonzero(np.diff(filled)) + 1).tolist(), len(crystals)]
    graphs: list[CHGNetGraph] = []
    for start, end in pairwise(starts if crystals else []):
        whole = whole_graphs(crystals[start:end], neighbors[start:end])
        attributes = (merge if merged else unmerged)(whole, KINDS).split(KINDS)
        graphs += [CHGNetGraph.of(tensors) for tensors in attributes]
    return graphs


def whole_graphs(crystals: Sequence[Crystal], neighbors: Sequence[Neighbors]) -> Graphs:
    """Describe all atoms, bonds, edges and angles of structures, without weights.

    Cutoffs act on the structures as given, whose ``neighbors`` are those within `BOND_CUTOFF`;
    lengths and angles come from the lattice and the coordinates rounded to float32, as in the
    package the parameters were trained with.
    """
    n_atoms = np.array([crystal.n_atoms for crystal in crystals])
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
