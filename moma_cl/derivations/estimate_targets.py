"""What estimates are judged by: rows, and their targets without outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.learning.leave_one_out import winsorised
from moma_cl.learning.normaliser import Normaliser
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import EstimateSettings
from moma_cl.records.records import Task


def estimate_targets(targets: FloatArray, task: Task, settings: EstimateSettings) -> FloatArray:
    """Normalise a task's targets and pull outliers in, shape ``(n_rows,)``."""
    normalised = Normaliser.fit(targets, Transform(task.transform)).forward(targets)
    return winsorised(normalised, settings.winsorise)


def sampled_rows(known: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Spread a sample evenly over rows, at most so many of them."""
    if len(known) <= size:
        return known
    return known[np.linspace(0, len(known) - 1, size).round().astype(np.int64)]
