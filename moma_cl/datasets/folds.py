"""Folds: which rows train, which validate, and which are held out.

A row's fold depends on nothing but its group (a formula, or a structure) and a salt, so that rows
added later never move those already there, and a formula is in the same fold in every task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moma_cl.records.records import Grouping

_BOUNDS = (0.70, 0.85)  # shares of 70, 15 and 15 %, summed
_MAX_SHARE = 0.20  # of one formula
_MIN_FORMULAS = 20


class Fold(StrEnum):
    """The folds by name, in the order of their codes."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held-out"


FOLD_NAMES = tuple(fold.value for fold in Fold)
"""Names of the folds; a fold's code is its place here."""


def _hash(key: str, salt: str) -> int:
    """64 bits that look random; the length keeps salt and key apart."""
    text = f"{len(salt)}:{salt}{key}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def fold_of(key: str, salt: str) -> Fold:
    """Give the fold of a group: train, validation, held-out with probability 0.70, 0.15, 0.15."""
    place = _hash(key, salt) / 2**64
    return Fold(FOLD_NAMES[sum(place >= bound for bound in _BOUNDS)])


def choose_grouping(formulas: Sequence[str]) -> Grouping:
    """Decide what is kept within one fold.

    Parameters
    ----------
    formulas
        Reduced formula of each row.

    Returns
    -------
    Grouping
        The structure if one formula has more than a fifth of the rows or there are fewer than
        twenty formulas, since hashed formulas would then give folds of very unequal size; else
        the formula.
    """
    counts = Counter(formulas)
    if len(counts) < _MIN_FORMULAS or max(counts.values()) > _MAX_SHARE * len(formulas):
        return Grouping.STRUCTURE
    return Grouping.FORMULA


def assign_folds(
    formulas: Sequence[str], fingerprints: ArrayLike, grouping: Grouping, salt: str
) -> NDArray[np.uint8]:
    """Assign every row to a fold.

    Parameters
    ----------
    formulas
        Reduced formula of each row.
    fingerprints
        Fingerprint of each structure, shape ``(n_rows,)``.
    grouping
        Whether the formula or the structure decides.
    salt
        Salt of the hub.

    Returns
    -------
    NDArray[np.uint8]
        Fold codes, shape ``(n_rows,)``.
    """
    keys = _group_keys(formulas, fingerprints, grouping)
    codes = {key: FOLD_NAMES.index(fold_of(key, salt)) for key in set(keys)}
    return np.array([codes[key] for key in keys], dtype=np.uint8)


def codes_of(labels: Sequence[str]) -> NDArray[np.uint8]:
    """Turn fold names into codes, shape ``(n_rows,)``."""
    return np.array([FOLD_NAMES.index(label) for label in labels], dtype=np.uint8)


def cv_groups(
    formulas: Sequence[str],
    fingerprints: ArrayLike,
    grouping: Grouping,
    salt: str,
    *,
    max_folds: int = 10,
) -> NDArray[np.int64]:
    """Divide the rows of a small task for grouped cross-validation.

    Groups join parts in the order of their hashes, each the part that has the fewest rows so far.

    Parameters
    ----------
    formulas
        Reduced formula of each row.
    fingerprints
        Fingerprint of each structure, shape ``(n_rows,)``.
    grouping
        Whether the formula or the structure keeps rows together.
    salt
        Salt of the hub.
    max_folds
        Largest number of parts; fewer when there are fewer groups.

    Returns
    -------
    NDArray[np.int64]
        Part of each row, from 0, shape ``(n_rows,)``; no part is empty.
    """
    keys = _group_keys(formulas, fingerprints, grouping)
    sizes = Counter(keys)
    rows_in_part = [0] * min(max_folds, len(sizes))
    part_of: dict[str, int] = {}
    for key in sorted(sizes, key=lambda key: (_hash(key, salt), key)):
        part = rows_in_part.index(min(rows_in_part))
        part_of[key] = part
        rows_in_part[part] += sizes[key]
    return np.array([part_of[key] for key in keys], dtype=np.int64)


def _group_keys(formulas: Sequence[str], fingerprints: ArrayLike, grouping: Grouping) -> list[str]:
    if grouping == Grouping.FORMULA:
        return list(formulas)
    return [f"{int(fingerprint):016x}" for fingerprint in np.asarray(fingerprints)]
