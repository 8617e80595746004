"""Which learners answer together: the rows that decide say so.

Learners are joined by their stored answers to rows that none of them has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.split import Split
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.leakage import enough_left
from moma_cl.predictors.artifact import CrossValidation
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Calibration, LearnerMethod, Method
from moma_cl.records.refs import full_name

MOST_COMBINED = 10  # learners of which every combination is tried


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JoinedAnswers:
    """Learners that answer together, and what they answer."""

    learners: tuple[StoredLearner, ...]
    validation: FloatArray  # normalised answers to the rows that decide, shape (n_deciding,)
    held_out: FloatArray  # normalised answers to the rows that calibrate, shape (n_held_out,)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JoinedLearners:
    """The learners that answer for a task, and how well each did."""

    data: FittingData  # the rows that judge are those that no learner has seen
    method: Method  # which of the learners answer
    answering: JoinedAnswers
    validation_maes: dict[str, float]  # by method and by learner, in the task's unit
    held_out_maes: dict[str, float]  # likewise
    deciding_rows: IntArray  # of the validation answers, shape (n_deciding,)
    cross_validation: CrossValidation | None  # of kernel learners; none where rows were held out
    multitasks: tuple[str, ...]  # the modules that learners tried started from


def join_learners(data: FittingData, learners: Sequence[StoredLearner]) -> JoinedLearners:
    """Choose which learners of a task answer: what errs least on the rows that decide.

    Those are kernel learners, fine-tuned ones, or the mean of both, of one backbone or several. Of
    few rows there are kernel learners alone, and every training row decides, out of fold.
    """
    learners, data = _judged_together(data, learners)
    cross_validated = data.split.calibration != Calibration.HELD_OUT
    deciding, held_out = (
        data.split.train if cross_validated else data.split.validation,
        data.split.held_out,
    )
    named = {
        _full_name(data, one): JoinedAnswers(
            learners=(one,),
            validation=one.artifact.validation.of(deciding),
            held_out=one.artifact.held_out.of(held_out),
        )
        for one in learners
    }
    methods = _methods(data, list(named.values()), deciding)
    named |= {str(method): one for method, one in methods.items()}
    maes = {name: data.mae(one.validation, deciding) for name, one in named.items()}
    method = min(methods, key=lambda name: maes[name])
    return JoinedLearners(
        data=data,
        method=method,
        answering=methods[method],
        validation_maes=maes,
        held_out_maes={
            name: data.mae(one.held_out, held_out) for name, one in named.items() if len(held_out)
        },
        deciding_rows=deciding,
        cross_validation=_cross_validation(data, methods[method], deciding),
        multitasks=tuple(sorted({m for one in learners if (m := one.record.multitask)})),
    )


def _full_name(data: FittingData, learner: StoredLearner) -> str:
    """Name a learner among those of all backbones."""
    record = learner.record
    return full_name(record.name, backbone_record(data.workspace.store, record.backbone).name)


def _methods(
    data: FittingData, answers: Sequence[JoinedAnswers], deciding: IntArray
) -> dict[Method, JoinedAnswers]:
    """Join the learners of each method, then both methods."""
    is_kernel = [one.learners[0].record.method is LearnerMethod.KERNEL for one in answers]
    kernels = [one for one, kernel in zip(answers, is_kernel, strict=True) if kernel]
    finetuned = [one for one, kernel in zip(answers, is_kernel, strict=True) if not kernel]
    methods = {
        method: _join(data, some, deciding)
        for method, some in ((Method.KERNEL, kernels), (Method.FINETUNED, finetuned))
        if some
    }
    if len(methods) > 1:
        methods[Method.MEAN] = _mean_of(*methods.values())
    return methods


def _judged_together(
    data: FittingData, learners: Sequence[StoredLearner]
) -> tuple[list[StoredLearner], FittingData]:
    """Find the rows that judge all learners; leave out those that would leave too few of them.

    A learner from a multitask module is left out first: that module has seen most.
    """
    kept: list[StoredLearner] = []
    for one in sorted(learners, key=lambda learner: learner.record.multitask is not None):
        before, after = (_unseen_split(data.split, some) for some in (kept, [*kept, one]))
        if not kept or enough_left(before, after):
            kept.append(one)
    in_order = [one for one in learners if one in kept]
    return in_order, data.split_as(_unseen_split(data.split, in_order))


def _unseen_split(split: Split, learners: Sequence[StoredLearner]) -> Split:
    """Leave in the folds that judge only rows that each of the learners has answered."""
    if split.calibration != Calibration.HELD_OUT or not learners:
        return split
    artifacts = [one.artifact for one in learners]
    return replace(
        split,
        validation=reduce(np.intersect1d, (one.validation.rows for one in artifacts)),
        held_out=reduce(np.intersect1d, (one.held_out.rows for one in artifacts)),
    )


def _join(data: FittingData, answers: Sequence[JoinedAnswers], deciding: IntArray) -> JoinedAnswers:
    """Take the mean of all learners of a method, unless the rows that decide speak against it.

    They err differently, so that their mean is mostly better than each; not where one of them is
    far worse. Something else answers if it errs less by more than one standard error of the
    difference: few rows, some with large targets, cannot tell more.

    References
    ----------
    Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, section 7.10 (the
    one-standard-error rule).
    """
    every = range(1, len(answers) + 1)
    # of very many learners, only few or almost all together
    sizes = (
        every if len(answers) <= MOST_COMBINED else sorted({1, 2, len(answers) - 1, len(answers)})
    )
    best, least = list(answers), data.errors(_mean_of(*answers).validation, deciding)
    together = least
    for chosen in (one for size in sizes for one in combinations(answers, size)):
        errors = data.errors(_mean_of(*chosen).validation, deciding)
        if errors.mean() < least.mean():
            best, least = list(chosen), errors
    excess = together - least
    standard_error = np.std(excess) / np.sqrt(max(1, len(excess) - 1))
    return _mean_of(*(answers if excess.mean() <= standard_error else best))


def _mean_of(*answers: JoinedAnswers) -> JoinedAnswers:
    """Let learners answer together, by the mean of what they answer."""
    return JoinedAnswers(
        learners=tuple(learner for one in answers for learner in one.learners),
        validation=np.mean([one.validation for one in answers], axis=0),
        held_out=np.mean([one.held_out for one in answers], axis=0),
    )


def _cross_validation(
    data: FittingData, answering: JoinedAnswers, deciding: IntArray
) -> CrossValidation | None:
    """Measure out-of-fold errors of kernel learners that answer together; their folds are equal."""
    folds = answering.learners[0].artifact.folds
    if folds is None:
        return None
    residuals = np.abs(answering.validation - data.targets[deciding])
    return CrossValidation(residuals=residuals, groups=folds)
