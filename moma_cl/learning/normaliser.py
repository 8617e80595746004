"""Targets as they are learned: transformed, then normalised by the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.properties.transforms import Transform

NEGLIGIBLE = 1e-12  # relative deviation that is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Normaliser:
    """From a task's unit to what is learned, and back.

    Attributes
    ----------
    transform
        Applied first.
    mean, deviation
        Of the transformed training targets.
    """

    transform: Transform
    mean: float
    deviation: float

    @classmethod
    def fit(cls, targets: FloatArray, transform: Transform) -> Normaliser:
        """Take mean and deviation of training rows.

        Parameters
        ----------
        targets
            Targets of the training rows, shape ``(n_rows,)``, in the task's unit.
        transform
            The task's transform.

        Returns
        -------
        Normaliser
            The normaliser.
        """
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
        """Normalise.

        Parameters
        ----------
        targets
            Any shape, in the task's unit.

        Returns
        -------
        FloatArray
            Same shape, dimensionless.
        """
        return np.asarray((self.transform.forward(targets) - self.mean) / self.deviation)

    def inverse(self, normalised: FloatArray) -> FloatArray:
        """Go back to the task's unit.

        Parameters
        ----------
        normalised
            Any shape, dimensionless.

        Returns
        -------
        FloatArray
            Same shape, in the task's unit.
        """
        return np.asarray(self.transform.inverse(normalised * self.deviation + self.mean))
