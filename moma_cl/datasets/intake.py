"""Reading rows: from files to arrays that can be stored, and a report of refused rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moma_cl.core.suggestions import did_you_mean
from moma_cl.datasets.folds import FOLD_NAMES
from moma_cl.datasets.target_column import TargetColumn, split_header
from moma_cl.properties.units import with_unit
from moma_cl.readers.dispatch import Reading, Row, read_rows
from moma_cl.readers.memory import MemoryRows, Sources
from moma_cl.records.task_spec import TaskSpec
from moma_cl.structures.checks import (
    Quarantine,
    Refusal,
    RowError,
    check_crystal,
    check_not_constant,
)
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_cl.structures.fingerprints import fingerprint, reduced_formula
from moma_store.errors import InvalidInputError

CheckGraphs: TypeAlias = Callable[[Sequence[Crystal]], list[RowError | None]]

_REPORT_EVERY = 100  # rows between two calls of the progress callback
_NAMED = 3  # sources named in a message
_COLUMNS = 20  # columns named in a message
_SAME = 1e-8  # difference below which two numbers of repeated rows are the same


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Intake:
    """The rows of some files that can be stored.

    Attributes
    ----------
    ids
        Id of each row, unique.
    crystals
        The structures.
    targets
        Target values, shape ``(n_rows,)``, in the task's unit.
    fingerprints
        Fingerprint of each structure, shape ``(n_rows,)``.
    formulas
        Reduced formula of each structure.
    fold_labels
        Fold of each row; ``None`` when no fold column was asked for.
    refusals
        The rows that were refused, in input order.
    left_out
        Number of rows without a value in the fold column.
    repeats
        Number of rows that repeat an earlier one, which counts once.
    flagged
        Rows whose target is outside the bounds of the property; they are among the rows, unchanged.
    """

    ids: list[str]
    crystals: PackedCrystals
    targets: NDArray[np.float64]
    fingerprints: NDArray[np.uint64]
    formulas: list[str]
    fold_labels: list[str] | None
    refusals: tuple[Refusal, ...]
    left_out: int
    repeats: int
    flagged: tuple[Refusal, ...] = ()

    @property
    def quarantine(self) -> Quarantine:
        """The report of the rows that were refused."""
        return Quarantine(refusals=self.refusals)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Accepted:
    """A row whose structure, target and fold are good."""

    place: int  # in the input
    id: str
    source: str
    crystal: Crystal
    target: float
    fold: str | None

    def repeats(self, other: _Accepted) -> bool:
        """Whether two rows of the same id have the same content."""
        return self.fold == other.fold and same_content(
            (self.crystal, self.target), (other.crystal, other.target)
        )


def same_content(first: tuple[Crystal, float], second: tuple[Crystal, float]) -> bool:
    """Say whether two rows have the same structure, written the same way, and the same target.

    Each row is a structure and a target, both targets in one unit. Rounding makes no difference.
    """
    (ours, our_target), (theirs, their_target) = first, second
    return (
        bool(np.isclose(our_target, their_target, rtol=_SAME, atol=0))
        and np.array_equal(ours.atomic_numbers, theirs.atomic_numbers)
        and np.allclose(ours.lattice, theirs.lattice, rtol=0, atol=_SAME)
        and np.allclose(ours.frac_coords, theirs.frac_coords, rtol=0, atol=_SAME)
    )


@dataclass(slots=True, kw_only=True)
class _Sorter:
    """Sorts rows into accepted, refused and left out, and remembers which columns there were."""

    target: TargetColumn
    elements: frozenset[int] | None
    accepted: list[_Accepted] = field(default_factory=list)
    refused: list[tuple[int, Refusal]] = field(default_factory=list)
    left_out: int = 0
    columns: dict[str, None] = field(default_factory=dict)  # in order of appearance

    def add(self, place: int, row: Row) -> None:
        """Sort one row."""
        self.columns.update(dict.fromkeys(row.values))
        self.columns.update(dict.fromkeys(split_header(name)[0] for name in row.values))
        try:
            accepted = self._accept(place, row)
        except InvalidInputError as error:
            self.refuse(place, row, RowError.of(error))
            return
        if accepted is None:
            self.left_out += 1
        else:
            self.accepted.append(accepted)

    def refuse(self, place: int, row: Row | _Accepted, reason: RowError) -> None:
        """Put a row among the refused."""
        refusal = Refusal(id=row.id, source=row.source, code=reason.code, message=reason.message)
        self.refused.append((place, refusal))

    def _accept(self, place: int, row: Row) -> _Accepted | None:
        """Check a row, the cheapest checks first; ``None`` when it belongs to no fold."""
        if row.crystal is None:
            raise _as_error(row.error)
        fold = None
        fold_column = self.target.spec.fold_column
        if fold_column is not None:
            fold = row.values.get(fold_column)
            if fold is None or fold == "":
                return None
            if fold not in FOLD_NAMES:
                raise InvalidInputError(
                    f"the fold is {str(fold)[:32]!r}; expected {', '.join(FOLD_NAMES)}",
                    code="invalid-input.unknown-fold",
                )
        target = self.target.read(row.values, max(1, row.crystal.n_atoms))
        problem = check_crystal(row.crystal, elements=self.elements)
        if problem is not None:
            raise _as_error(problem)
        return _Accepted(
            place=place,
            id=row.id,
            source=row.source,
            crystal=row.crystal,
            target=target,
            fold=None if fold is None else str(fold),
        )

    def merge_repeats(self) -> int:
        """Keep one of each repeated row, refuse contradicting rows; give the number merged."""
        by_id: defaultdict[str, list[_Accepted]] = defaultdict(list)
        for row in self.accepted:
            by_id[row.id].append(row)
        merged = 0
        for rows in by_id.values():
            if all(row.repeats(rows[0]) for row in rows[1:]):
                merged += len(rows) - 1
                del rows[1:]
            else:
                self._refuse_contradicting(rows)
                rows.clear()
        self.accepted = sorted(
            (row for rows in by_id.values() for row in rows), key=lambda row: row.place
        )
        return merged

    def refuse_failed(self, check_graphs: CheckGraphs) -> None:
        """Refuse the accepted rows whose graph cannot be built."""
        rows, self.accepted = self.accepted, []
        for row, error in zip(rows, check_graphs([row.crystal for row in rows]), strict=True):
            if error is None:
                self.accepted.append(row)
            else:
                self.refuse(row.place, row, error)

    def _refuse_contradicting(self, rows: list[_Accepted]) -> None:
        places = ", ".join(row.source for row in rows[:_NAMED])
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        message = f"the id occurs with different contents, at {places}{more}: keep one of them"
        for row in rows:
            self.refuse(row.place, row, RowError(code="duplicate-id", message=message))


def read_task_rows(
    sources: Sources,
    spec: TaskSpec,
    *,
    elements: frozenset[int] | None = None,
    check_graphs: CheckGraphs | None = None,
    reading: Reading | None = None,
    rows: Iterable[Row] | None = None,
    appended: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Intake:
    """Read, check and pack the rows of a task.

    Parameters
    ----------
    sources
        Rows from memory, or files and folders, as for `read_rows`.
    spec
        The task. Rows without a value in its fold column are left out.
    elements
        Atomic numbers that the backbone supports; any element when ``None``.
    check_graphs
        Says what is wrong with the graph of each of some structures.
    reading
        What the files do not say themselves.
    rows
        The rows of the sources, where somebody has read them or reads them; else they are read.
    appended
        Whether the rows are added to others, so that they may all have the same target.
    progress
        Called now and then with the number of rows read so far.

    Returns
    -------
    Intake
        The good rows in input order, and the refusals.

    Raises
    ------
    NotFoundError
        If a source does not exist.
    InvalidInputError
        If a source cannot be read, no row has the target or fold column, no row is good, or all
        targets are equal.
    """
    unit = reading.unit if reading else None
    sorter = _Sorter(target=TargetColumn(spec=spec, unit=unit), elements=elements)
    if rows is None:
        rows = read_rows(sources, reading=reading, strict=True)
    _sort_rows(sorter, rows, progress)
    for column in filter(None, (spec.target, spec.fold_column)):
        _check_column(column, list(sorter.columns), sources)
    repeats = sorter.merge_repeats()
    if check_graphs is not None:
        sorter.refuse_failed(check_graphs)
    intake = _packed(sorter, repeats)
    if not intake.ids:
        raise _nothing_left(intake, sources)
    if not appended:
        check_not_constant(intake.targets, spec.target)
    return intake


def _sort_rows(
    sorter: _Sorter, rows: Iterable[Row], progress: Callable[[int], None] | None
) -> None:
    n_rows = 0
    for n_rows, row in enumerate(rows, start=1):
        sorter.add(n_rows, row)
        if progress and n_rows % _REPORT_EVERY == 0:
            progress(n_rows)
    if progress:
        progress(n_rows)


def _as_error(reason: RowError | None) -> InvalidInputError:
    if reason is None:
        return InvalidInputError("no structure", code="invalid-input.missing-structure")
    return InvalidInputError(reason.message, code=f"invalid-input.{reason.code}")


def _named(sources: Sources) -> str:
    if isinstance(sources, MemoryRows):
        return "the data"
    more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
    return ", ".join(map(str, sources[:_NAMED])) + more


def _check_column(column: str, columns: list[str], sources: Sources) -> None:
    """Check that some row has a column; rows without columns are refused one by one."""
    if column in columns or not columns:
        return
    more = f" and {len(columns) - _COLUMNS} more" if len(columns) > _COLUMNS else ""
    raise InvalidInputError(
        f"no row of {_named(sources)} has a column {column!r}; the columns are "
        f"{', '.join(columns[:_COLUMNS])}{more}{did_you_mean(column, columns)}",
        code="invalid-input.missing-column",
    )


def _packed(sorter: _Sorter, repeats: int) -> Intake:
    """Pack the accepted rows."""
    rows = sorter.accepted
    return Intake(
        ids=[row.id for row in rows],
        crystals=PackedCrystals.pack(row.crystal for row in rows),
        targets=np.array([row.target for row in rows], dtype=np.float64),
        fingerprints=np.array([fingerprint(row.crystal) for row in rows], dtype=np.uint64),
        formulas=[reduced_formula(row.crystal.atomic_numbers) for row in rows],
        fold_labels=[str(row.fold) for row in rows] if sorter.target.spec.fold_column else None,
        refusals=tuple(
            refusal for _, refusal in sorted(sorter.refused, key=lambda entry: entry[0])
        ),
        left_out=sorter.left_out,
        repeats=repeats,
        flagged=tuple(_flagged(sorter)),
    )


def _flagged(sorter: _Sorter) -> Iterator[Refusal]:
    """List the rows whose target is outside the bounds of the property."""
    bounds, spec = sorter.target.bounds(), sorter.target.spec
    if bounds is None:
        return
    for row in sorter.accepted:
        if not bounds[0] <= row.target <= bounds[1]:
            yield Refusal(
                id=row.id,
                source=row.source,
                code="outside-bounds",
                message=f"{with_unit(f'{row.target:.6g}', spec.unit)} is kept as it is, but "
                f"{spec.property} lies between {bounds[0]:g} and "
                f"{with_unit(f'{bounds[1]:g}', spec.unit)}: check value and unit",
            )


def _nothing_left(intake: Intake, sources: Sources) -> InvalidInputError:
    """Say why no row is good."""
    reasons = intake.quarantine.summary()
    if intake.left_out:
        reasons.append(f"{intake.left_out:,} without a value in the fold column")
    return InvalidInputError(
        f"{_named(sources)} has no row that can be used: {'; '.join(reasons) or 'it is empty'}",
        code="invalid-input.no-rows",
    )
