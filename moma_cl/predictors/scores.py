"""How well answers agree with measured values, beside always answering the same value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import spearmanr

from moma_cl.arraytypes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Errors of some answers, in the task's unit where they have one.

    Attributes
    ----------
    n_rows
        Number of answers.
    mae, rmse
        Mean absolute error, and root of the mean squared error.
    baseline_mae
        Mean absolute error of always answering the baseline.
    r2
        Coefficient of determination; none where all measured values are equal.
    rank_correlation
        Spearman's; none where all measured values, or all answers, are equal.
    coverage
        Share of the measured values that lie within their intervals.
    width
        Mean width of the intervals.
    """

    n_rows: int
    mae: float
    rmse: float
    baseline_mae: float
    r2: float | None
    rank_correlation: float | None
    coverage: float
    width: float

    @classmethod
    def of(
        cls,
        measured: FloatArray,
        answers: FloatArray,
        intervals: tuple[FloatArray, FloatArray],
        baseline: float,
    ) -> Self:
        """Score answers.

        Parameters
        ----------
        measured
            Measured values, shape ``(n_rows,)``, one at least.
        answers
            Predicted values, same shape.
        intervals
            Lower and upper ends, same shape each.
        baseline
            What is answered without any knowledge of structures: the median of known values.

        Returns
        -------
        Scores
            Their errors.
        """
        errors = answers - measured
        lower, upper = intervals
        spread = np.square(measured - measured.mean()).sum()
        ordered = min(np.ptp(measured), np.ptp(answers)) > 0
        return cls(
            n_rows=len(measured),
            mae=float(np.abs(errors).mean()),
            rmse=float(np.sqrt(np.square(errors).mean())),
            baseline_mae=float(np.abs(measured - baseline).mean()),
            r2=float(1.0 - np.square(errors).sum() / spread) if spread > 0 else None,
            rank_correlation=float(spearmanr(measured, answers).statistic) if ordered else None,
            coverage=float(((lower <= measured) & (measured <= upper)).mean()),
            width=float((upper - lower).mean()),
        )

    @property
    def of_baseline(self) -> float | None:
        """The mean absolute error as a share of the baseline's; none where that is zero."""
        return self.mae / self.baseline_mae if self.baseline_mae > 0 else None
