"""A fitted learner: one way to answer, with its predictions of rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.predictors.artifact import LearnerParts


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittedLearner:
    """One or several learners that answer together."""

    validation: FloatArray  # normalised predictions of rows that decide, shape (n_validation,)
    held_out: FloatArray  # normalised predictions of rows that calibrate, shape (n_held_out,)
    parts: LearnerParts  # what is stored of it


def mean_of(*learners: FittedLearner) -> FittedLearner:
    """Let learners answer together, by the mean of their predictions, with the parts of all.

    Their encoders must be in different slots.
    """
    parts = [one.parts for one in learners]
    return FittedLearner(
        validation=np.mean([one.validation for one in learners], axis=0),
        held_out=np.mean([one.held_out for one in learners], axis=0),
        parts=LearnerParts(
            kernel=next((one.kernel for one in parts if one.kernel is not None), None),
            finetuned={slot: stored for one in parts for slot, stored in one.finetuned.items()},
            baseline=next((one.baseline for one in parts if one.baseline is not None), None),
        ),
    )
