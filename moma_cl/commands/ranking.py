"""What predictions are ordered by: a goal, and how many of them are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from moma_store.errors import InvalidInputError

SortName = Literal["value", "width", "distance"]
"""What rows can be ordered by without a goal."""

AcquireName = Literal["ei", "ucb", "ts"]
"""How the worth of a measurement can be weighed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """In which order rows come, and how many of them.

    Attributes
    ----------
    maximise, minimise
        The goal is a large value, or a small one.
    window
        The goal is a value between these two, in the task's unit.
    sort
        There is no goal: rows are ordered by `value` (the largest first), `width` of the interval
        (the narrowest first) or `distance` from known rows (the nearest first).
    acquire
        Weighs what is not known of a row, too: `ei` is the expected improvement on the best
        measured value, `ucb` the upper confidence bound, `ts` a value drawn from what is predicted
        (Thompson sampling). Rows whose composition is like that of a better one come after those
        that differ, and measured ones last. Without it the predicted value decides.
    outside
        Whether rows outside of what the predictor knows compete with the others; by default they
        come after them.
    top
        Number of rows that are kept; by default all.

    Raises
    ------
    InvalidInputError
        If there are several goals, or none, the window is empty, or `acquire` has no direction.

    Examples
    --------
    >>> Ranking(maximise=True, acquire="ei", top=5).top
    5
    """

    maximise: bool = False
    minimise: bool = False
    window: tuple[float, float] | None = None
    sort: SortName | None = None
    acquire: AcquireName | None = None
    outside: bool = False
    top: int | None = None

    def __post_init__(self) -> None:
        _check_choice("sort", self.sort, SortName)
        _check_choice("acquire", self.acquire, AcquireName)
        goals = (self.maximise, self.minimise, self.window is not None, self.sort is not None)
        if sum(goals) != 1:
            raise _refused(
                f"{sum(goals)} goals were given; expected one of maximise, minimise, window, sort "
                "(`--max`, `--min`, `--target-window`, `--sort`)"
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            low, high = self.window
            raise _refused(
                f"the window from {low:g} to {high:g} is empty; give the lower end first"
            )
        if self.acquire is not None and not (self.maximise or self.minimise):
            raise _refused(
                "acquire needs a direction: maximise or minimise (`--max`, `--min`) beside it"
            )
        if self.top is not None and self.top < 1:
            raise _refused(f"the best {self.top} rows are none; expected 1 or more")


def _check_choice(name: str, value: str | None, choices: Any) -> None:
    if value is not None and value not in get_args(choices):
        raise _refused(f"{name} is {value!r}; expected {', '.join(get_args(choices))}")


def _refused(message: str) -> InvalidInputError:
    return InvalidInputError(message, code="invalid-input.ranking")
