"""The live rows of a task by id, with which rows that come in are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

import numpy as np

from moma_cl.datasets.folds import codes_of
from moma_cl.datasets.intake import Intake, same_content
from moma_cl.datasets.segments import SegmentRows, content_of, live_rows
from moma_cl.records.records import Segment
from moma_cl.records.tasks import TaskState
from moma_cl.structures.checks import Refusal
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_store.store import Store

StoredRow = tuple[Crystal, float, int | None]
"""Structure, target in the task's unit, and fold; none where a hash assigns it."""

Contents = list[tuple[str, SegmentRows | frozenset[str]]]
"""Digest of each segment, with its rows or the ids that it retracts."""


@dataclass(slots=True, kw_only=True)
class StoredRows:
    """The live rows of a task by id.

    They are read once, however many files are then compared with them.
    """

    by_id: dict[str, StoredRow]

    @classmethod
    def of(cls, store: Store, state: TaskState) -> Self:
        """Read the live rows of a task."""
        segments = contents(store, state.dataset.segments)  # a retraction may be repeated
        rows_of = dict(segments)
        live = live_rows(segments)
        by_id: dict[str, StoredRow] = {}
        for digest, kept in zip(live.segments, live.kept, strict=True):
            rows = rows_of[digest]
            if isinstance(rows, SegmentRows):
                by_id.update(
                    {
                        rows.ids[i]: (rows.crystals[i], float(rows.targets[i]), int(rows.folds[i]))
                        for i in kept
                    }
                )
        return cls(by_id=by_id)

    def new_rows(self, intake: Intake, *, replace: bool) -> Intake:
        """Leave out rows that are stored already; refuse those stored with other content.

        Parameters
        ----------
        intake
            New rows.
        replace
            Whether a row may replace a stored one of the same id.

        Returns
        -------
        Intake
            What is new, or replaces something; the other rows as repeats or refusals.
        """
        kept, repeats, refusals = [], 0, []
        for index, (row_id, row) in enumerate(_rows(intake)):
            earlier = self.by_id.get(row_id)
            if earlier is None:
                kept.append(index)
            elif _same(earlier, row):
                repeats += 1
            elif replace:
                kept.append(index)
            else:
                message = (
                    "the id is stored with other content; `--replace` lets this row replace it"
                )
                refusals.append(
                    Refusal(id=row_id, source="", code="already-stored", message=message)
                )
        return _selected(intake, kept, repeats=repeats, refusals=tuple(refusals))

    def count(self, intake: Intake) -> int:
        """Count the rows that replace a stored one."""
        return sum(row_id in self.by_id for row_id in intake.ids)

    def add(self, intake: Intake) -> None:
        """Take rows among the stored ones, before they are stored."""
        self.by_id.update(_rows(intake))


def contents(store: Store, segments: Sequence[str]) -> Contents:
    """Read segments by their digests."""
    records = [(digest, Segment.from_doc(store.record(digest))) for digest in segments]
    return [(digest, content_of(s, store.blob(s.blob).arrays)) for digest, s in records]


def joined(intakes: Sequence[Intake]) -> tuple[Intake, list[int]]:
    """Join the rows of several files that are stored together, in the order of the files.

    Of rows with one id the last is kept, as if each file had been stored by itself.

    Parameters
    ----------
    intakes
        The rows of each file.

    Returns
    -------
    tuple[Intake, list[int]]
        All rows; how many of them each file gave.
    """
    owners = {row_id: number for number, intake in enumerate(intakes) for row_id in intake.ids}
    last = [
        _selected(intake, [i for i, row_id in enumerate(intake.ids) if owners[row_id] == number])
        for number, intake in enumerate(intakes)
    ]
    with_labels = all(intake.fold_labels is not None for intake in last)
    together = Intake(
        ids=list(chain.from_iterable(intake.ids for intake in last)),
        crystals=PackedCrystals.pack(chain.from_iterable(intake.crystals for intake in last)),
        targets=np.concatenate([intake.targets for intake in last]),
        fingerprints=np.concatenate([intake.fingerprints for intake in last]),
        formulas=list(chain.from_iterable(intake.formulas for intake in last)),
        fold_labels=list(chain.from_iterable(intake.fold_labels or () for intake in last))
        if with_labels
        else None,
        refusals=tuple(chain.from_iterable(intake.refusals for intake in last)),
        left_out=sum(intake.left_out for intake in last),
        repeats=sum(intake.repeats for intake in last),
    )
    return together, [len(intake.ids) for intake in last]


def _rows(intake: Intake) -> list[tuple[str, StoredRow]]:
    """Pair the ids of new rows with what would be stored."""
    labels = intake.fold_labels
    folds = [None] * len(intake.ids) if labels is None else codes_of(labels).tolist()
    rows = zip(intake.crystals, intake.targets.tolist(), folds, strict=True)
    return list(zip(intake.ids, rows, strict=True))


def _same(first: StoredRow, second: StoredRow) -> bool:
    fold_differs = second[2] is not None and first[2] != second[2]
    return not fold_differs and same_content(first[:2], second[:2])


def _selected(
    intake: Intake, kept: list[int], *, repeats: int = 0, refusals: tuple[Refusal, ...] = ()
) -> Intake:
    labels = intake.fold_labels
    whole = len(kept) == len(intake.ids)
    return replace(
        intake,
        ids=[intake.ids[i] for i in kept],
        crystals=intake.crystals
        if whole
        else PackedCrystals.pack(intake.crystals[i] for i in kept),
        targets=intake.targets[kept],
        fingerprints=intake.fingerprints[kept],
        formulas=[intake.formulas[i] for i in kept],
        fold_labels=None if labels is None else [labels[i] for i in kept],
        repeats=intake.repeats + repeats,
        refusals=(*intake.refusals, *refusals),
    )
