"""The results of ``predict``: one row for each row of the input, and all of them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from moma_cl.arraytypes import FloatArray

if TYPE_CHECKING:
    import pandas as pd

    from moma_cl.predictors.explanation import KnownRow

OK = "ok"
"""Status of a row that has an answer."""

FEW_ROWS = (
    "the predictor learned from too few rows to measure its errors (at least ten are needed): the "
    "interval is the range of their values, and promises nothing"
)
"""What the message of a row begins with whose calibration is ``range``."""

_SHOWN = 10  # rows that a notebook shows


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRow:
    """The answer to one row of the input.

    Attributes
    ----------
    id
        Id of the row.
    source
        File and line.
    formula
        Chemical formula, such as ``TiO2``; empty for a row without a structure.
    status
        ``ok``, or the code of what is wrong with the row.
    message
        What is wrong, and what to do; or what is unusual about a row that is ``ok``; else empty.
    task
        The task's name; empty where a module answers by itself.
    value, lower, upper
        Prediction and ends of its interval, in the unit; none for a bad row.
    unit
        The task's unit, or that of the property.
    per_atom
        Whether the unit is one per atom.
    level
        Coverage of the interval, unless the calibration is ``range``.
    applicability
        ``inside``, ``edge`` or ``outside`` of what the predictor knows.
    distance
        How far outside; up to 1 is inside.
    unseen_elements
        Symbols of the elements that no row had from which the predictor learned.
    calibration
        Where the interval comes from; ``range`` promises no coverage.
    known
        The measured value, in the unit, where the structure is that of one of the task's rows;
        ``value`` is the prediction all the same.
    known_id
        Id of that row.
    predictor
        Digest of the predictor, or of the module, that answered.
    neighbours
        The nearest known rows, where they were asked for.
    modules
        Weight of each module behind the predictor, where they were asked for.
    property, module
        The property, and the module that answered by itself; empty where a task was asked.
    score
        How good the row is for the goal, the larger the better, where rows were ranked.
    columns
        The other columns of the row, as they were read.
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
    known: float | None = None
    known_id: str | None = None
    unseen_elements: tuple[str, ...] = ()
    neighbours: tuple[KnownRow, ...] = ()
    modules: Mapping[str, float] = field(default_factory=dict)
    property: str = ""
    module: str = ""
    formula: str = ""
    score: float | None = None
    columns: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions(Sequence[PredictedRow]):
    """The answers to all rows of the input, in its order.

    Attributes
    ----------
    rows
        One for each row of the input, also for those that have no answer; the best of them where
        they were ranked.
    left_out
        The others where they were ranked, in their order.

    Examples
    --------
    >>> Predictions(()).to_dicts()
    []
    """

    rows: tuple[PredictedRow, ...]
    left_out: tuple[PredictedRow, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> PredictedRow: ...
    @overload
    def __getitem__(self, place: slice) -> Predictions: ...
    def __getitem__(self, place: int | slice) -> PredictedRow | Predictions:
        return Predictions(self.rows[place]) if isinstance(place, slice) else self.rows[place]

    def __iter__(self) -> Iterator[PredictedRow]:
        return iter(self.rows)

    @property
    def values(self) -> FloatArray:
        """Predictions, shape ``(n_rows,)``, in the unit of each; NaN where there is no answer."""
        return np.array(
            [np.nan if row.value is None else row.value for row in self.rows], dtype=np.float64
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give each row as a dictionary of its fields."""
        return [_as_dict(row) for row in self.rows]

    def to_frame(self) -> pd.DataFrame:
        """Give all rows as a pandas table, one column for each field of `PredictedRow`."""
        import pandas as pd

        return pd.DataFrame(self.to_dicts(), columns=list(PredictedRow.__dataclass_fields__))

    def _repr_html_(self) -> str:
        names: tuple[str, ...] = (
            "id",
            "formula",
            "status",
            "value",
            "lower",
            "upper",
            "unit",
            "known",
        )
        if any(row.property for row in self.rows):
            names = ("id", "formula", "property", "status", "value", "lower", "upper", "unit")
        names = (*names, "applicability")
        lines = "".join(_line(row, names) for row in self.rows[:_SHOWN])
        head = "".join(f"<th>{name}</th>" for name in names)
        more = len(self.rows) - _SHOWN
        note = f"<p>and {more:,} more rows; to_frame() gives all</p>" if more > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{note}"


def _as_dict(row: PredictedRow) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in PredictedRow.__dataclass_fields__}
    fields["neighbours"] = [asdict(neighbour) for neighbour in row.neighbours]
    return {**fields, "modules": dict(row.modules), "columns": dict(row.columns)}


def _line(row: PredictedRow, names: Sequence[str]) -> str:
    values = [getattr(row, name) for name in names]
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value or "") for value in values]
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"
