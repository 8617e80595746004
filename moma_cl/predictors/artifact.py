"""The arrays of a predictor's blob, beside those of its learners: no other file knows their names.

Each part of a predictor is one group of arrays. A pair of functions writes and reads each group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.arraytypes import Arrays, FloatArray, IntArray
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.calibration import Calibrated
from moma_cl.predictors.difficulty import Difficulty
from moma_cl.predictors.domain import Domain
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
class PredictorArtifact:
    """Everything that a predictor's blob holds."""

    normaliser: Normaliser  # between the task's unit and normalised targets
    label_range: tuple[float, float]  # smallest and largest known target, in the task's unit
    deciding_rows: IntArray  # of the dataset, which chose the learners, shape (n_deciding,)
    deciding_answers: FloatArray  # of heads that had not seen them, normalised, same shape
    calibrated: Calibrated  # domain and held-out residuals
    golden: GoldenAnswers | None = None  # none until they were asked for

    def to_arrays(self) -> Arrays:
        """Give the arrays of the blob, by name."""
        return {
            "normaliser": np.array([self.normaliser.mean, self.normaliser.deviation]),
            "label_range": np.array(self.label_range),
            "decided_rows": self.deciding_rows,
            "decided_answers": self.deciding_answers,
            **_domain_arrays(self.calibrated.domain),
            **_residual_arrays(self.calibrated),
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
            calibrated=_calibrated(arrays),
            golden=_golden(arrays),
        )


def _domain_arrays(domain: Domain) -> Arrays:
    return {
        "domain_centre": domain.centre,
        "domain_spread": domain.spread,
        "domain_known": domain.points.astype(np.float32),
        "domain_reach": np.array([domain.reach, domain.limit, float(domain.neighbours)]),
        "domain_elements": np.array(domain.elements, dtype=np.uint8),
    }


def _domain(arrays: StoredArrays) -> Domain:
    reach, limit, neighbours = floats(arrays, "domain_reach").tolist()
    return Domain(
        centre=floats(arrays, "domain_centre"),
        spread=floats(arrays, "domain_spread"),
        points=floats(arrays, "domain_known"),
        reach=reach,
        limit=limit,
        neighbours=int(neighbours),
        elements=tuple(arrays["domain_elements"].astype(np.int64).tolist()),
    )


def _residual_arrays(calibrated: Calibrated) -> Arrays:
    arrays: Arrays = {"held_out_residuals": calibrated.residuals}
    if (difficulty := calibrated.difficulty) is not None:
        scale = [difficulty.mean_error, difficulty.mean_distance, float(difficulty.neighbours)]
        arrays["difficulty_errors"] = difficulty.errors.astype(np.float32)
        arrays["difficulty_scale"] = np.array(scale)
    if calibrated.residual_difficulty is not None:
        arrays["held_out_difficulty"] = calibrated.residual_difficulty
    return arrays


def _calibrated(arrays: StoredArrays) -> Calibrated:
    domain, residuals = _domain(arrays), floats(arrays, "held_out_residuals")
    if "difficulty_scale" not in arrays:
        return Calibrated(domain=domain, residuals=residuals)
    mean_error, mean_distance, neighbours = floats(arrays, "difficulty_scale").tolist()
    difficulty = Difficulty(
        errors=floats(arrays, "difficulty_errors"),
        mean_error=mean_error,
        mean_distance=mean_distance,
        neighbours=int(neighbours),
    )
    return Calibrated(
        domain=domain,
        residuals=residuals,
        difficulty=difficulty,
        residual_difficulty=floats(arrays, "held_out_difficulty"),
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
