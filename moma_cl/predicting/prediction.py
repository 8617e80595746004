"""Asking: rows in, answers out, one bad row never stopping the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from moma_cl.backbones.base import CrystalGraph
from moma_cl.finding import champions, existing_task, matching
from moma_cl.predicting.explanation import Explainer, KnownRow
from moma_cl.predicting.golden import require_golden
from moma_cl.predicting.predictor import Answers, LoadedPredictor, load_predictor
from moma_cl.progress import Progress, quiet
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS
from moma_cl.structures.readers import Reading, Row, read_rows
from moma_cl.structures.rows import ISOLATED, REMARKS
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
        What is wrong, and what to do; or what is unusual about a row that is ``ok``. Empty where
        nothing is.
    task
        The task's name.
    value, lower, upper
        Prediction and ends of its interval, in the unit; none for a bad row.
    unit
        The task's unit.
    per_atom
        Whether the unit is one per atom.
    level
        Coverage of the interval, unless the calibration is ``range``.
    applicability
        ``inside``, ``edge`` or ``outside`` of what the predictor knows.
    distance
        How far outside; up to 1 is inside.
    unseen_elements
        Symbols of the elements that no row has which the predictor learned from.
    calibration
        Where the interval comes from; ``range`` promises no coverage.
    predictor
        Digest of the predictor that answered.
    neighbours
        The nearest known rows, where they were asked for.
    modules
        Weight of each module behind the predictor, where they were asked for.
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
    per_atom: bool = False
    unseen_elements: tuple[str, ...] = ()
    neighbours: tuple[KnownRow, ...] = ()
    modules: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What an interrupted run has answered already.

    Attributes
    ----------
    answered
        Digests of its rows, as :func:`row_key` gives them.
    asked
        What its rows have in common: values of `SHARED` fields; empty where it wrote no row.
    """

    answered: frozenset[bytes]
    asked: Mapping[str, Any]


SHARED = ("task", "predictor", "level")
"""Fields of `PredictedRow` that are the same in all rows of a run."""


def row_key(row_id: str, source: str) -> bytes:
    """Name a row of the input in few bytes.

    Parameters
    ----------
    row_id
        Its id.
    source
        Its file and line.

    Returns
    -------
    bytes
        Eight bytes.
    """
    return blake2b(f"{len(source)}:{source}{row_id}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all rows of one call share."""

    task: str
    unit: str
    level: float
    calibration: str
    predictor: str
    explainer: Explainer | None


def predict(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    level: float | None = None,
    at: str | None = None,
    explain: bool = False,
    earlier: Earlier | None = None,
    reading: Reading | None = None,
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
    explain
        Whether to tell the nearest known rows and the modules behind the predictor.
    earlier
        Rows that need no answer, since an interrupted run gave it.
    reading
        What the user says of the files.
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
        If the level is no coverage, or the interrupted run asked something else.
    ChangedAnswersError
        If the software is another and the predictor answers otherwise than when it was made.
    """
    if level is not None and not 0.0 < level < 1.0:
        raise InvalidInputError(f"level {level!r} is no coverage; expected a number in (0, 1)")
    with Store.open(path) as store, Workbench(store=store, progress=quiet) as bench:
        # As long as the snapshot is held, a `gc` leaves the files that it may lead to.
        with store.snapshot():
            state = existing_task(store, name)
            known = champions(store, name)
            digest = store.ref(f"predictors/{name}") if at is None else matching(known, at, name)
            if digest is None:
                raise NotFoundError(f"task {name!r} has no predictor yet; run `moma-cl update`")
            predictor = load_predictor(bench, digest)
        require_golden(bench, predictor, digest)
        asked = _Asked(
            task=name,
            unit=state.task.unit,
            level=level or predictor.level,
            calibration=str(predictor.record.calibration),
            predictor=digest,
            explainer=Explainer.of(store, bench, predictor) if explain else None,
        )
        _check_same(earlier, asked)
        done = 0
        for rows in _chunks(_unanswered(read_rows(sources, reading=reading), earlier), CHUNK):
            yield from _answered(bench, predictor, rows, asked)
            done += len(rows)
            progress("predicting", done, 0)


def _check_same(earlier: Earlier | None, asked: _Asked) -> None:
    """Refuse to mix answers of two predictors, or of two levels, in one file."""
    for name, then in earlier.asked.items() if earlier else ():
        now = getattr(asked, name)
        if then != now:
            raise InvalidInputError(
                f"the rows written so far are of {name} {then}, now it would be {now}; ask the "
                "same again (`--at`, `--level`), or write to another file",
                code="invalid-input.cannot-resume",
            )


def _unanswered(rows: Iterable[Row], earlier: Earlier | None) -> Iterator[Row]:
    known = earlier.answered if earlier else frozenset()
    return (row for row in rows if not known or row_key(row.id, row.source) not in known)


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
        else:
            at = place[index]
            flagged = _flagged(row, graphs[at])
            yield _good_row(flagged, asked, predictor, answers, crystals[at], at)


def _flagged(row: Row, graph: CrystalGraph) -> Row:
    """Flag a row whose graph has no edges."""
    alone = graph.edge_index.shape[1] == 0
    return replace(row, flags=(*row.flags, ISOLATED)) if alone else row


def _good_row(  # noqa: PLR0917  the row, what was asked, and where its answer is
    row: Row,
    asked: _Asked,
    predictor: LoadedPredictor,
    answers: Answers,
    crystal: Crystal,
    at: int,
) -> PredictedRow:
    domain, explainer = predictor.domain, asked.explainer
    strangers = domain.strangers(crystal.atomic_numbers.tolist())
    distance = float(answers.distances[at])
    return _row(
        row,
        asked,
        message="; ".join(REMARKS[flag] for flag in row.flags),
        value=float(answers.values[at]),
        lower=float(answers.lower[at]),
        upper=float(answers.upper[at]),
        distance=distance,
        applicability=str(domain.applicability(distance, strangers=bool(strangers or row.flags))),
        unseen_elements=tuple(SYMBOLS[number] for number in strangers),
        neighbours=explainer.neighbours(answers.near, at) if explainer else (),
    )


def _row(
    row: Row, asked: _Asked, *, status: str = OK, message: str = "", **found: Any
) -> PredictedRow:
    nothing = dict.fromkeys(("value", "lower", "upper", "applicability", "distance"))
    return PredictedRow(
        id=row.id,
        source=row.source,
        status=status,
        message=message,
        task=asked.task,
        unit=asked.unit,
        per_atom=asked.unit.endswith("/atom"),
        level=asked.level,
        calibration=asked.calibration,
        predictor=asked.predictor,
        modules=asked.explainer.modules if asked.explainer else {},
        **{**nothing, **found},
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
