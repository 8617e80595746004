"""Datasets: immutable segments, and the rows that are live when all segments are read in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import Arrays
from moma_cl.records.records import Dataset, Segment, SegmentRole
from moma_cl.structures.crystals import PackedCrystals

TRAIN, VALIDATION, HELD_OUT = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Columns:
    """The columns of some rows.

    Attributes
    ----------
    ids
        Id of each row, unique.
    targets
        Target values, shape ``(n_rows,)``, in the task's unit.
    fingerprints
        Fingerprint of each structure, shape ``(n_rows,)``.
    folds
        Code of each row's fold, shape ``(n_rows,)``.
    formulas
        Reduced formula of each structure.
    """

    ids: tuple[str, ...]
    targets: NDArray[np.float64]
    fingerprints: NDArray[np.uint64]
    folds: NDArray[np.uint8]
    formulas: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SegmentRows(_Columns):
    """The rows of one segment, with their structures."""

    crystals: PackedCrystals

    def to_arrays(self) -> Arrays:
        """Give the arrays of the segment's blob by name."""
        return {
            **self.crystals.to_arrays(),
            **pack_text("ids", self.ids),
            **pack_text("formulas", self.formulas),
            "targets": self.targets,
            "fingerprints": self.fingerprints,
            "folds": self.folds,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> SegmentRows:
        """Read the arrays of a segment's blob."""
        return cls(
            ids=unpack_text("ids", arrays),
            crystals=PackedCrystals.from_arrays(arrays),
            targets=arrays["targets"].astype(np.float64),
            fingerprints=arrays["fingerprints"].astype(np.uint64),
            folds=arrays["folds"].astype(np.uint8),
            formulas=unpack_text("formulas", arrays),
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LiveRows(_Columns):
    """The rows of a dataset that no later segment replaced or retracted, in the order added.

    Attributes
    ----------
    segments
        Digests of the segments that hold rows.
    kept
        For each of them, the rows that are live, shape ``(n_kept,)``.
    """

    segments: tuple[str, ...]
    kept: tuple[NDArray[np.int64], ...]

    def in_fold(self, fold: int) -> NDArray[np.int64]:
        """Give the indices of the rows of one fold, ascending, by the fold's code."""
        return np.flatnonzero(self.folds == fold)


def live_rows(segments: Sequence[tuple[str, SegmentRows | frozenset[str]]]) -> LiveRows:
    """Read segments in order: of each id the last row is live, unless it was retracted later.

    Parameters
    ----------
    segments
        Digest of each segment, with its rows or the ids that it retracts.

    Returns
    -------
    LiveRows
        The live rows.
    """
    latest: dict[str, tuple[int, int]] = {}
    for position, (_, content) in enumerate(segments):
        if isinstance(content, frozenset):
            for row_id in content:
                latest.pop(row_id, None)
            continue
        latest.update({row_id: (position, row) for row, row_id in enumerate(content.ids)})
    kept: dict[int, list[int]] = {}
    for position, row in sorted(latest.values()):
        kept.setdefault(position, []).append(row)
    held = [
        (digest, content, np.array(kept.get(position, []), dtype=np.int64))
        for position, (digest, content) in enumerate(segments)
        if isinstance(content, SegmentRows)
    ]
    return LiveRows(
        segments=tuple(digest for digest, _, _ in held),
        kept=tuple(rows for _, _, rows in held),
        ids=tuple(content.ids[row] for _, content, rows in held for row in rows),
        targets=np.concatenate([np.zeros(0), *(c.targets[r] for _, c, r in held)]),
        fingerprints=np.concatenate(
            [np.zeros(0, np.uint64), *(c.fingerprints[r] for _, c, r in held)]
        ),
        folds=np.concatenate([np.zeros(0, np.uint8), *(c.folds[r] for _, c, r in held)]),
        formulas=tuple(content.formulas[row] for _, content, rows in held for row in rows),
    )


def describe(rows: LiveRows, segments: tuple[str, ...], previous: str | None) -> Dataset:
    """Make the record of a dataset.

    Parameters
    ----------
    rows
        Its live rows.
    segments
        Digests of all its segments, retractions included.
    previous
        Digest of the dataset before the last segment.

    Returns
    -------
    Dataset
        The record.
    """
    counts = np.bincount(rows.folds, minlength=3)
    return Dataset(
        segments=segments,
        previous=previous,
        n_rows=len(rows.ids),
        n_train=int(counts[TRAIN]),
        n_validation=int(counts[VALIDATION]),
        n_held_out=int(counts[HELD_OUT]),
    )


def retraction_arrays(ids: Sequence[str]) -> Arrays:
    """Give the arrays of a retraction's blob: the ids of the retracted rows."""
    return dict(pack_text("ids", tuple(sorted(ids))))


def content_of(
    segment: Segment, arrays: Mapping[str, NDArray[np.generic]]
) -> SegmentRows | frozenset[str]:
    """Read a segment's blob according to its role: rows, or the ids that are retracted."""
    if segment.role == SegmentRole.RETRACTION:
        return frozenset(unpack_text("ids", arrays))
    return SegmentRows.from_arrays(arrays)


def pack_text(name: str, texts: Sequence[str]) -> Arrays:
    """Pack strings end to end as UTF-8, since arrays of objects cannot be stored.

    Parameters
    ----------
    name
        Name of the packed array.
    texts
        The strings.

    Returns
    -------
    Arrays
        ``name``, shape ``(n_bytes,)``, and ``name_offsets``, shape ``(n_texts + 1,)``.
    """
    encoded = [text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded])]).astype(np.int64)
    return {name: np.frombuffer(b"".join(encoded), np.uint8), f"{name}_offsets": offsets}


def unpack_text(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> tuple[str, ...]:
    """Read strings that :func:`pack_text` packed under this name."""
    packed = arrays[name].astype(np.uint8).tobytes()
    offsets = arrays[f"{name}_offsets"].tolist()
    return tuple(packed[a:b].decode() for a, b in pairwise(offsets))
