"""Transforms of targets: what is learned instead of a value."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # listing tasks reads this and shall not wait for numpy
    import numpy as np
    from numpy.typing import NDArray


class Transform(StrEnum):
    """What is done to a target before it is learned."""

    NONE = "none"
    LOG10 = "log10"
    LOG = "log"

    def defined_at(self, target: float) -> bool:
        """Whether a target in the task's unit is finite, and positive if it has a logarithm."""
        return math.isfinite(target) and (self is Transform.NONE or target > 0)

    def forward(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform targets in the unit of the task, any shape, into what is learned."""
        import numpy as np

        if self is Transform.NONE:
            return np.array(targets, dtype=np.float64)
        values: NDArray[np.float64] = (np.log10 if self is Transform.LOG10 else np.log)(targets)
        return values

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo the transform of what a predictor gives, any shape.

        What exceeds the largest float is infinite.
        """
        import numpy as np

        if self is Transform.NONE:
            return np.array(values, dtype=np.float64)
        with np.errstate(over="ignore"):
            targets: NDArray[np.float64] = (
                np.power(10.0, values) if self is Transform.LOG10 else np.exp(values)
            )
        return targets
