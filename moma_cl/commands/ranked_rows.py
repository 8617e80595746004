"""Which structures to make next: predictions in the order of a goal, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from scipy.stats import norm

from moma_cl.commands.predictions import OK, PredictedRow, Predictions
from moma_cl.commands.ranking import Ranking, SortName
from moma_cl.predictors.domain import Applicability
from moma_cl.structures.formulas import element_fractions

ALIKE = 0.1
"""Compositions that differ in less than this share of their atoms are alike."""

_OPTIMISM = 2.0  # standard deviations that the upper confidence bound adds


def ranked(
    ranking: Ranking, rows: Iterable[PredictedRow], measured: Sequence[float]
) -> Predictions:
    """Order rows, the best first, each with its score; rows without an answer come last.

    Parameters
    ----------
    ranking
        The goal.
    rows
        Of one task.
    measured
        Values of the task's rows, in its unit: what is to be improved on.

    Returns
    -------
    Predictions
        The best rows, and those that were left out.
    """
    best = max(_sign(ranking) * value for value in measured)
    scored = [replace(row, score=_score(ranking, row, best)) for row in rows]
    ordered = sorted(scored, key=lambda row: (_tier(ranking, row), -(row.score or 0.0)))
    if ranking.acquire is not None:
        ordered = sorted(_unlike_first(ordered), key=lambda row: _tier(ranking, row))
    end = len(ordered) if ranking.top is None else ranking.top
    return Predictions(tuple(ordered[:end]), left_out=tuple(ordered[end:]))


def _tier(ranking: Ranking, row: PredictedRow) -> int:
    """Put rows without an answer last, before them what need not be or better is not measured."""
    if row.score is None:
        return 3
    if ranking.acquire is not None and row.known is not None:
        return 2
    return int(row.applicability == Applicability.OUTSIDE and not ranking.outside)


def _sign(ranking: Ranking) -> float:
    return -1.0 if ranking.minimise else 1.0


def _score(ranking: Ranking, row: PredictedRow, best: float) -> float | None:
    """Say how good a row is; none where it has no answer, or no interval that is needed."""
    if row.status != OK or row.value is None:
        return None
    if ranking.sort is not None:
        return _by(ranking.sort, row)
    if ranking.window is None and ranking.acquire is None:
        return _sign(ranking) * row.value
    deviation = _deviation(row)
    if deviation is None:
        return None
    if ranking.window is not None:
        low, high = norm.cdf((np.array(ranking.window) - row.value) / deviation)
        return float(high - low)
    return _worth(ranking, row, deviation, best)


def _by(sort: SortName, row: PredictedRow) -> float | None:
    """Give what rows are ordered by, the larger the better."""
    if sort == "value":
        return row.value
    if sort == "distance":
        return None if row.distance is None else -row.distance
    return None if row.lower is None or row.upper is None else row.lower - row.upper


def _deviation(row: PredictedRow) -> float | None:
    """Give the standard deviation of a normal distribution with the row's interval."""
    if row.lower is None or row.upper is None:
        return None
    return (row.upper - row.lower) / (2.0 * float(norm.ppf((1.0 + row.level) / 2.0)))


def _worth(ranking: Ranking, row: PredictedRow, deviation: float, best: float) -> float:
    """Weigh what is predicted and what is not known; the best value is negative for a minimum.

    References
    ----------
    Expected improvement: Jones, Schonlau, Welch, J. Global Optim. 13, 455 (1998), equation 15.
    Upper confidence bound: Srinivas et al., arXiv 0912.3995, with two standard deviations.
    Thompson sampling: Thompson, Biometrika 25, 285 (1933).
    """
    mean = _sign(ranking) * (row.value or 0.0)
    if ranking.acquire == "ucb":
        return mean + _OPTIMISM * deviation
    if ranking.acquire == "ts":
        return mean + deviation * _drawn(row)
    z = (mean - best) / deviation
    return float((mean - best) * norm.cdf(z) + deviation * norm.pdf(z))


def _drawn(row: PredictedRow) -> float:
    """Draw from a standard normal distribution: always the same for one row and predictor."""
    name = f"{row.predictor}:{row.source}:{row.id}".encode()
    seed = int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
    return float(np.random.default_rng(seed).standard_normal())


def _unlike_first(rows: Sequence[PredictedRow]) -> list[PredictedRow]:
    """Put rows whose composition is like that of a better one behind all others."""
    chosen: list[Mapping[str, float]] = []
    first, later = [], []
    for row in rows:
        fractions = element_fractions(row.formula)
        if any(_difference(fractions, other) < ALIKE for other in chosen):
            later.append(row)
        else:
            chosen.append(fractions)
            first.append(row)
    return first + later


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Give the share of the atoms that would have to be replaced."""
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {*one, *other}) / 2.0
