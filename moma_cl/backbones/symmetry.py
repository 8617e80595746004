"""The symmetry operations of a crystal, and the crystal made exactly symmetric under them.

Data are rounded: operations hold within a tolerance. An operation x ↦ W x + w (in fractional
coordinates) maps atom n onto atom p(n). Given all operations of the group,

- the metric G = A Aᵀ of the lattice vectors becomes its mean over the group, ⟨Wᵀ G W⟩, and
- each atom moves by the mean over the group of W⁻¹ (x_p(n) - W x_n - w), where w is the mean of
  x_p(n) - W x_n over atoms, all differences to the nearest lattice point.

Both are projections, so that the result is symmetric up to rounding; this is verified, and a
crystal for which it fails has the trivial group. A cell that repeats a smaller one is reduced to it
first. Lattice vectors are written as the lower triangular matrix with that metric, times -1 if they
are left-handed, which turns the crystal but never mirrors it.

References
----------
Togo, Shinohara and Tanaka, *Spglib*, Sci. Technol. Adv. Mater. Methods 4, 2384822 (2024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.core.compiled import compiled
from moma_cl.structures.crystals import Crystal

TOLERANCE = 1e-4
"""How far an image may be from the atom it falls on, Å."""

_EXACT = 1e-10  # largest distance of an image from its atom after symmetrising, Å
_NARROWER = (1.0, 0.25, 0.0625)  # operations at the edge of the tolerance may not form a group
_MAX_OPERATIONS = 48  # of a primitive cell


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SymmetricCrystal:
    """A primitive cell with its group. Operations are over its own lattice vectors."""

    lattice: FloatArray  # lattice vectors as rows, lower triangular, shape (3, 3), Å
    frac_coords: FloatArray  # shape (n_atoms, 3)
    atomic_numbers: IntArray  # shape (n_atoms,)
    n_cells: int  # how many of these cells the crystal's own cell holds
    rotations: IntArray  # matrices W, shape (n_operations, 3, 3)
    images: IntArray  # atom onto which each atom is mapped, shape (n_operations, n_atoms)

    @property
    def proper(self) -> SymmetricCrystal:
        """The crystal with the operations that do not mirror it."""
        kept = np.linalg.det(self.rotations) > 0
        return replace(self, rotations=self.rotations[kept], images=self.images[kept])


def symmetrise(crystal: Crystal, tolerance: float = TOLERANCE) -> SymmetricCrystal:
    """Find all operations of a crystal, and make it exactly symmetric under them.

    Parameters
    ----------
    crystal
        The crystal.
    tolerance
        How far an image may be from the atom it falls on, Å.

    Returns
    -------
    SymmetricCrystal
        Its primitive cell; with the identity alone if no larger group passes the verification.
    """
    lattice, coords = _reduced(crystal.lattice, crystal.frac_coords)
    numbers = np.ascontiguousarray(crystal.atomic_numbers, dtype=np.int64)
    for within in (tolerance * share for share in _NARROWER):
        primitive = _primitive(lattice, coords, numbers, within) or (lattice, coords, numbers)
        found = _symmetric(*primitive, within)
        if found is not None:
            return replace(found, n_cells=len(numbers) // len(primitive[2]))
    return unsymmetric(crystal)


def unsymmetric(crystal: Crystal) -> SymmetricCrystal:
    """Give a crystal as it is, with the identity as its only operation."""
    lattice, coords = _reduced(crystal.lattice, crystal.frac_coords)
    return SymmetricCrystal(
        lattice=_triangular(lattice @ lattice.T, lattice),
        frac_coords=coords,
        atomic_numbers=np.ascontiguousarray(crystal.atomic_numbers, dtype=np.int64),
        n_cells=1,
        rotations=np.eye(3, dtype=np.int64)[None],
        images=np.arange(crystal.n_atoms)[None],
    )


def _symmetric(
    lattice: FloatArray, coords: FloatArray, numbers: IntArray, tolerance: float
) -> SymmetricCrystal | None:
    """Symmetrise a primitive cell, or nothing if its operations are no group."""
    rotations, images = _operations(
        lattice, lattice @ lattice.T, coords, numbers, *_anchors(numbers), tolerance
    )
    metric, coords, error = _projected(lattice @ lattice.T, coords, rotations, images)
    if error > _EXACT:
        return None
    return SymmetricCrystal(
        lattice=_triangular(metric, lattice),
        frac_coords=coords,
        atomic_numbers=numbers,
        n_cells=1,
        rotations=rotations,
        images=images,
    )


def _reduced(lattice: FloatArray, coords: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Choose the shortest lattice vectors, over which every rotation has entries -1, 0 and 1."""
    from ase.geometry.minkowski_reduction import minkowski_reduce

    reduced, change = minkowski_reduce(lattice)
    moved = coords @ np.rint(np.linalg.inv(change))
    return np.ascontiguousarray(reduced), np.ascontiguousarray(moved)


def _triangular(metric: FloatArray, like: FloatArray) -> FloatArray:
    """Give lattice vectors with a metric, of the same handedness as others."""
    vectors: FloatArray = np.asarray(np.linalg.cholesky(metric), dtype=np.float64)
    return vectors if np.linalg.det(like) > 0 else -vectors


def _primitive(
    lattice: FloatArray, coords: FloatArray, numbers: IntArray, tolerance: float
) -> tuple[FloatArray, FloatArray, IntArray] | None:
    """Reduce a cell that repeats a smaller one to it, as the mean of all its copies."""
    shifts, images = _translations(lattice, coords, numbers, *_anchors(numbers), tolerance)
    count = len(shifts)
    if count == 1:
        return None
    shifts = np.rint(shifts * count) / count  # the order of each divides their number
    vectors = _short_basis(lattice, shifts - np.rint(shifts), count)
    if vectors is None:
        return None
    away = coords[images] - coords - shifts[:, None]
    coords = coords + (away - np.rint(away)).mean(axis=0)
    kept = images.min(axis=0) == np.arange(len(numbers))
    if kept.sum() * count != len(numbers):
        return None
    change = lattice @ np.linalg.inv(vectors)
    return (*_reduced(vectors, (coords @ change)[kept]), numbers[kept])


def _short_basis(lattice: FloatArray, shifts: FloatArray, count: int) -> FloatArray | None:
    """Choose the shortest three of translations and lattice vectors that span them all."""
    corners = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    vectors = (shifts[:, None] + corners).reshape(-1, 3) @ lattice
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = vectors[np.argsort(lengths, kind="stable")]
    vectors = vectors[np.linalg.norm(vectors, axis=1) > TOLERANCE]
    volume = abs(np.linalg.det(lattice)) / count
    first = vectors[0]
    normals = np.cross(first, vectors)
    second = int(np.argmax(np.linalg.norm(normals, axis=1) > TOLERANCE))
    volumes = vectors @ normals[second]
    fitting = np.flatnonzero(np.abs(np.abs(volumes) - volume) < 1e-3 * volume)
    if not len(fitting):
        return None
    basis: FloatArray = np.stack([first, vectors[second], vectors[fitting[0]]])
    return basis


def _anchors(numbers: IntArray) -> tuple[IntArray, IntArray]:
    """List the atoms of the element of which there are fewest, and all atoms, with those first."""
    elements, counts = np.unique(numbers, return_counts=True)
    rarest = numbers == elements[np.argmin(counts)]
    return np.flatnonzero(rarest), np.argsort(~rarest, kind="stable")


@compiled
def _operations(  # noqa: PLR0917  compiled code takes no keywords
    lattice: FloatArray,
    metric: FloatArray,
    coords: FloatArray,
    numbers: IntArray,
    anchors: IntArray,
    order: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """Find all operations of a primitive cell: their matrices, and the image of each atom."""
    n_atoms = len(numbers)
    matrices = np.empty((_MAX_OPERATIONS, 3, 3), dtype=np.int64)
    images = np.empty((_MAX_OPERATIONS, n_atoms), dtype=np.int64)
    image = np.empty(n_atoms, dtype=np.int64)
    turned = np.empty((n_atoms, 3))
    count = 0
    for matrix in _lattice_rotations(metric, tolerance):
        for atom in range(n_atoms):
            for axis in range(3):
                turned[atom, axis] = 0.0
                for k in range(3):
                    turned[atom, axis] += matrix[axis, k] * coords[atom, k]
        for anchor in anchors:
            shift = coords[anchor] - turned[anchors[0]]
            if _maps(lattice, coords, numbers, turned, shift, order, tolerance, image):
                if count < _MAX_OPERATIONS:
                    matrices[count] = matrix
                    images[count] = image
                    count += 1
                break
    return matrices[:count].copy(), images[:count].copy()


@compiled
def _translations(  # noqa: PLR0917
    lattice: FloatArray,
    coords: FloatArray,
    numbers: IntArray,
    anchors: IntArray,
    order: IntArray,
    tolerance: float,
) -> tuple[FloatArray, IntArray]:
    """Find the translations that map a cell onto itself, the identity first."""
    n_atoms = len(numbers)
    shifts = np.zeros((len(anchors), 3))
    images = np.empty((len(anchors), n_atoms), dtype=np.int64)
    image = np.empty(n_atoms, dtype=np.int64)
    count = 0
    for anchor in anchors:
        shift = coords[anchor] - coords[anchors[0]]
        if _maps(lattice, coords, numbers, coords, shift, order, tolerance, image):
            shifts[count] = shift
            images[count] = image
            count += 1
    return shifts[:count].copy(), images[:count].copy()


@compiled
def _maps(  # noqa: PLR0917
    lattice: FloatArray,
    coords: FloatArray,
    numbers: IntArray,
    turned: FloatArray,
    shift: FloatArray,
    order: IntArray,
    tolerance: float,
    image: IntArray,
) -> bool:
    """Tell whether an operation maps the cell onto itself, and write down the image of each atom.

    The anchor, by which the shift was found, may be off by as much as the image: hence the factor.
    """
    limit = (3.0 * tolerance) ** 2
    taken = np.zeros(len(numbers), dtype=np.bool_)
    for atom in order:
        found = False
        for other in range(len(numbers)):
            if numbers[other] != numbers[atom] or taken[other]:
                continue
            x = turned[atom, 0] + shift[0] - coords[other, 0]
            y = turned[atom, 1] + shift[1] - coords[other, 1]
            z = turned[atom, 2] + shift[2] - coords[other, 2]
            x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
            square = 0.0
            for axis in range(3):
                part = x * lattice[0, axis] + y * lattice[1, axis] + z * lattice[2, axis]
                square += part * part
            if square <= limit:
                image[atom] = other
                taken[other] = True
                found = True
                break
        if not found:
            return False
    return True


@compiled
def _lattice_rotations(metric: FloatArray, tolerance: float) -> IntArray:
    """List the matrices, proper and improper, that leave the metric of short vectors unchanged."""
    shortest = np.sqrt(min(metric[0, 0], metric[1, 1], metric[2, 2]))
    slack = 4.0 * tolerance / shortest
    columns = np.empty((3, 26, 3), dtype=np.int64)
    counts = np.zeros(3, dtype=np.int64)
    vector = np.empty(3, dtype=np.int64)
    for code in range(27):
        vector[0], vector[1], vector[2] = code // 9 - 1, code // 3 % 3 - 1, code % 3 - 1
        square = _product(metric, vector, vector)
        for axis in range(3):
            if code != 13 and abs(square - metric[axis, axis]) <= slack * metric[axis, axis]:
                columns[axis, counts[axis]] = vector
                counts[axis] += 1
    found = np.empty((_MAX_OPERATIONS, 3, 3), dtype=np.int64)
    count = 0
    for i in range(counts[0]):
        for j in range(counts[1]):
            first, second = columns[0, i], columns[1, j]
            if not _keeps(metric, 0, 1, first, second, slack):
                continue
            for k in range(counts[2]):
                third = columns[2, k]
                if not (
                    count < _MAX_OPERATIONS
                    and _keeps(metric, 0, 2, first, third, slack)
                    and _keeps(metric, 1, 2, second, third, slack)
                ):
                    continue
                if abs(_volume(first, second, third)) == 1:
                    found[count, :, 0], found[count, :, 1] = first, second
                    found[count, :, 2] = third
                    count += 1
    return found[:count]


@compiled
def _volume(first: IntArray, second: IntArray, third: IntArray) -> int:
    """Give the determinant of a matrix by its columns."""
    total = 0
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        total += first[axis] * (second[one] * third[other] - second[other] * third[one])
    return total


@compiled
def _keeps(  # noqa: PLR0917
    metric: FloatArray, axis: int, other: int, image: IntArray, other_image: IntArray, slack: float
) -> bool:
    """Tell whether the images of two lattice vectors are at the angle of the vectors themselves."""
    change = _product(metric, image, other_image) - metric[axis, other]
    return bool(abs(change) <= slack * np.sqrt(metric[axis, axis] * metric[other, other]))


@compiled
def _product(metric: FloatArray, one: IntArray, other: IntArray) -> float:
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += one[i] * metric[i, j] * other[j]
    return total


def _projected(
    metric: FloatArray, coords: FloatArray, rotations: IntArray, images: IntArray
) -> tuple[FloatArray, FloatArray, float]:
    """Average the metric and the coordinates over a group.

    What comes back are both, and the largest error that is left: of an image, or infinite where
    the metric is not left as it is.
    """
    matrices = rotations.astype(np.float64)
    inverses = np.rint(np.linalg.inv(matrices))
    moves = _misfit(coords, matrices, images) @ np.swapaxes(inverses, 1, 2)
    coords = coords + moves.mean(axis=0)
    turned = np.swapaxes(matrices, 1, 2) @ metric @ matrices
    mean: FloatArray = turned.mean(axis=0)
    change = np.swapaxes(matrices, 1, 2) @ mean @ matrices - mean
    if np.abs(change).max() > 1e-12 * np.abs(mean).max():
        return mean, coords, np.inf
    off = _misfit(coords, matrices, images)
    return mean, coords, float(np.sqrt(((off @ mean) * off).sum(axis=2).max()))


def _misfit(coords: FloatArray, matrices: FloatArray, images: IntArray) -> FloatArray:
    """Give how far the image of each atom is from where each operation takes it.

    Shape ``(n_operations, n_atoms, 3)``, less the mean over atoms, which is the operation's shift.
    """
    off = coords[images] - coords @ np.swapaxes(matrices, 1, 2)
    off -= off[:, :1]
    off -= np.rint(off)
    shifted: FloatArray = off - off.mean(axis=1, keepdims=True)
    return shifted
