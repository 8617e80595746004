"""The targets that estimates are measured against, with outliers pulled in."""

from __future__ import annotations

from moma_cl.arraytypes import FloatArray
from moma_cl.learning.estimate import winsorised
from moma_cl.learning.normaliser import Normaliser
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import EstimateSettings
from moma_cl.records.records import Task


def estimate_targets(targets: FloatArray, task: Task, settings: EstimateSettings) -> FloatArray:
    """Normalise a task's targets and pull outliers in, shape ``(n_rows,)``."""
    normalised = Normaliser.fit(targets, Transform(task.transform)).forward(targets)
    return winsorised(normalised, settings.winsorise)
