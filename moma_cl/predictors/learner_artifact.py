"""The arrays of a learner's blob: no other file knows their names.

What was fitted is a kernel head, or an encoder and its head. Beside it are the learner's answers to
the rows of its task that it had not seen: learners are joined, and judged, by these alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from moma_cl.arraytypes import Arrays, FloatArray, IntArray, ParameterVector
from moma_cl.learning.kernel_head import KernelHead
from moma_cl.predictors.module_readouts import ReadoutBaseline, ReadoutScale
from moma_cl.predictors.stored_arrays import StoredArrays, floats, integers

PARAMETERS = "parameters"
"""Array of the encoder's parameters, which are stored as a difference from the backbone's."""

_KERNEL = "kernel_"
_FOLDS = "folds"
_RESCALING = "rescaling"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FinetunedEncoder:
    """Parameters of a fine-tuned encoder, or of its adapters, shape ``(n_parameters,)``, and head.

    The head's vector is that of :func:`moma_cl.learning.head.head_vector`.
    """

    parameters: ParameterVector
    head: ParameterVector


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RowAnswers:
    """Normalised answers to some rows of a dataset, by heads that had not seen them."""

    rows: IntArray  # ascending, shape (n_answers,)
    answers: FloatArray  # same shape

    def of(self, rows: IntArray) -> FloatArray:
        """Take the answers to some of the rows, which ascend, too; same shape as they."""
        return self.answers[np.searchsorted(self.rows, rows)]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearnerArtifact:
    """Everything that a learner's blob holds."""

    validation: RowAnswers  # to the rows that decide
    held_out: RowAnswers  # to the rows that calibrate
    kernel: KernelHead | None = None  # of a kernel learner
    finetuned: FinetunedEncoder | None = None  # of the others
    baseline: ReadoutBaseline | None = None  # whose residuals the encoder learned; none: targets
    readout_scale: ReadoutScale | None = None  # none where readouts of modules are not used
    # slope and intercept from what encoder and head predict to normalised answers, where rows came
    # since they were trained and changed the normaliser
    rescaling: tuple[float, float] | None = None
    folds: IntArray | None = None  # of each known row, (n_known,); none where rows were held out

    def fitted_as(self, origin: LearnerArtifact) -> LearnerArtifact:
        """Give the same answers with what another learner was fitted to."""
        return replace(
            origin,
            validation=self.validation,
            held_out=self.held_out,
            rescaling=self.rescaling,
        )

    def to_arrays(self) -> Arrays:
        """Give the arrays of the blob, by name."""
        return {
            **({} if self.rescaling is None else {_RESCALING: np.array(self.rescaling)}),
            **_answer_arrays("validation", self.validation),
            **_answer_arrays("held_out", self.held_out),
            **_kernel_arrays(self.kernel),
            **_encoder_arrays(self.finetuned),
            **_readout_arrays(self.baseline, self.readout_scale),
            **({} if self.folds is None else {_FOLDS: self.folds}),
        }

    @classmethod
    def from_arrays(cls, arrays: StoredArrays) -> Self:
        """Read the arrays of a blob that :meth:`to_arrays` gave."""
        return cls(
            validation=_answers(arrays, "validation"),
            held_out=_answers(arrays, "held_out"),
            kernel=_kernel(arrays),
            finetuned=_encoder(arrays),
            baseline=_baseline(arrays),
            readout_scale=_scale(arrays),
            rescaling=_rescaling(arrays),
            folds=integers(arrays, _FOLDS) if _FOLDS in arrays else None,
        )


def _answer_arrays(fold: str, given: RowAnswers) -> Arrays:
    return {f"{fold}_rows": given.rows, f"{fold}_answers": given.answers}


def _answers(arrays: StoredArrays, fold: str) -> RowAnswers:
    rows, answers = integers(arrays, f"{fold}_rows"), floats(arrays, f"{fold}_answers")
    return RowAnswers(rows=rows, answers=answers)


def _kernel_arrays(head: KernelHead | None) -> Arrays:
    if head is None:
        return {}
    arrays: Arrays = {
        f"{_KERNEL}centre": head.centre,
        f"{_KERNEL}spread": head.spread,
        f"{_KERNEL}support": head.support.astype(np.float32),
        f"{_KERNEL}duals": head.duals,
        f"{_KERNEL}length": np.array([head.length]),
    }
    if head.offsets.any():
        arrays[f"{_KERNEL}offsets"] = head.offsets
    if head.uses_readouts:
        arrays[f"{_KERNEL}readouts"] = head.readouts
        arrays[f"{_KERNEL}readout_part"] = np.array([head.readout_weight, head.readout_length])
    return arrays


def _kernel(arrays: StoredArrays) -> KernelHead | None:
    if f"{_KERNEL}duals" not in arrays:
        return None
    readouts = arrays.get(f"{_KERNEL}readouts", np.zeros((0, 0)))
    duals = floats(arrays, f"{_KERNEL}duals")
    offsets = arrays.get(f"{_KERNEL}offsets", np.zeros(duals.shape[1]))
    weight, readout_length = arrays.get(f"{_KERNEL}readout_part", np.array([0.0, 1.0])).tolist()
    return KernelHead(
        centre=floats(arrays, f"{_KERNEL}centre"),
        spread=floats(arrays, f"{_KERNEL}spread"),
        support=floats(arrays, f"{_KERNEL}support"),
        duals=duals,
        offsets=offsets.astype(np.float64),
        length=float(arrays[f"{_KERNEL}length"][0]),
        readouts=readouts.astype(np.float64),
        readout_weight=weight,
        readout_length=readout_length,
    )


def _encoder_arrays(encoder: FinetunedEncoder | None) -> Arrays:
    return {} if encoder is None else {PARAMETERS: encoder.parameters, "head": encoder.head}


def _encoder(arrays: StoredArrays) -> FinetunedEncoder | None:
    if PARAMETERS not in arrays:
        return None
    return FinetunedEncoder(
        parameters=np.asarray(arrays[PARAMETERS], dtype=np.float32),
        head=np.asarray(arrays["head"], dtype=np.float32),
    )


def _readout_arrays(baseline: ReadoutBaseline | None, scale: ReadoutScale | None) -> Arrays:
    arrays: Arrays = {}
    if baseline is not None:
        arrays["baseline"] = baseline.coefficients
        arrays["baseline_spread"] = np.array([baseline.spread])
    if scale is not None:
        arrays |= {"readout_centre": scale.centre, "readout_spread": scale.spread}
    return arrays


def _baseline(arrays: StoredArrays) -> ReadoutBaseline | None:
    if "baseline" not in arrays:
        return None
    spread = float(arrays["baseline_spread"][0])
    return ReadoutBaseline(coefficients=floats(arrays, "baseline"), spread=spread)


def _rescaling(arrays: StoredArrays) -> tuple[float, float] | None:
    if _RESCALING not in arrays:
        return None
    slope, intercept = floats(arrays, _RESCALING).tolist()
    return slope, intercept


def _scale(arrays: StoredArrays) -> ReadoutScale | None:
    if "readout_centre" not in arrays:
        return None
    return ReadoutScale(
        centre=floats(arrays, "readout_centre"), spread=floats(arrays, "readout_spread")
    )
