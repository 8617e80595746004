"""Asking: rows in, answers out, one bad row never stopping the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from moma_cl.domain import applicability
from moma_cl.finding import champions, existing_task, matching
from moma_cl.predictor import LoadedPredictor, load_predictor
from moma_cl.progress import Progress, quiet
from moma_cl.structures.readers import Row, read_rows
from moma_cl.structures.validation import check_crystal
from moma_cl.workbench import Workbench
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store

CHUNK = 256  # structures in memory at a time
OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRow:
    """The answer to one row of the input.

    Attributes
    ----------
    id
        Id of the row.
    source
        File and line.
    status
        ``ok``, or the code of what is wrong with the row.
    message
        What is wrong, and what to do; empty where nothing is.
    task
        The task's name.
    value, lower, upper
        Prediction and ends of its interval, in the unit; none for a bad row.
    unit
        The task's unit.
    level
        Coverage of the interval, unless the calibration is ``range``.
    applicability
        ``inside``, ``edge`` or ``outside`` of what the predictor knows.
    distance
        How far outside; up to 1 is inside.
    calibration
        Where the interval comes from; ``range`` promises no coverage.
    predictor
        Digest of the predictor that answered.
    """

    id: str
    source: str
    status: str
    message: str
    task: str
    value: float | None
    lower: float | None
    upper: float | None
    unit: str
    level: float
    applicability: str | None
    distance: float | None
    calibration: str
    predictor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all rows of one call share."""

    task: str
    unit: str
    level: float
    calibration: str
    predictor: str


def predict(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    level: float | None = None,
    at: str | None = None,
    progress: Progress = quiet,
) -> Iterator[PredictedRow]:
    """Predict a property of structures.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    sources
        Files and folders; targets and other columns in them are ignored.
    level
        Coverage of the interval; by default the recipe's.
    at
        Digest of an earlier champion, or its beginning; by default the present one answers.
    progress
        Told how many rows were answered.

    Yields
    ------
    PredictedRow
        One per row of the input, in its order.

    Raises
    ------
    NotFoundError
        If there is no such task or predictor.
    InvalidInputError
        If the level is no coverage.
    """
    if level is not None and not 0.0 < level < 1.0:
        raise InvalidInputError(f"level {level!r} is no coverage; expected a number in (0, 1)")
    with Store.open(path) as store, Workbench(store=store, progress=quiet) as bench:
        state = existing_task(store, name)
        known = champions(store, name)
        digest = store.ref(f"predictors/{name}") if at is None else matching(known, at, name)
        if digest is None:
            raise NotFoundError(f"task {name!r} has no predictor yet; run `moma-cl update`")
        predictor = load_predictor(bench, digest)
        asked = _Asked(
            task=name,
            unit=state.task.unit,
            level=level or predictor.level,
            calibration=str(predictor.record.calibration),
            predictor=digest,
        )
        done = 0
        for rows in _chunks(read_rows(sources), CHUNK):
            yield from _answered(bench, predictor, rows, asked)
            done += len(rows)
            progress("predicting", done, 0)


def _answered(
    bench: Workbench, predictor: LoadedPredictor, rows: list[Row], asked: _Asked
) -> Iterator[PredictedRow]:
    problems = {
        index: problem for index, row in enumerate(rows) if (problem := _problem(bench, row))
    }
    good = [index for index in range(len(rows)) if index not in problems]
    crystals = [crystal for index in good if (crystal := rows[index].crystal) is not None]
    graphs = bench.backbone.to_graphs(crystals)
    answers = predictor.answer(graphs, level=asked.level) if graphs else None
    place = {index: position for position, index in enumerate(good)}
    for index, row in enumerate(rows):
        if answers is None or index in problems:
            code, message = problems[index]
            yield _row(row, asked, status=code, message=message)
            continue
        at = place[index]
        distance = float(answers.distances[at])
        yield _row(
            row,
            asked,
            value=float(answers.values[at]),
            lower=float(answers.lower[at]),
            upper=float(answers.upper[at]),
            distance=distance,
            applicability=str(applicability(distance)),
        )


def _row(
    row: Row,
    asked: _Asked,
    *,
    status: str = OK,
    message: str = "",
    value: float | None = None,
    lower: float | None = None,
    upper: float | None = None,
    applicability: str | None = None,
    distance: float | None = None,
) -> PredictedRow:
    return PredictedRow(
        id=row.id,
        source=row.source,
        status=status,
        message=message,
        task=asked.task,
        value=value,
        lower=lower,
        upper=upper,
        unit=asked.unit,
        level=asked.level,
        applicability=applicability,
        distance=distance,
        calibration=asked.calibration,
        predictor=asked.predictor,
    )


def _problem(bench: Workbench, row: Row) -> tuple[str, str] | None:
    error = row.error
    if error is None and row.crystal is not None:
        error = check_crystal(row.crystal, elements=bench.backbone.elements)
    return None if error is None else (error.code, error.message)


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
