"""The rows that estimates are measured on, and their targets with outliers pulled in."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.learning.estimate import winsorised
from moma_cl.learning.normaliser import Normaliser
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import EstimateSettings
from moma_cl.records.records import Task


def estimate_targets(targets: FloatArray, task: Task, settings: EstimateSettings) -> FloatArray:
    """Normalise a task's targets and pull outliers in, shape ``(n_rows,)``."""
    normalised = Normaliser.fit(targets, Transform(task.transform)).forward(targets)
    return winsorised(normalised, settings.winsorise)


def sampled_rows(rows: IntArray, size: int) -> IntArray:
    """Spread a sample of at most this size evenly over rows."""
    if len(rows) <= size:
        return rows
    return rows[np.linspace(0, len(rows) - 1, size).round().astype(np.int64)]
