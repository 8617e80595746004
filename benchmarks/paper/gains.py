"""How much smaller the errors of some methods are than those of others, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper.results import Result
from benchmarks.paper.tasks import TASKS

N_RESAMPLES = 10_000

Errors = Mapping[tuple[str, int, str], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much smaller one error is than another, as a share of that, paired by task and split.

    Attributes
    ----------
    by_task
        Mean over the splits of each task.
    n_fits
        Number of pairs.
    low, high
        Bounds of the 95 % interval of the mean over tasks, tasks and splits resampled.
    """

    by_task: Mapping[str, float]
    n_fits: int
    mean: float
    low: float
    high: float

    @property
    def n_better(self) -> int:
        """Number of tasks with a gain."""
        return sum(gain > 0 for gain in self.by_task.values())


def chosen(errors: Errors, task: str, split: int, methods: Sequence[str]) -> Result | None:
    """Find the method that validation chooses.

    Parameters
    ----------
    errors
        The table.
    task, split
        Which fit.
    methods
        What there is to choose from.

    Returns
    -------
    Result | None
        Its line; none where a method is missing.
    """
    found = [errors.get((task, split, method)) for method in methods]
    lines = [line for line in found if line is not None]
    if len(lines) < len(methods):
        return None
    return min(lines, key=lambda line: line.validation_mae)


def gain(errors: Errors, ours: Sequence[str], theirs: Sequence[str]) -> Gain | None:
    """Compare what validation chooses of two sets of methods.

    Parameters
    ----------
    errors
        The table.
    ours, theirs
        The sets.

    Returns
    -------
    Gain | None
        The comparison; none where no fit has all of them.
    """
    shares: dict[str, NDArray[np.float64]] = {}
    splits = sorted({split for _, split, _ in errors})
    for task in TASKS:
        pairs = [
            (chosen(errors, task.name, k, ours), chosen(errors, task.name, k, theirs))
            for k in splits
        ]
        both = [1.0 - o.mae / t.mae for o, t in pairs if o is not None and t is not None]
        if both:
            shares[task.name] = np.array(both)
    if not shares:
        return None
    generator = np.random.default_rng(0)
    names = list(shares)
    means = np.empty(N_RESAMPLES)
    for i in range(N_RESAMPLES):
        drawn = generator.choice(len(names), len(names))
        means[i] = np.mean(
            [generator.choice(shares[names[j]], len(shares[names[j]])).mean() for j in drawn]
        )
    low, high = np.quantile(means, [0.025, 0.975])
    by_task = {name: float(values.mean()) for name, values in shares.items()}
    return Gain(
        by_task=by_task,
        n_fits=sum(map(len, shares.values())),
        mean=float(np.mean(list(by_task.values()))),
        low=float(low),
        high=float(high),
    )
