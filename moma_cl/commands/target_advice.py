"""What the user of a task should hear about its targets: too few rows, and a better transform."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from moma_cl.properties.table import bounds_in
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import PredictorSettings
from moma_cl.records.records import Dataset, Grouping

if TYPE_CHECKING:
    from moma_cl.datasets.intake import Intake
    from moma_cl.records.task_spec import TaskSpec


class AdviceCode(StrEnum):
    """What advice is about."""

    FEW_ROWS = "few-rows"  # intervals promise nothing
    TRY_LOG10 = "try-log10"  # a positive property is learned as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Something the user should hear: for machines by its code, for people by its message."""

    code: AdviceCode
    message: str


def advice_on_rows(name: str, dataset: Dataset, grouping: Grouping) -> tuple[Advice, ...]:
    """Warn where a task has too few rows to measure errors on."""
    needed = PredictorSettings().min_rows_interval
    held_out = dataset.n_held_out if grouping == Grouping.COLUMN else 0
    n_rows = dataset.n_rows - held_out
    if n_rows >= needed:
        return ()
    message = (
        f"task {name!r} has {n_rows} row{'' if n_rows == 1 else 's'} to learn from, fewer than "
        f"{needed}: errors cannot be measured, so intervals are the range of the values and "
        f"promise nothing; `moma-cl add-data {name} FILES` adds rows"
    )
    return (Advice(code=AdviceCode.FEW_ROWS, message=message),)


def advice_on_transform(spec: TaskSpec, intake: Intake) -> tuple[Advice, ...]:
    """Propose the logarithm for a property that is positive in every row and learned as it is."""
    bounds = bounds_in(spec.unit, spec.property, spec.target)
    positive = bounds is not None and bounds[0] == 0 and bool((intake.targets > 0).all())
    if spec.transform is not Transform.NONE or not positive:
        return ()
    message = (
        f"{spec.property} is positive and is learned as it is: consider `--transform log10`, with "
        "which intervals stay above 0 and small values count as much as large ones"
    )
    return (Advice(code=AdviceCode.TRY_LOG10, message=message),)
