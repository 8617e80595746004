"""The arrays of a predictor's blob, beside those of its learners and of the calibration.

Each part of a predictor is one group of arrays. A pair of functions writes and reads each group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.arraytypes import Arrays, FloatArray, IntArray
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.calibration import Calibrated
from moma_cl.predictors.calibration_arrays import calibrated_arrays, calibrated_from
from moma_cl.predictors.stored_arrays import StoredArrays, floats, integers
from moma_cl.properties.transforms import Transform
from moma_cl.structures.crystals import PackedCrystals

_GOLDEN = "golden_"
_CRYSTALS = ("lattices", "atomic_numbers", "frac_coords", "offsets")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GoldenAnswers:
    """A few structures, and what the predictor answered for them when it was made."""

    crystals: PackedCrystals
    answers: FloatArray  # values, lower, upper ends, task's unit; distances; (4, n_structures)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CrossValidation:
    """Absolute out-of-fold errors, normalised, and fold of each known row, shape ``(n_known,)``."""

    residuals: FloatArray
    groups: IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictorArtifact:
    """Everything that a predictor's blob holds."""

    normaliser: Normaliser  # between the task's unit and normalised targets
    label_range: tuple[float, float]  # smallest and largest known target, in the task's unit
    deciding_rows: IntArray  # of the dataset, which chose the learners, shape (n_deciding,)
    deciding_answers: FloatArray  # of heads that had not seen them, normalised, same shape
    calibrated: Calibrated  # domain and held-out residuals
    cross_validation: CrossValidation | None = None  # none where rows were held out
    golden: GoldenAnswers | None = None  # none until they were asked for

    def to_arrays(self) -> Arrays:
        """Give the arrays of the blob, by name."""
        return {
            "normaliser": np.array([self.normaliser.mean, self.normaliser.deviation]),
            "label_range": np.array(self.label_range),
            "decided_rows": self.deciding_rows,
            "decided_answers": self.deciding_answers,
            **calibrated_arrays(self.calibrated),
            **_cross_validation_arrays(self.cross_validation),
            **_golden_arrays(self.golden),
        }

    @classmethod
    def from_arrays(cls, arrays: StoredArrays, transform: Transform) -> Self:
        """Read the arrays of a blob that :meth:`to_arrays` gave, of a task with this transform."""
        mean, deviation = floats(arrays, "normaliser").tolist()
        low, high = floats(arrays, "label_range").tolist()
        return cls(
            normaliser=Normaliser(transform=transform, mean=mean, deviation=deviation),
            label_range=(low, high),
            deciding_rows=integers(arrays, "decided_rows"),
            deciding_answers=floats(arrays, "decided_answers"),
            calibrated=calibrated_from(arrays),
            cross_validation=_cross_validation(arrays),
            golden=_golden(arrays),
        )


def _cross_validation_arrays(cross_validation: CrossValidation | None) -> Arrays:
    if cross_validation is None:
        return {}
    return {"cv_residuals": cross_validation.residuals, "cv_groups": cross_validation.groups}


def _cross_validation(arrays: StoredArrays) -> CrossValidation | None:
    if "cv_residuals" not in arrays:
        return None
    return CrossValidation(
        residuals=floats(arrays, "cv_residuals"), groups=integers(arrays, "cv_groups")
    )


def _golden_arrays(golden: GoldenAnswers | None) -> Arrays:
    if golden is None:
        return {}
    crystals = {_GOLDEN + name: array for name, array in golden.crystals.to_arrays().items()}
    return {**crystals, f"{_GOLDEN}answers": golden.answers}


def _golden(arrays: StoredArrays) -> GoldenAnswers | None:
    if f"{_GOLDEN}answers" not in arrays:
        return None
    crystals = PackedCrystals.from_arrays({name: arrays[_GOLDEN + name] for name in _CRYSTALS})
    return GoldenAnswers(crystals=crystals, answers=floats(arrays, f"{_GOLDEN}answers"))
