"""Which learners answer together: validation rows decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from moma_cl.arraytypes import IntArray
from moma_cl.derivations.finetuned_learners import fit_finetuned_learners
from moma_cl.derivations.finetuning_starts import FROM_BACKBONE, FROM_MULTITASK
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.kernel_learner import cross_validate_kernel_learner, fit_kernel_learner
from moma_cl.derivations.learner import FittedLearner, mean_of
from moma_cl.predictors.artifact import CrossValidation, EncoderSlot
from moma_cl.records.records import Method


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JoinedLearners:
    """The learners that answer for a task, and how well each did."""

    method: Method  # which of them answer
    learner: FittedLearner  # those that answer, joined
    validation_maes: dict[str, float]  # by method and by start, in the task's unit
    held_out_maes: dict[str, float]  # likewise
    deciding_rows: IntArray  # of the validation predictions, shape (n_deciding,)
    cross_validation: CrossValidation | None = None  # none where rows were held out


def join_learners(data: FittingData, *, finetune: bool) -> JoinedLearners:
    """Fit the learners of a task with a validation fold, and choose which answer.

    They are the kernel learner, the fine-tuned ones if asked for, or the mean of both: what errs
    least on validation.
    """
    split = data.split
    methods = {Method.KERNEL: fit_kernel_learner(data)}
    starts: dict[str, FittedLearner] = {}
    if finetune:
        kernel = methods[Method.KERNEL]
        starts = fit_finetuned_learners(data, with_readouts=kernel.parts.uses_readouts)
        methods[Method.FINETUNED] = _join_starts(data, starts)
        methods[Method.MEAN] = mean_of(kernel, methods[Method.FINETUNED])
    learners = {**{str(method): learner for method, learner in methods.items()}, **starts}
    maes = {name: data.mae(one.validation, split.validation) for name, one in learners.items()}
    method = min(methods, key=lambda name: maes[name])
    return JoinedLearners(
        method=method,
        learner=methods[method],
        validation_maes=maes,
        held_out_maes={
            name: data.mae(one.held_out, split.held_out) for name, one in learners.items()
        },
        deciding_rows=split.validation,
    )


def cross_validated_learner(data: FittingData) -> JoinedLearners:
    """Fit the kernel learner of a task of few rows, which answers alone.

    Every training row decides, out of fold.
    """
    learner, cross_validation = cross_validate_kernel_learner(data)
    name, split = str(Method.KERNEL), data.split
    held_out = {name: data.mae(learner.held_out, split.held_out)} if len(split.held_out) else {}
    return JoinedLearners(
        method=Method.KERNEL,
        learner=learner,
        validation_maes={name: data.mae(learner.validation, split.train)},
        held_out_maes=held_out,
        deciding_rows=split.train,
        cross_validation=cross_validation,
    )


def _join_starts(data: FittingData, starts: Mapping[str, FittedLearner]) -> FittedLearner:
    """Take the mean of all starts, unless validation rows speak against it.

    Starts err differently, so that their mean is mostly better than each; not where one of them is
    far worse. Something else answers if it errs less by more than one standard error of the
    difference: few rows, some with large targets, cannot tell more.

    References
    ----------
    Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, section 7.10 (the
    one-standard-error rule).
    """
    candidates = [
        _mean_of_starts({name: starts[name] for name in names})
        for size in range(1, len(starts) + 1)
        for names in combinations(starts, size)
    ]
    errors = [data.errors(one.validation, data.split.validation) for one in candidates]
    best = min(range(len(candidates)), key=lambda index: float(errors[index].mean()))
    excess = errors[-1] - errors[best]  # of the mean of all
    standard_error = np.std(excess) / np.sqrt(max(1, len(excess) - 1))
    return candidates[-1] if excess.mean() <= standard_error else candidates[best]


def _mean_of_starts(starts: Mapping[str, FittedLearner]) -> FittedLearner:
    if len(starts) == 1:
        return mean_of(*starts.values())
    return mean_of(
        *(
            _moved_beside(learner) if name in {FROM_BACKBONE, FROM_MULTITASK} else learner
            for name, learner in starts.items()
        )
    )


def _moved_beside(learner: FittedLearner) -> FittedLearner:
    """Store an encoder beside the others, since only one of them can be the first."""
    finetuned = {EncoderSlot.BESIDE: learner.parts.finetuned[EncoderSlot.FIRST]}
    return replace(learner, parts=replace(learner.parts, finetuned=finetuned))
