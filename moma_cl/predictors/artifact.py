"""The arrays of a predictor's blob: no other file but that of the calibration knows their names.

Each part of a predictor is one group of arrays. A pair of functions writes and reads each group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import numpy as np

from moma_cl.arraytypes import Arrays, FloatArray, IntArray, ParameterVector
from moma_cl.learning.kernel_head import KernelHead
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.calibration import Calibrated
from moma_cl.predictors.calibration_arrays import StoredArrays, calibrated_arrays, calibrated_from
from moma_cl.predictors.module_readouts import ReadoutBaseline, ReadoutScale
from moma_cl.properties.transforms import Transform
from moma_cl.structures.crystals import PackedCrystals

_KERNEL = "kernel_"
_GOLDEN = "golden_"
_CRYSTALS = ("lattices", "atomic_numbers", "frac_coords", "offsets")


class EncoderSlot(StrEnum):
    """Where a fine-tuned encoder is stored: what the names of its arrays begin with."""

    FIRST = ""  # from the composition, or the only fine-tuned encoder, whatever its start
    BESIDE = "backbone_"  # from the backbone or a multitask module, beside others
    ADAPTERS = "adapters_"  # adapters round the composition
    BACKBONE_ADAPTERS = "backbone_adapters_"  # adapters round the backbone

    @property
    def has_adapters(self) -> bool:
        """Whether only adapters are stored, round an encoder that is stored elsewhere."""
        return self in {EncoderSlot.ADAPTERS, EncoderSlot.BACKBONE_ADAPTERS}

    @property
    def is_beside(self) -> bool:
        """Whether it started from anything but the composition, and learned the targets."""
        return self in {EncoderSlot.BESIDE, EncoderSlot.BACKBONE_ADAPTERS}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FinetunedEncoder:
    """Parameters of a fine-tuned encoder, or of its adapters, shape ``(n_parameters,)``, and head.

    The head's vector is that of :func:`moma_cl.learning.head.head_vector`.
    """

    parameters: ParameterVector
    head: ParameterVector


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearnerParts:
    """What is stored of the learners that answer together."""

    kernel: KernelHead | None = None  # where it is one of them
    finetuned: Mapping[EncoderSlot, FinetunedEncoder] = field(default_factory=dict)
    baseline: ReadoutBaseline | None = None  # whose residuals some of the encoders learned

    @property
    def uses_readouts(self) -> bool:
        """Whether the readouts of modules are needed to predict."""
        return self.baseline is not None or (self.kernel is not None and self.kernel.uses_readouts)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CrossValidation:
    """Absolute out-of-fold errors, normalised, and fold of each known row, shape ``(n_known,)``."""

    residuals: FloatArray
    groups: IntArray


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
    deciding_answers: FloatArray  # of learners that had not seen them, normalised, same shape
    learners: LearnerParts
    readout_scale: ReadoutScale | None  # none where readouts of modules are not used
    calibrated: Calibrated  # domain and held-out residuals
    cross_validation: CrossValidation | None  # none where rows were held out
    golden: GoldenAnswers | None = None  # none until they were asked for

    def to_arrays(self) -> Arrays:
        """Give the arrays of the blob, by name."""
        return {
            "normaliser": np.array([self.normaliser.mean, self.normaliser.deviation]),
            "label_range": np.array(self.label_range),
            "decided_rows": self.deciding_rows,
            "decided_answers": self.deciding_answers,
            **_learner_arrays(self.learners),
            **_scale_arrays(self.readout_scale),
            **calibrated_arrays(self.calibrated),
            **_cross_validation_arrays(self.cross_validation),
            **_golden_arrays(self.golden),
        }

    @classmethod
    def from_arrays(cls, arrays: StoredArrays, transform: Transform) -> Self:
        """Read the arrays of a blob that :meth:`to_arrays` gave, of a task with this transform."""
        mean, deviation = _floats(arrays, "normaliser").tolist()
        low, high = _floats(arrays, "label_range").tolist()
        return cls(
            normaliser=Normaliser(transform=transform, mean=mean, deviation=deviation),
            label_range=(low, high),
            deciding_rows=arrays["decided_rows"].astype(np.int64),
            deciding_answers=_floats(arrays, "decided_answers"),
            learners=_learners(arrays),
            readout_scale=_scale(arrays),
            calibrated=calibrated_from(arrays),
            cross_validation=_cross_validation(arrays),
            golden=_golden(arrays),
        )


def _floats(arrays: StoredArrays, name: str) -> FloatArray:
    return arrays[name].astype(np.float64)


def _learner_arrays(learners: LearnerParts) -> Arrays:
    arrays: Arrays = {}
    if (head := learners.kernel) is not None:
        arrays |= {
            f"{_KERNEL}centre": head.centre,
            f"{_KERNEL}spread": head.spread,
            f"{_KERNEL}support": head.support.astype(np.float32),
            f"{_KERNEL}duals": head.duals,
            f"{_KERNEL}length": np.array([head.length]),
        }
        if head.uses_readouts:
            arrays[f"{_KERNEL}opinions"] = head.readouts
    for slot, encoder in learners.finetuned.items():
        arrays |= {f"{slot}parameters": encoder.parameters, f"{slot}head": encoder.head}
    if (baseline := learners.baseline) is not None:
        arrays |= {"prior": baseline.coefficients, "prior_spread": np.array([baseline.spread])}
    return arrays


def _learners(arrays: StoredArrays) -> LearnerParts:
    kernel = baseline = None
    if f"{_KERNEL}duals" in arrays:
        readouts = arrays.get(f"{_KERNEL}opinions", np.zeros((0, 0)))
        kernel = KernelHead(
            centre=_floats(arrays, f"{_KERNEL}centre"),
            spread=_floats(arrays, f"{_KERNEL}spread"),
            support=_floats(arrays, f"{_KERNEL}support"),
            duals=_floats(arrays, f"{_KERNEL}duals"),
            length=float(arrays[f"{_KERNEL}length"][0]),
            readouts=readouts.astype(np.float64),
        )
    if "prior" in arrays:
        spread = float(arrays["prior_spread"][0])
        baseline = ReadoutBaseline(coefficients=_floats(arrays, "prior"), spread=spread)
    finetuned = {
        slot: FinetunedEncoder(
            parameters=np.asarray(arrays[f"{slot}parameters"], dtype=np.float32),
            head=np.asarray(arrays[f"{slot}head"], dtype=np.float32),
        )
        for slot in EncoderSlot
        if f"{slot}parameters" in arrays
    }
    return LearnerParts(kernel=kernel, finetuned=finetuned, baseline=baseline)


def _scale_arrays(scale: ReadoutScale | None) -> Arrays:
    if scale is None:
        return {}
    return {"opinion_centre": scale.centre, "opinion_spread": scale.spread}


def _scale(arrays: StoredArrays) -> ReadoutScale | None:
    if "opinion_centre" not in arrays:
        return None
    return ReadoutScale(
        centre=_floats(arrays, "opinion_centre"), spread=_floats(arrays, "opinion_spread")
    )


def _cross_validation_arrays(cross_validation: CrossValidation | None) -> Arrays:
    if cross_validation is None:
        return {}
    return {"cv_residuals": cross_validation.residuals, "cv_groups": cross_validation.groups}


def _cross_validation(arrays: StoredArrays) -> CrossValidation | None:
    if "cv_residuals" not in arrays:
        return None
    groups = arrays["cv_groups"].astype(np.int64)
    return CrossValidation(residuals=_floats(arrays, "cv_residuals"), groups=groups)


def _golden_arrays(golden: GoldenAnswers | None) -> Arrays:
    if golden is None:
        return {}
    crystals = {_GOLDEN + name: array for name, array in golden.crystals.to_arrays().items()}
    return {**crystals, f"{_GOLDEN}answers": golden.answers}


def _golden(arrays: StoredArrays) -> GoldenAnswers | None:
    if f"{_GOLDEN}answers" not in arrays:
        return None
    crystals = PackedCrystals.from_arrays({name: arrays[_GOLDEN + name] for name in _CRYSTALS})
    return GoldenAnswers(crystals=crystals, answers=_floats(arrays, f"{_GOLDEN}answers"))
