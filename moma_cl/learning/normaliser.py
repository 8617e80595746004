"""Targets as they are learned: transformed, then normalised by the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.properties.transforms import Transform

NEGLIGIBLE = 1e-12  # relative deviation that is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Normaliser:
    """From a task's unit to what is learned, and back."""

    transform: Transform  # applied first
    mean: float  # of the transformed training targets
    deviation: float  # likewise

    @classmethod
    def fit(cls, targets: FloatArray, transform: Transform) -> Normaliser:
        """Take mean and deviation of targets of the training rows, in the task's unit."""
        transformed = transform.forward(targets)
        deviation = float(transformed.std())
        if deviation <= NEGLIGIBLE * float(np.abs(transformed).max(initial=0.0)):
            deviation = 1.0  # constant: the answer is the mean
        return cls(
            transform=transform,
            mean=float(transformed.mean()),
            deviation=deviation,
        )

    def forward(self, targets: FloatArray) -> FloatArray:
        """Normalise targets in the task's unit, any shape."""
        return np.asarray((self.transform.forward(targets) - self.mean) / self.deviation)

    def inverse(self, normalised: FloatArray) -> FloatArray:
        """Go back from normalised values, any shape, to the task's unit."""
        return np.asarray(self.transform.inverse(normalised * self.deviation + self.mean))
