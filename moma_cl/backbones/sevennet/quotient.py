"""The equivariant symmetry quotient: a crystal whose equivalent atoms and edges are computed once.

**Definition.** Let G be proper symmetry operations of a crystal. From each orbit of atoms one is
the *representative*; R_j is the rotation of an operation that maps the representative of atom j
onto j. The operations that leave a representative where it is are its *stabiliser*; the features of
degree l that all their rotations leave unchanged have an orthonormal basis, the columns of U_l. A
*class* of edges holds all edges that end at one representative i, begin at atoms of one orbit, and
have one length. Its *edge tensor* is, for each path (l₁, l_f, l₂),

    K = U_l₂(i)ᵀ · Σ_edges C(l₁, l_f, l₂) · Y_lf(r̂) · D_l₁(R_j) U_l₁(rep j),

with the Clebsch-Gordan coefficients C, the harmonics Y of the edge's direction r̂ from its end to
its beginning, and the Wigner matrix D of the rotation R_j of the atom j that it begins at.

**Why nothing changes.** Let layers be equivariant under rotations, as SevenNet's are. The features
of all atoms after any layer are a function of the crystal, which an operation of G maps onto itself
while it turns what it computes; hence h_j = D(R_j) h_rep(j), and a representative's features are
h = U z. A message C(w(r) h_j ⊗ Y(r̂)) is linear in h_j and in Y, and its weights w depend on the
length alone. So the sum over a class is the tensor product of w, K and the z of the representative,
and one message does for all its edges. Linear maps, gates and norms act on z as they do on h. Sums
over atoms are those over representatives weighted by the sizes of orbits.

Only proper operations count. SevenNet's features carry no parity: its harmonics of odd degree
change sign under an inversion, but so would features that a rotation alone may mix with even ones.
A crystal and its mirror image have different scalars from the third layer on, and so may atoms
that only a mirror maps onto each other.

Merging needs no symmetry to pay: without any, atoms are their own representatives, and only edges
between the same two atoms and of the same length are merged.

References
----------
Equivariance: Thomas et al., *Tensor field networks*, arXiv 1802.08219, section 3. Message passing:
Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv 2101.03164, equation 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.sevennet.angular import wigner_3j, wigner_matrices
from moma_cl.backbones.sevennet.edge_tensors import (
    class_tensors,
    edges_within,
    harmonics_of,
    orthonormal_bases,
)
from moma_cl.backbones.sevennet.paths import coupled_degrees
from moma_cl.backbones.symmetry import SymmetricCrystal

_SAME_LENGTH = 1e-9  # lengths this close are one, Å


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EquivariantQuotient:
    """Representatives of a crystal's atoms, and classes of the edges that end at them."""

    representatives: IntArray  # atoms of the crystal, shape (n_nodes,)
    nodes: IntArray  # node of each atom of the crystal, shape (n_atoms,)
    row_counts: IntArray  # rows of features of each node and degree, shape (n_nodes, degree + 1)
    edges: IntArray  # source, target and length of each class, by target, shape (3, n_classes)
    lengths: FloatArray  # shape (n_lengths,), Å
    tensors: FloatArray  # the edge tensors of classes one after another, shape (n_values,)

    @property
    def orbit_sizes(self) -> IntArray:
        """How many atoms each node stands for, shape ``(n_nodes,)``."""
        return np.bincount(self.nodes, minlength=len(self.representatives))


def equivariant_quotient(
    crystal: SymmetricCrystal, cutoff: float, degree: int, *, merged: bool = True
) -> EquivariantQuotient:
    """Merge what proper operations map onto each other, and edges that differ in direction only.

    Parameters
    ----------
    crystal
        The crystal and its operations, of which improper ones are left out.
    cutoff
        Largest length of an edge, Å.
    degree
        Largest degree of harmonics and features.
    merged
        Whether edges of a class are merged; without, each edge is a class of its own.

    Returns
    -------
    EquivariantQuotient
        The quotient.
    """
    proper = crystal.proper
    representatives, nodes, chosen = _orbits(proper.images)
    rotations = _cartesian(proper.lattice, proper.rotations)
    matrices = wigner_matrices(rotations, degree)
    stabilisers = (proper.images[:, representatives] == representatives).T.astype(np.float64)
    projections = stabilisers @ matrices / stabilisers.sum(axis=1)[:, None]
    bases, row_counts = orthonormal_bases(projections, degree)
    found = edges_within(proper.lattice, proper.frac_coords, representatives, cutoff)
    (sources, targets), vectors = found[:, :2].astype(np.int64).T, found[:, 2:]
    distances = np.sqrt((vectors**2).sum(axis=1))
    lengths, length_of = _lengths(distances)
    order, starts = _classes(targets, nodes[sources], sources, length_of, merged=merged)
    first = order[starts[:-1]]
    edges = np.stack([nodes[sources[first]], targets[first], length_of[first]])
    tensors = class_tensors(
        order,
        starts,
        sources,
        harmonics_of(vectors / distances[:, None], degree),
        edges,
        (matrices, chosen, bases, row_counts),
        _couplings(degree),
    )
    return EquivariantQuotient(
        representatives=representatives,
        nodes=nodes,
        row_counts=row_counts,
        edges=edges,
        lengths=lengths,
        tensors=tensors,
    )


def _orbits(images: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Give representatives, the node of each atom, and an operation that maps its node onto it."""
    lowest = images.min(axis=0)
    representatives = np.unique(lowest)
    nodes = np.searchsorted(representatives, lowest)
    atoms = np.arange(images.shape[1])
    return representatives, nodes, np.argmax(images[:, lowest] == atoms, axis=0)


def _cartesian(lattice: FloatArray, rotations: IntArray) -> FloatArray:
    """Give rotations as they turn vectors in space, shape ``(n_rotations, 3, 3)``."""
    turned: FloatArray = lattice.T @ rotations @ np.linalg.inv(lattice.T)
    return turned


def _classes(
    targets: IntArray, nodes: IntArray, sources: IntArray, lengths: IntArray, *, merged: bool
) -> tuple[IntArray, IntArray]:
    """Sort edges by class, and within one by source, and give where each class starts."""
    order = np.lexsort((sources, lengths, nodes, targets))
    if not merged:
        return order, np.arange(len(order) + 1)
    keys = np.stack([targets, nodes, lengths])[:, order]
    new = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    starts = np.concatenate([[0], new, [len(order)]]) if len(order) else np.zeros(1, dtype=np.int64)
    return order, starts


def _lengths(distances: FloatArray) -> tuple[FloatArray, IntArray]:
    """Give the distinct lengths, and the number of each distance's, shape ``(n_edges,)``."""
    order = np.argsort(distances, kind="stable")
    numbers = np.zeros(len(order), dtype=np.int64)
    numbers[order[1:]] = np.cumsum(np.diff(distances[order]) > _SAME_LENGTH)
    counts = np.bincount(numbers)
    return np.bincount(numbers, distances) / counts, numbers


@cache
def _couplings(degree: int) -> tuple[IntArray, FloatArray, IntArray]:
    """List the coefficients of all paths that are not zero.

    They are √(2l₂ + 1) times the 3j symbol, as tensor products of e3nn normalise components. What
    comes back are (l₁, l₂, first coefficient) of each path and where the last path's end, shape
    ``(n_paths + 1, 3)``, the coefficients, and (m₁, component of all harmonics, m₂) of each, shape
    ``(n, 3)``.
    """
    paths, values, places = [], [], []
    count = 0
    for first, factor, second in coupled_degrees(degree):
        coupling = wigner_3j(first, factor, second) * np.sqrt(2 * second + 1)
        place = np.argwhere(np.abs(coupling) > 1e-12)
        paths.append((first, second, count))
        values.append(coupling[tuple(place.T)])
        places.append(place + np.array([0, factor * factor, 0]))
        count += len(place)
    paths.append((0, 0, count))
    return np.array(paths), np.concatenate(values), np.concatenate(places)
