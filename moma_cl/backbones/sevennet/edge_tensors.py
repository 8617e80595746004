"""The compiled steps of the equivariant quotient: edges, rotations of harmonics, edge tensors.

`moma_cl.backbones.sevennet.quotient` says what they are for, and defines the symbols. Matrices of
all degrees lie one after another in a row of Σ (2l + 1)² numbers; degree l starts at l(4l² - 1)/3.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.core.compiled import compiled

Symmetry: TypeAlias = tuple[FloatArray, IntArray, FloatArray, IntArray]
Couplings: TypeAlias = tuple[IntArray, FloatArray, IntArray]

_SAME_PLACE = 1e-8  # an edge shorter than this leads from an atom to itself, Å
_INDEPENDENT = 1e-4  # columns of a projection whose rest is shorter depend on those before
_MOST_ROWS = 7  # 2l + 1 for degree 3


@compiled
def edges_within(
    lattice: FloatArray, coords: FloatArray, representatives: IntArray, cutoff: float
) -> FloatArray:
    """Find the edges that end at representatives.

    A row has the source, the number of the target, and the vector from the target to the source, Å;
    shape ``(n_edges, 5)``. With lower triangular lattice vectors, the cells in reach are those of
    an interval for each axis in turn (Fincke and Pohst, Math. Comput. 44, 463, 1985).
    """
    edges = np.empty((64, 5))
    count = 0
    for target in range(len(representatives)):
        for source in range(len(coords)):
            away = coords[source] - coords[representatives[target]]
            for k in _cells(away[2], cutoff, lattice[2, 2]):
                z = (away[2] + k) * lattice[2, 2]
                across = away[1] + (away[2] + k) * lattice[2, 1] / lattice[1, 1]
                for j in _cells(across, _rest(cutoff, 0.0, z), lattice[1, 1]):
                    y = (across + j) * lattice[1, 1]
                    shift = (away[2] + k) * lattice[2, 0] + (away[1] + j) * lattice[1, 0]
                    along = away[0] + shift / lattice[0, 0]
                    for i in _cells(along, _rest(cutoff, y, z), lattice[0, 0]):
                        x = (along + i) * lattice[0, 0]
                        square = x * x + y * y + z * z
                        if square > cutoff * cutoff or square < _SAME_PLACE**2:
                            continue
                        if count == len(edges):
                            edges = _doubled(edges)
                        edges[count, 0], edges[count, 1] = source, target
                        edges[count, 2], edges[count, 3], edges[count, 4] = x, y, z
                        count += 1
    return edges[:count]


@compiled
def _cells(place: float, reach: float, length: float) -> range:
    """List the whole numbers n with |place + n| · |length| ≤ reach."""
    most = reach / abs(length)
    return range(int(np.ceil(-most - place)), int(np.floor(most - place)) + 1)


@compiled
def _rest(cutoff: float, y: float, z: float) -> float:
    """Give how far a vector with these components may reach along the axis that is left."""
    return math.sqrt(max(0.0, cutoff * cutoff - y * y - z * z))


@compiled
def _doubled(values: FloatArray) -> FloatArray:
    """Copy rows into twice as many."""
    larger = np.empty((2 * len(values), values.shape[1]))
    for row in range(len(values)):
        larger[row] = values[row]
    return larger


@compiled
def harmonics(x: float, y: float, z: float, degree: int, values: FloatArray) -> None:
    """Write Y_0 to Y_degree of a unit vector one after another into ``values``.

    The formulas are the usual real ones with the axes (z, x, y) in the place of (x, y, z). The
    values have shape ``((degree + 1) ** 2,)``.
    """
    values[0] = 1.0
    if degree < 1:
        return
    root = math.sqrt(3.0)
    values[1], values[2], values[3] = root * x, root * y, root * z
    if degree < 2:
        return
    side = x * x + z * z
    root = math.sqrt(15.0)
    values[4] = root * x * z
    values[5] = root * x * y
    values[6] = math.sqrt(5.0) * (y * y - 0.5 * side)
    values[7] = root * y * z
    values[8] = 0.5 * root * (z * z - x * x)
    if degree < 3:
        return
    root = math.sqrt(35.0 / 8.0)
    values[9] = root * x * (3.0 * z * z - x * x)
    values[10] = math.sqrt(105.0) * x * y * z
    values[11] = math.sqrt(21.0 / 8.0) * x * (4.0 * y * y - side)
    values[12] = 0.5 * math.sqrt(7.0) * y * (2.0 * y * y - 3.0 * side)
    values[13] = math.sqrt(21.0 / 8.0) * z * (4.0 * y * y - side)
    values[14] = 0.5 * math.sqrt(105.0) * y * (z * z - x * x)
    values[15] = root * z * (z * z - 3.0 * x * x)


@compiled
def harmonics_of(directions: FloatArray, degree: int) -> FloatArray:
    """Compute Y_0 to Y_degree of unit vectors, shape ``(n, 3)``; ``(n, (degree + 1) ** 2)``."""
    values = np.empty((len(directions), (degree + 1) ** 2))
    for row in range(len(directions)):
        harmonics(directions[row, 0], directions[row, 1], directions[row, 2], degree, values[row])
    return values


@compiled
def _start(degree: int) -> int:
    """Give where the matrices of a degree start."""
    return degree * (4 * degree * degree - 1) // 3


@compiled
def orthonormal_bases(projections: FloatArray, largest: int) -> tuple[FloatArray, IntArray]:
    """Find orthonormal bases of what projections, of all degrees up to the largest, leave.

    The columns of each are made orthonormal by the method of Gram and Schmidt, the longest that is
    left first. What comes back are matrices like the projections, of which the first columns count,
    and how many columns count, shape ``(n, largest + 1)``. Projections are overwritten.
    """
    bases = np.zeros(projections.shape)
    counts = np.empty((len(projections), largest + 1), dtype=np.int64)
    for number in range(len(projections)):
        for degree in range(largest + 1):
            n, start = 2 * degree + 1, _start(degree)
            counts[number, degree] = _orthonormal(
                projections[number, start : start + n * n].reshape(n, n),
                bases[number, start : start + n * n].reshape(n, n),
            )
    return bases, counts


@compiled
def _orthonormal(projection: FloatArray, basis: FloatArray) -> int:
    """Write an orthonormal basis of the columns of a projection, and give how many there are."""
    n = len(projection)
    for count in range(n):
        longest, best = _INDEPENDENT**2, -1
        for column in range(n):
            square = _product(projection, column, projection, column)
            if square > longest * (1.0 + 1e-6):  # of equal ones the first, whatever the rounding
                longest, best = square, column
        if best < 0:
            return count
        for row in range(n):
            basis[row, count] = projection[row, best] / math.sqrt(longest)
        for column in range(n):
            shared = _product(basis, count, projection, column)
            for row in range(n):
                projection[row, column] -= shared * basis[row, count]
    return n


@compiled
def _product(one: FloatArray, column: int, other: FloatArray, other_column: int) -> float:
    """Multiply a column of a matrix by one of another."""
    total = 0.0
    for row in range(len(one)):
        total += one[row, column] * other[row, other_column]
    return total


@compiled
def class_tensors(  # noqa: PLR0917  compiled code takes no keywords
    order: IntArray,
    starts: IntArray,
    sources: IntArray,
    harmonic: FloatArray,
    edges: IntArray,
    symmetry: Symmetry,
    couplings: Couplings,
) -> FloatArray:
    """Add up the edge tensors of classes, shape ``(n_values,)``.

    Edges, whose harmonics are given, are visited in an order; a class holds those from one start to
    the next. ``symmetry`` holds the Wigner matrices of operations, the operation that maps a
    representative onto each atom, the bases of representatives and their numbers of columns.
    """
    matrices, chosen, bases, counts = symmetry
    paths, coefficients, places = couplings
    tensors = np.empty(_n_values(edges, counts, paths))
    total = np.empty(harmonic.shape[1])
    sums = np.empty((len(paths) - 1, _MOST_ROWS, _MOST_ROWS))
    turned = np.empty(matrices.shape[1])
    at = 0
    for number in range(len(starts) - 1):
        node = edges[0, number]
        sums[:] = 0.0
        edge = starts[number]
        while edge < starts[number + 1]:
            source = sources[order[edge]]
            total[:] = 0.0
            while edge < starts[number + 1] and sources[order[edge]] == source:
                total += harmonic[order[edge]]
                edge += 1
            _turn(matrices[chosen[source]], bases[node], counts[node], turned)
            _add_coupled(total, turned, counts[node], paths, coefficients, places, sums)
        at = _write(sums, bases, counts, edges[1, number], node, paths, tensors, at)
    return tensors


@compiled
def _n_values(edges: IntArray, counts: IntArray, paths: IntArray) -> int:
    total = 0
    for number in range(edges.shape[1]):
        for path in paths[:-1]:
            total += counts[edges[0, number], path[0]] * counts[edges[1, number], path[1]]
    return total


@compiled
def _turn(matrix: FloatArray, basis: FloatArray, counts: IntArray, turned: FloatArray) -> None:
    """Multiply the Wigner matrices of an operation by the bases of the atom that it moves."""
    for degree in range(len(counts)):
        n, start = 2 * degree + 1, _start(degree)
        for row in range(n):
            for column in range(counts[degree]):
                value = 0.0
                for k in range(n):
                    value += matrix[start + row * n + k] * basis[start + k * n + column]
                turned[start + row * n + column] = value


@compiled
def _add_coupled(  # noqa: PLR0917
    harmonic: FloatArray,
    turned: FloatArray,
    counts: IntArray,
    paths: IntArray,
    coefficients: FloatArray,
    places: IntArray,
    sums: FloatArray,
) -> None:
    """Add the coupled harmonics of edges from one atom, for each path."""
    for path in range(len(paths) - 1):
        degree = paths[path, 0]
        n, start = 2 * degree + 1, _start(degree)
        for place in range(paths[path, 2], paths[path + 1, 2]):
            factor = coefficients[place] * harmonic[places[place, 1]]
            row = start + places[place, 0] * n
            for column in range(counts[degree]):
                sums[path, places[place, 2], column] += factor * turned[row + column]


@compiled
def _write(  # noqa: PLR0917
    sums: FloatArray,
    bases: FloatArray,
    counts: IntArray,
    target: int,
    source: int,
    paths: IntArray,
    tensors: FloatArray,
    at: int,
) -> int:
    """Write the edge tensor of a class in the basis of its target, and give where the next is."""
    for path in range(len(paths) - 1):
        degree = paths[path, 1]
        n, start = 2 * degree + 1, _start(degree)
        for row in range(counts[target, degree]):
            for column in range(counts[source, paths[path, 0]]):
                value = 0.0
                for k in range(n):
                    value += bases[target, start + k * n + row] * sums[path, k, column]
                tensors[at] = value
                at += 1
    return at
