"""Predictions for rows of structures; a bad row never stops the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, compress, islice, repeat, tee
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.backbones.base import Backbone
from moma_cl.commands.predictions import FEW_ROWS, OK, PredictedRow
from moma_cl.commands.ready_predictor import ReadyPredictor
from moma_cl.core.pyg import Data
from moma_cl.graphs.checks import graph_size, known_elements
from moma_cl.graphs.prefetch import with_graphs_of
from moma_cl.predictors.predictor import Answers, BackboneGraphs
from moma_cl.progress import Progress, quiet
from moma_cl.readers.dispatch import Reading, Row, read_rows
from moma_cl.readers.memory import Sources
from moma_cl.readers.rows import ISOLATED, REMARKS, SLAB
from moma_cl.records.records import Calibration
from moma_cl.structures.checks import RowError, check_crystals
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_cl.structures.elements import SYMBOLS
from moma_cl.structures.formulas import chemical_formula
from moma_cl.structures.vacuum import with_vacuum
from moma_store.errors import InvalidInputError

CHUNK = 256  # structures in memory at a time
_SIZE_AT_ONCE = 12_000_000  # edges and angles of their graphs, at 40 bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The rows that an interrupted run has answered already.

    Attributes
    ----------
    answered
        How many of its rows have each key, as :func:`row_key` gives them: rows that share id and
        place, as those of a repeated index do, are told apart by their order alone.
    shared
        Values of the `SHARED` fields, the same in all its rows; empty where it wrote no row.
    """

    answered: Mapping[bytes, int]
    shared: Mapping[str, Any]


SHARED = ("task", "predictor", "level")
"""Fields of `PredictedRow` that are the same in all rows of a run."""


def row_key(row_id: str, source: str) -> bytes:
    """Name a row of the input in eight bytes, by its id and its file and line."""
    return blake2b(f"{len(source)}:{source}{row_id}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Question:
    """Who is asked, and for intervals of which coverage."""

    ready: ReadyPredictor
    level: float

    @property
    def shared(self) -> dict[str, Any]:
        """Values of the `SHARED` fields of every answer."""
        return {"task": self.ready.task, "predictor": self.ready.digest, "level": self.level}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Chunk:
    """Some rows of the input, checked.

    Attributes
    ----------
    rows
        The rows.
    errors
        What is wrong with each row; none for a good one.
    crystals
        Structures of the good rows, in order.
    slabs
        Which of these structures have vacuum, shape ``(n_crystals,)``.
    """

    rows: list[Row]
    errors: list[RowError | None]
    crystals: list[Crystal]
    slabs: NDArray[np.bool_]


def predict(
    readies: Sequence[ReadyPredictor],
    sources: Sources,
    *,
    level: float | None = None,
    earlier: Earlier | None = None,
    reading: Reading | None = None,
    progress: Progress = quiet,
) -> Iterator[PredictedRow]:
    """Answer rows one by one in input order, each by all predictors; a bad one stops nothing."""
    check_level(level)
    questions = [Question(ready=one, level=level or one.predictor.level) for one in readies]
    if earlier is not None:
        (question,) = questions  # of several, an interrupted run may have answered some
        _check_same(earlier, question.shared)
    unanswered = _unanswered(read_rows(sources, reading=reading), earlier)
    return interleaved(questions, unanswered, progress=progress)


def check_level(level: float | None) -> None:
    """Refuse a level that is no coverage."""
    if level is not None and not 0.0 < level < 1.0:
        raise InvalidInputError(f"level {level!r} is no coverage; expected a number in (0, 1)")


def answered(
    questions: Sequence[Question], rows: Iterable[Row], *, progress: Progress = quiet
) -> Iterator[tuple[PredictedRow, ...]]:
    """Answer several questions for each row: one answer for each question.

    A row is refused unless the backbones of all questions know its elements.
    """
    backbones = list(dict.fromkeys(b for one in questions for b in one.ready.predictor.backbones))
    chunks = (chunk for part in _chunks(rows, CHUNK) for chunk in _checked(part, backbones))
    n_rows = 0
    with closing(with_graphs_of(chunks, backbones)) as built:
        for read, graphs_read in built:
            chunk, graphs = _without_failed(read, graphs_read)
            count = len(chunk.crystals)
            answers = [_answers(question, graphs, count) for question in questions]
            pairs = zip(questions, answers, strict=True)
            columns = (_answered(question, found, chunk, graphs) for question, found in pairs)
            yield from zip(*columns, strict=True)
            n_rows += len(chunk.rows)
            progress("predicting", n_rows, 0)


def interleaved(
    questions: Sequence[Question], rows: Iterable[Row], *, progress: Progress
) -> Iterator[PredictedRow]:
    """Answer all questions for the first row, then for the next, whatever their backbones."""
    # places of the questions; a backbone must not refuse a row that another one knows
    groups: dict[tuple[type[Backbone], ...], list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(question.ready.predictor.backbones, []).append(place)
    answers = [
        answered([questions[place] for place in places], own_rows, progress=tell)
        for places, own_rows, tell in zip(
            groups.values(), tee(rows, len(groups)), chain([progress], repeat(quiet)), strict=False
        )
    ]
    order = [place for places in groups.values() for place in places]
    for parts in zip(*answers, strict=True):
        by_place = dict(zip(order, chain.from_iterable(parts), strict=True))
        yield from (by_place[place] for place in range(len(questions)))


def _check_same(earlier: Earlier, shared: Mapping[str, Any]) -> None:
    """Refuse to mix answers of two predictors, or of two levels, in one file."""
    for name, before in earlier.shared.items():
        now = shared[name]
        if before != now:
            raise InvalidInputError(
                f"the rows written so far are of {name} {before}, now it would be {now}; ask the "
                "same again (`--at`, `--level`), or write to another file",
                code="invalid-input.cannot-resume",
            )


def _unanswered(rows: Iterable[Row], earlier: Earlier | None) -> Iterator[Row]:
    """Leave out as many rows of each key as were answered: the first ones."""
    left = dict(earlier.answered) if earlier else {}
    for row in rows:
        key = row_key(row.id, row.source) if left else b""
        count = left.pop(key, 0)
        if count == 0:
            yield row
        elif count > 1:
            left[key] = count - 1


def _checked(
    rows: list[Row], backbones: Sequence[type[Backbone]]
) -> Iterator[tuple[_Chunk, list[Crystal]]]:
    """Check which rows can be answered; give them in parts whose graphs fit in memory."""
    crystals = [row.crystal for row in rows if row.error is None and row.crystal is not None]
    problems = iter(check_crystals(crystals, elements=known_elements(backbones)))
    errors: list[RowError | None] = []
    sizes = []
    for row in rows:
        error = row.error if row.crystal is None else row.error or next(problems)
        size = 0
        if error is None and row.crystal is not None:
            size, error = graph_size(row.crystal, backbones)
        errors.append(error)
        sizes.append(0 if error else size)
    parts = np.cumsum(sizes) // _SIZE_AT_ONCE
    ends = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(rows)]
    for part in map(slice, ends, ends[1:]):
        good = [
            row.crystal
            for row, error in zip(rows[part], errors[part], strict=True)
            if error is None and row.crystal is not None
        ]
        slabs = with_vacuum(PackedCrystals.pack(good))
        yield _Chunk(rows=rows[part], errors=errors[part], crystals=good, slabs=slabs), good


def _without_failed(
    chunk: _Chunk, graphs: Mapping[str, list[Data | RowError]]
) -> tuple[_Chunk, BackboneGraphs]:
    """Refuse the rows one of whose graphs could not be built."""
    failed = [
        next((graph for graph in of_row if isinstance(graph, RowError)), None)
        for of_row in zip(*graphs.values(), strict=True)
    ]
    if not any(failed):
        return chunk, graphs
    results = iter(failed)
    built = [error is None for error in failed]
    left = replace(
        chunk,
        errors=[error or next(results) for error in chunk.errors],
        crystals=list(compress(chunk.crystals, built)),
        slabs=chunk.slabs[built],
    )
    return left, {name: list(compress(own, built)) for name, own in graphs.items()}


def _answers(question: Question, graphs: BackboneGraphs, n_rows: int) -> Answers | None:
    if n_rows == 0:
        return None
    with question.ready.busy:
        return question.ready.predictor.answer(graphs, level=question.level)


def _answered(
    question: Question, answers: Answers | None, chunk: _Chunk, graphs: BackboneGraphs
) -> Iterator[PredictedRow]:
    ready = question.ready
    own = graphs[ready.predictor.backbones[0].name]
    at = 0
    for row, error in zip(chunk.rows, chunk.errors, strict=True):
        if error is not None:
            yield _row(row, question, status=error.code, message=error.message)
        elif answers is not None:
            near = answers.near.indices[at, : ready.predictor.domain.neighbours]
            stray = bool(chunk.slabs[at]) and not ready.known_slabs[near].any()
            flags = _flags(row, own[at], stray=stray)
            yield _good_row(row, flags, question, answers, chunk.crystals[at], at)
            at += 1


def _flags(row: Row, graph: Data, *, stray: bool) -> tuple[str, ...]:
    """Name what is unusual about a row; vacuum around a molecule is not unusual."""
    if graph.edge_index.shape[1] == 0:
        return (*row.flags, ISOLATED)
    return (SLAB,) if stray and not row.flags else row.flags


def _good_row(  # noqa: PLR0917  the row, who is asked, and where the answer is
    row: Row,
    flags: Sequence[str],
    question: Question,
    answers: Answers,
    crystal: Crystal,
    at: int,
) -> PredictedRow:
    ready = question.ready
    domain, explainer = ready.predictor.domain, ready.explainer
    strangers = domain.strangers(crystal.atomic_numbers.tolist())
    distance = float(answers.distances[at])
    few = (FEW_ROWS,) if ready.predictor.calibration == Calibration.RANGE else ()
    remark = (ready.remark,) if ready.remark else ()
    known_id, known = ready.measured.find(crystal) or (None, None)
    return _row(
        row,
        question,
        message="; ".join((*few, *(REMARKS[flag] for flag in flags), *remark)),
        known=known,
        known_id=known_id,
        value=float(answers.values[at]),
        lower=float(answers.lower[at]),
        upper=float(answers.upper[at]),
        distance=distance,
        applicability=str(domain.applicability(distance, strangers=bool(strangers or flags))),
        unseen_elements=tuple(SYMBOLS[number] for number in strangers),
        neighbours=explainer.neighbours(answers.near, at) if explainer else (),
    )


def _row(
    row: Row, question: Question, *, status: str = OK, message: str = "", **values: Any
) -> PredictedRow:
    ready = question.ready
    missing = dict.fromkeys(("value", "lower", "upper", "applicability", "distance"))
    return PredictedRow(
        id=row.id,
        source=row.source,
        formula="" if row.crystal is None else chemical_formula(row.crystal.atomic_numbers),
        columns=row.values,
        status=status,
        message=message,
        unit=ready.unit,
        per_atom=ready.unit.endswith("/atom"),
        calibration=ready.predictor.calibration,
        modules=ready.explainer.modules if ready.explainer else {},
        property=ready.property,
        module=ready.module,
        **question.shared,
        **{**missing, **values},
    )


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
