"""Answers beside measured values: how far a task's predictor is off on rows with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from moma_cl.commands.predict import Question, answered, check_level
from moma_cl.commands.predictions import OK, PredictedRow
from moma_cl.commands.ready_predictor import ReadyPredictor
from moma_cl.datasets.intake import Intake, read_task_rows
from moma_cl.predictors.domain import Applicability
from moma_cl.predictors.scores import Scores
from moma_cl.progress import Progress, quiet
from moma_cl.readers.memory import Sources
from moma_cl.readers.rows import Reading, Row
from moma_cl.records.task_spec import TaskSpec
from moma_cl.records.tasks import task_state
from moma_cl.structures.checks import Refusal
from moma_store.errors import InvalidInputError
from moma_store.store import Store

if TYPE_CHECKING:
    import pandas as pd

ALL, NEW = "all", "new"
"""Names of the groups of all rows, and of those whose structure is no row of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRow:
    """One row with a label, and what the predictor answers.

    Attributes
    ----------
    id
        Id of the row.
    measured, value, lower, upper
        Label, prediction and ends of its interval, in the unit.
    error
        Prediction minus label, in the unit.
    within
        Whether the label lies within the interval.
    unit
        The task's unit.
    applicability, distance, unseen_elements, message
        As of a `PredictedRow`.
    known_id
        Id of the task's row with the same structure; none where the structure is new to it.
    """

    id: str
    measured: float
    value: float
    error: float
    lower: float
    upper: float
    within: bool
    unit: str
    applicability: str
    distance: float
    unseen_elements: tuple[str, ...]
    known_id: str | None
    message: str

    @classmethod
    def of(cls, row: PredictedRow, measured: float) -> Self | None:
        """Put a label beside an answer; none where there is no answer."""
        if row.value is None or row.lower is None or row.upper is None or row.distance is None:
            return None
        return cls(
            id=row.id,
            measured=measured,
            value=row.value,
            error=row.value - measured,
            lower=row.lower,
            upper=row.upper,
            within=row.lower <= measured <= row.upper,
            unit=row.unit,
            applicability=row.applicability or "",
            distance=row.distance,
            unseen_elements=row.unseen_elements,
            known_id=row.known_id,
            message=row.message,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well a predictor does on rows with labels.

    Attributes
    ----------
    task, unit
        The task, and its unit.
    predictor
        Digest of what answered.
    level
        Coverage that its intervals promise.
    baseline
        Median of the task's rows, in the unit: the answer of who knows no structure.
    scores
        By group: `all` rows; the `new` ones, where some are rows of the task; and those `inside`,
        at the `edge` and `outside` of what the predictor knows, where there are any.
    rows
        The rows that were answered, in the order of the input.
    refusals
        The rows that were not.
    """

    task: str
    unit: str
    predictor: str
    level: float
    baseline: float
    scores: Mapping[str, Scores]
    rows: tuple[EvaluatedRow, ...]
    refusals: tuple[Refusal, ...]

    @property
    def n_known(self) -> int:
        """Number of rows whose structure is one of the task's."""
        return sum(row.known_id is not None for row in self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Give the rows as a pandas table, one column for each field of `EvaluatedRow`."""
        import pandas as pd

        names = list(EvaluatedRow.__dataclass_fields__)
        cells = [[getattr(row, name) for name in names] for row in self.rows]
        return pd.DataFrame(cells, columns=names)


def evaluate(
    hub: Path,
    ready: ReadyPredictor,
    sources: Sources,
    *,
    target: str | None = None,
    level: float | None = None,
    reading: Reading | None = None,
    progress: Progress = quiet,
) -> Evaluation:
    """Answer rows with labels, and score the answers.

    Raises `InvalidInputError` if no row has a label and an answer.
    """
    check_level(level)
    with Store.open(hub) as store:
        spec = TaskSpec.of(task_state(store, ready.task).task)
    spec = replace(spec, target=target or spec.target, fold_column=None)
    intake = read_task_rows(sources, spec, reading=reading, appended=True)
    question = Question(ready=ready, level=level or ready.predictor.level)
    rows, refused = _sorted(answered([question], _rows(intake), progress=progress), intake)
    if not rows:
        raise InvalidInputError(
            f"no row has both a value of {spec.target!r} and an answer; the first has none "
            f"because {refused[0].message}",
            code="invalid-input.no-rows",
        )
    baseline = float(np.median(ready.measured.values))
    return Evaluation(
        task=ready.task,
        unit=ready.unit,
        predictor=ready.digest,
        level=question.level,
        baseline=baseline,
        scores={name: _scores(some, baseline) for name, some in _groups(rows).items()},
        rows=tuple(rows),
        refusals=(*intake.refusals, *refused),
    )


def _rows(intake: Intake) -> Iterator[Row]:
    for row_id, crystal in zip(intake.ids, intake.crystals, strict=True):
        yield Row(id=row_id, source="", crystal=crystal, values={}, error=None)


def _sorted(
    answers: Iterator[tuple[PredictedRow, ...]], intake: Intake
) -> tuple[list[EvaluatedRow], list[Refusal]]:
    """Tell the rows that have an answer from those that have none."""
    rows, refused = [], []
    for (answer,), measured in zip(answers, intake.targets.tolist(), strict=True):
        row = EvaluatedRow.of(answer, measured) if answer.status == OK else None
        if row is None:
            refused.append(
                Refusal(
                    id=answer.id, source=answer.source, code=answer.status, message=answer.message
                )
            )
        else:
            rows.append(row)
    return rows, refused


def _groups(rows: Sequence[EvaluatedRow]) -> dict[str, list[EvaluatedRow]]:
    """Divide the rows by what the predictor knows of them; each group has a row at least."""
    groups = {ALL: list(rows)}
    new = [row for row in rows if row.known_id is None]
    if len(new) < len(rows):
        groups[NEW] = new
    for place in Applicability:
        groups[str(place)] = [row for row in rows if row.applicability == place]
    return {name: some for name, some in groups.items() if some}


def _scores(rows: Sequence[EvaluatedRow], baseline: float) -> Scores:
    measured, values, lower, upper = np.array(
        [(row.measured, row.value, row.lower, row.upper) for row in rows]
    ).T
    return Scores.of(measured, values, (lower, upper), baseline)
