"""Symmetry operations: as a CIF writes them, and whether they form a space group."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_store.errors import InvalidInputError

PARTS = 24
"""Translations are counted in this part of a lattice vector, which all groups share."""

_TERM = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<letter>[xyz])|(?P<number>\d+/\d+|\d+\.?\d*|\.\d+)(?:\*?(?P<of>[xyz]))?)"
)
_CLOSE = 0.002  # of a lattice vector: 0.333 is a third
_WEIGHTS = 3 ** np.arange(9)  # a rotation has entries -1, 0 and 1


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """Symmetry operations modulo lattice translations, sorted, each once.

    Attributes
    ----------
    rotations
        Matrices for columns of fractional coordinates, shape ``(n, 3, 3)``.
    translations
        In parts of a lattice vector, shape ``(n, 3)``.
    """

    rotations: IntArray
    translations: IntArray

    @classmethod
    def of(cls, rotations: IntArray, translations: IntArray) -> Operations:
        """Sort operations and drop repeated ones."""
        translations = translations % PARTS
        _, first = np.unique(_codes(rotations, translations), return_index=True)
        return cls(rotations[first], translations[first])

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def codes(self) -> IntArray:
        """A number for each operation, shape ``(n,)``."""
        return _codes(self.rotations, self.translations)

    def same_as(self, other: Operations) -> bool:
        """Say whether the operations are the same."""
        return np.array_equal(self.codes, other.codes)

    def keep(self, metric: FloatArray) -> bool:
        """Say whether the cell has the symmetry of the rotations; metric tensor in Å²."""
        rotations = np.unique(self.rotations, axis=0)
        turned = np.swapaxes(rotations, 1, 2) @ metric @ rotations
        lengths = np.sqrt(np.diag(metric))
        return bool(np.all(np.abs(turned - metric) <= 5e-3 * np.outer(lengths, lengths)))

    def space_group_number(self) -> int:
        """Find the number of the space group."""
        return _number(self.rotations.tobytes(), self.translations.tobytes())


@lru_cache(maxsize=512)
def parse_operations(texts: tuple[str, ...]) -> Operations:
    """Read operations such as ``x, -y+1/2, z``; they have to form a group."""
    pairs = [_parsed(text) for text in texts]
    operations = Operations.of(
        np.array([rotation for rotation, _ in pairs], dtype=np.int64),
        np.array([translation for _, translation in pairs], dtype=np.int64),
    )
    if not _is_group(operations):
        raise symmetry_error(
            f"its {len(operations)} symmetry operations form no group: one is wrong or missing"
        )
    return operations


def symmetry_error(message: str) -> InvalidInputError:
    """Make the error of a CIF with a symmetry that is contradictory or not known."""
    return InvalidInputError(f"the CIF is not clear: {message}", code="invalid-input.cif-symmetry")


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Hide that spglib will report errors in another way; both ways are dealt with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _codes(rotations: IntArray, translations: IntArray) -> IntArray:
    whole = (rotations.reshape(*rotations.shape[:-2], 9) + 1) @ _WEIGHTS
    shift = translations @ np.array([PARTS**2, PARTS, 1])
    codes: IntArray = whole * PARTS**3 + shift
    return codes


def _is_group(operations: Operations) -> bool:
    """Say whether the product of any two is among the operations; then all inverses are, too."""
    rotations, translations = operations.rotations, operations.translations
    if not 1 <= len(operations) <= 192 or not np.all(np.abs(np.linalg.det(rotations)) > 0.5):
        return False
    products = rotations[:, None] @ rotations[None]
    shifts = (np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]) % PARTS
    if np.abs(products).max() > 1:
        return False
    return bool(np.isin(_codes(products, shifts), operations.codes).all())


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    parts = re.sub(r"\s+", "", text.lower()).split(",")
    if len(parts) != 3:
        raise symmetry_error(f"{text[:40]!r} is no symmetry operation: expected three parts")
    rows, shifts = zip(*(_component(part, text) for part in parts), strict=True)
    return rows, shifts


def _component(part: str, text: str) -> tuple[tuple[int, ...], int]:
    """Read one coordinate of an operation: factors of x, y and z, and the translation."""
    factors = [0, 0, 0]
    shift = 0.0
    place = 0
    while place < len(part):
        match = _TERM.match(part, place)
        if match is None or (place and not match["sign"]):
            raise symmetry_error(f"{text[:40]!r} is no symmetry operation")
        sign = -1 if match["sign"] == "-" else 1
        letter = match["letter"] or match["of"]
        size = _size(match["number"] or "1", text)
        if letter:
            factors["xyz".index(letter)] += sign * round(size)
        else:
            shift += sign * size
        place = match.end()
    counted = round(shift * PARTS)
    if abs(shift - counted / PARTS) > _CLOSE or max(map(abs, factors)) > 1 or not any(factors):
        raise symmetry_error(f"{text[:40]!r} is no operation of a space group")
    return tuple(factors), counted


def _size(written: str, text: str) -> float:
    top, _, bottom = written.partition("/")
    if bottom and not int(bottom):
        raise symmetry_error(f"{text[:40]!r} is no symmetry operation")
    return float(top) / float(bottom or 1)


@lru_cache(maxsize=1024)
def _number(rotations: bytes, translations: bytes) -> int:
    import spglib

    turned = np.frombuffer(rotations, dtype=np.int64).reshape(-1, 3, 3)
    shifted = np.frombuffer(translations, dtype=np.int64).reshape(-1, 3) / PARTS
    with quiet_spglib():
        found = spglib.get_spacegroup_type_from_symmetry(turned.astype(np.int32), shifted)
    if found is None:
        raise symmetry_error("its symmetry operations are those of no space group")
    return int(found.number)
