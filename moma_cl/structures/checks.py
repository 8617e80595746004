"""Refusing rows: what is wrong with a structure or target, and the report of what was refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.properties.transforms import Transform
from moma_cl.structures.crystals import (
    MAX_FRACTIONAL,
    Crystal,
    PackedCrystals,
    SameSize,
    by_size,
)
from moma_cl.structures.elements import NUMBERS, named
from moma_cl.structures.lattices import heights, heights_of_many, reduced_basis
from moma_store.errors import InvalidInputError, MomaError

MAX_ATOMS = 1000
"""Structures with more atoms are refused unless the caller says otherwise."""

MIN_DISTANCE = 0.5
"""Atoms closer than this overlap, Å; the shortest bond known, that of H2, is 0.74 Å."""

MIN_VOLUME_PER_ATOM = 0.5
"""A cell with less room has collapsed, Å³ per atom; diamond has 5.7 and solid hydrogen more."""

MAX_LENGTH = 1000.0
"""Longest lattice vector, Å; finding neighbours slows down with the empty space it must cross."""

MAX_VOLUME = 1e8
"""Largest cell, Å³, for the same reason."""

_ELEMENTS = frozenset(NUMBERS.values())
_BLOCK = 1 << 18  # pairs of atoms looked at together, which bounds the memory
_COMMA = re.compile(r"\s*[-+]?[\d.]*,\d+\s*")  # a decimal comma
_FEW_ATOMS = 40  # structures of up to so many are checked many at once
_PLAINLY = 1.01  # farther from a limit than rounding reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """Why a row cannot be used.

    Attributes
    ----------
    code
        Stable name of the reason, such as ``overlapping-atoms``.
    message
        What was found against what was expected, and what to do.
    """

    code: str
    message: str

    @classmethod
    def of(cls, error: MomaError) -> RowError:
        """Turn an error into the status of one row, without ``invalid-input.`` in its code."""
        return cls(code=error.code.removeprefix("invalid-input."), message=error.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One row that was not taken in.

    Attributes
    ----------
    id
        Id of the row.
    source
        File and line, or path.
    code
        Stable name of the reason.
    message
        What was found against what was expected, and what to do.
    """

    id: str
    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The report of the rows that were refused.

    Attributes
    ----------
    refusals
        The rows in input order.
    """

    refusals: tuple[Refusal, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by reason, the most frequent first."""
        return dict(Counter(refusal.code for refusal in self.refusals).most_common())

    def to_json(self) -> dict[str, object]:
        """Give the report as a JSON document: number, counts by reason, and every refusal."""
        return {
            "refused": len(self.refusals),
            "counts": self.counts,
            "rows": [asdict(refusal) for refusal in self.refusals],
        }

    def summary(self) -> list[str]:
        """Describe the report for people: the total, then an example for each reason."""
        if not self.refusals:
            return []
        examples: dict[str, Refusal] = {}
        for refusal in self.refusals:
            examples.setdefault(refusal.code, refusal)
        rows = "row" if len(self.refusals) == 1 else "rows"
        return [f"{len(self.refusals):,} {rows} refused"] + [
            f"{count:,} {code}, e.g. {examples[code].id}"
            f"{f' at {examples[code].source}' if examples[code].source else ''}: "
            f"{examples[code].message}"
            for code, count in self.counts.items()
        ]


def check_crystal(
    crystal: Crystal, *, elements: frozenset[int] | None = None, max_atoms: int = MAX_ATOMS
) -> RowError | None:
    """Look for the first thing that makes a structure unusable, the cheapest checks first.

    It must have elements that the backbone was made for (any element when ``None``), and no more
    than a number of atoms in its cell.
    """
    if crystal.n_atoms == 0:
        return RowError(code="no-atoms", message="the structure has no atoms")
    if crystal.n_atoms > max_atoms:
        return RowError(
            code="too-many-atoms",
            message=f"{crystal.n_atoms:,} atoms in the cell; the limit is {max_atoms:,}: use the "
            "primitive cell, or raise the limit",
        )
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return RowError(code="not-finite", message="the lattice or a coordinate is not finite")
    return (
        _check_cell(crystal)
        or _check_elements(crystal, elements)
        or _check_distances(crystal.lattice, crystal.frac_coords)
    )


def check_crystals(
    crystals: Sequence[Crystal], *, elements: frozenset[int] | None = None
) -> list[RowError | None]:
    """Check many structures as `check_crystal` does, several times faster than one by one."""
    packed = PackedCrystals.pack(crystals)
    passed = _plain_cells(packed, np.array(sorted(_ELEMENTS if elements is None else elements)))
    for stack in by_size(packed):
        few = 0 < stack.frac_coords.shape[1] <= _FEW_ATOMS
        passed[stack.places] &= _plainly_apart(stack) if few else False
    return [
        None if good else check_crystal(crystal, elements=elements)
        for crystal, good in zip(crystals, passed.tolist(), strict=True)
    ]


# Both say which structures are far from every limit; of the others nothing is said.
# What is not finite compares as not good.


def _plain_cells(crystals: PackedCrystals, supported: NDArray[np.int64]) -> NDArray[np.bool_]:
    lattices, n_atoms = crystals.lattices, np.diff(crystals.offsets)
    with np.errstate(all="ignore"):
        volumes = np.abs(np.linalg.det(lattices))
        good = np.abs(lattices).max(axis=(1, 2)) * _PLAINLY < MAX_LENGTH
        good &= volumes * _PLAINLY < MAX_VOLUME
        good &= volumes > _PLAINLY * MIN_VOLUME_PER_ATOM * n_atoms
        # in a cell thicker than twice the distance, the nearest image is found by rounding
        good &= heights_of_many(lattices).min(axis=1) > _PLAINLY * 2 * MIN_DISTANCE
        plain = np.abs(crystals.frac_coords).max(axis=1) * _PLAINLY < MAX_FRACTIONAL
    plain &= np.isin(crystals.atomic_numbers, supported)
    good[np.repeat(np.arange(len(crystals)), n_atoms)[~plain]] = False
    return np.asarray(good)


def _plainly_apart(stack: SameSize) -> NDArray[np.bool_]:
    first, second = np.triu_indices(stack.frac_coords.shape[1], k=1)
    with np.errstate(all="ignore"):
        apart = stack.frac_coords[:, first] - stack.frac_coords[:, second]
        apart = (apart - np.rint(apart)) @ stack.lattices
        squared = np.einsum("ijk,ijk->ij", apart, apart).min(axis=1, initial=np.inf)
        return np.asarray(squared > (_PLAINLY * MIN_DISTANCE) ** 2)


def _check_cell(crystal: Crystal) -> RowError | None:
    """Check the size of the cell and the range of the coordinates."""
    length = float(np.abs(crystal.lattice).max())
    if length > MAX_LENGTH or crystal.volume > MAX_VOLUME:
        problem = (
            f"lattice vectors reach {length:.4g} Å; the limit is {MAX_LENGTH:g} Å"
            if length > MAX_LENGTH
            else f"the cell has {crystal.volume:.4g} Å³; the limit is {MAX_VOLUME:g} Å³"
        )
        return RowError(
            code="cell-too-large", message=f"{problem}: check the unit, or leave less vacuum"
        )
    room = crystal.volume / crystal.n_atoms
    if room < MIN_VOLUME_PER_ATOM:
        return RowError(
            code="zero-volume",
            message=f"the cell has {room:.3g} Å³ per atom; expected at least "
            f"{MIN_VOLUME_PER_ATOM:g}: check the lattice and its unit",
        )
    if np.abs(crystal.frac_coords).max() > MAX_FRACTIONAL:
        return RowError(
            code="coordinates-out-of-range",
            message=f"a fractional coordinate exceeds {MAX_FRACTIONAL:g}: check whether the "
            "coordinates are Cartesian",
        )
    return None


def _check_elements(crystal: Crystal, elements: frozenset[int] | None) -> RowError | None:
    """Check that the backbone was made for every element."""
    lacking = set(crystal.atomic_numbers.tolist()) - (_ELEMENTS if elements is None else elements)
    if not lacking:
        return None
    return RowError(
        code="unsupported-element",
        message=f"the backbone was not made for {named(lacking)}: use a hub with another backbone",
    )


def _check_distances(lattice: FloatArray, frac_coords: FloatArray) -> RowError | None:
    """Check that no two atoms, periodic images included, overlap."""
    thickness = heights(lattice)
    if thickness.min() <= 2 * MIN_DISTANCE:
        # A skewed or thin cell, whose own lattice vectors may hide a very short one.
        reduced = reduced_basis(lattice)
        frac_coords = frac_coords @ lattice @ np.linalg.inv(reduced)
        lattice, thickness = reduced, heights(reduced)
        shortest = float(np.linalg.norm(lattice[0]))
        if shortest < MIN_DISTANCE:
            return _overlap(shortest, "an atom and its own periodic image are")
    distance, first, second = _closest_pair(lattice, frac_coords, thickness)
    if distance < MIN_DISTANCE:
        return _overlap(distance, f"atoms {first + 1} and {second + 1} are")
    return None


def _overlap(distance: float, pair: str) -> RowError:
    return RowError(
        code="overlapping-atoms",
        message=f"{pair} {distance:.3g} Å apart; expected at least {MIN_DISTANCE:g} Å: remove "
        "duplicate sites, or check the lattice",
    )


def _closest_pair(
    lattice: FloatArray, frac_coords: FloatArray, thickness: FloatArray
) -> tuple[float, int, int]:
    """Closest two different sites, exact as far as they are closer than `MIN_DISTANCE`."""
    wrapped = frac_coords - np.floor(frac_coords)
    n_atoms, rows = len(wrapped), max(1, _BLOCK // len(wrapped))
    # In a cell thicker than twice the distance, the nearest image is found by rounding.
    reach = np.where(thickness > 2 * MIN_DISTANCE, 0, np.ceil(MIN_DISTANCE / thickness))
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach]), axis=-1).reshape(-1, 3)
    closest = (np.inf, 0, 0)
    for start in range(0, n_atoms - 1, rows):
        # Only the pairs above the diagonal: atom i with those after it.
        block = wrapped[start : start + rows, None] - wrapped[None, start:]
        block -= np.rint(block)
        for image in images:
            squared = (((block + image) @ lattice) ** 2).sum(axis=-1)
            squared[np.tri(*squared.shape, dtype=np.bool_)] = np.inf
            row, column = np.unravel_index(np.argmin(squared), squared.shape)
            distance = float(np.sqrt(squared[row, column]))
            closest = min(closest, (distance, start + int(row), start + int(column)))
    return closest


def checked_target(value: object, transform: Transform) -> float:
    """Read the target of one row, in the unit of the file.

    A value that is missing, no finite number, or outside of the transform's domain is refused.
    """
    if value is None or value == "":
        raise InvalidInputError(
            "the row has no value for the target", code="invalid-input.missing-target"
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        comma = ": write a point for the decimal comma" if _COMMA.fullmatch(str(value)) else ""
        raise InvalidInputError(
            f"the target is {str(value)[:64]!r}, not a number{comma}",
            code="invalid-input.non-numeric-target",
        )
    try:
        target = float(value)
    except OverflowError:
        target = np.inf
    if not np.isfinite(target):
        raise InvalidInputError(f"the target is {target}", code="invalid-input.not-finite-target")
    if not transform.defined_at(target):
        raise InvalidInputError(
            f"the target is {target:g}, of which there is no {transform.value}: correct it, or "
            "use another transform",
            code="invalid-input.outside-transform",
        )
    return target


def check_not_constant(targets: NDArray[np.float64], name: str) -> None:
    """Refuse targets of all rows, shape ``(n_rows,)``, if they are equal."""
    if len(targets) > 1 and np.ptp(targets) == 0:
        raise InvalidInputError(
            f"the target {name!r} is {targets[0]:g} in all {len(targets):,} rows: there is "
            "nothing to learn; choose another column",
            code="invalid-input.constant-target",
        )
