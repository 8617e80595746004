"""The arrays of a calibration, in the blobs of predictors and modules: domain and intervals."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import Arrays
from moma_cl.predictors.calibration import Calibrated
from moma_cl.predictors.difficulty import Difficulty
from moma_cl.predictors.domain import Domain
from moma_cl.predictors.stored_arrays import StoredArrays, floats

ALIKE = (
    ("domain_centre", "domain_spread"),
    ("domain_known", "difficulty_errors"),
    ("held_out_residuals", "held_out_difficulty"),
)
"""Arrays that have one number for each of the same things."""


def calibrated_arrays(calibrated: Calibrated) -> Arrays:
    """Give the arrays of a calibration, by name."""
    return {**_domain_arrays(calibrated.domain), **_residual_arrays(calibrated)}


def calibrated_from(arrays: StoredArrays) -> Calibrated:
    """Read what `calibrated_arrays` gave."""
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


def _domain_arrays(domain: Domain) -> Arrays:
    return {
        "domain_centre": domain.centre,
        "domain_spread": domain.spread,
        "domain_known": domain.points.astype(domain.precision),
        "domain_reach": np.array([domain.reach, domain.limit, float(domain.neighbours)]),
        "domain_elements": np.array(domain.elements, dtype=np.uint8),
    }


def _domain(arrays: StoredArrays) -> Domain:
    reach, limit, neighbours = floats(arrays, "domain_reach").tolist()
    return Domain(
        centre=floats(arrays, "domain_centre"),
        spread=floats(arrays, "domain_spread"),
        points=floats(arrays, "domain_known"),
        precision=arrays["domain_known"].dtype,
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
