"""The kernel learner: a kernel head on embeddings by the composed encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.folds import cv_groups
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.learner import FittedLearner
from moma_cl.learning.kernel_head import KernelChoice, KernelHead, fit_kernel_head
from moma_cl.predictors.artifact import CrossValidation, LearnerParts
from moma_cl.predictors.calibration import learned_rows
from moma_cl.records.records import Grouping


def fit_kernel_learner(data: FittingData) -> FittedLearner:
    """Fit the kernel learner of a task with a validation fold.

    Its validation predictions are of a head that has not seen the validation rows; the head that
    is kept has seen them.
    """
    split = data.split
    head, choice = _fit(data, split.train)
    validation = _predict(head, data, split.validation)[:, 0]
    head, _ = _fit(data, learned_rows(split), choice=choice)
    held_out = _predict(head, data, split.held_out)[:, 0]
    parts = LearnerParts(kernel=head)
    return FittedLearner(validation=validation, held_out=held_out, parts=parts)


def cross_validate_kernel_learner(data: FittingData) -> tuple[FittedLearner, CrossValidation]:
    """Fit a head on all rows to answer, and one without each group to measure its errors.

    The learner's validation predictions are out of fold, of all training rows.
    """
    training = data.split.train
    # a user's column of folds does not tell which rows belong together
    by_column = data.task.grouping == Grouping.COLUMN
    groups = cv_groups(
        [data.rows.formulas[row] for row in training],
        data.rows.fingerprints[training],
        Grouping.FORMULA if by_column else data.task.grouping,
        data.workspace.hub.salt,
        max_folds=data.recipe.kernel.cv_folds,
    )
    n_groups = int(groups.max(initial=-1)) + 1
    subsets = [np.ones(len(training), dtype=bool), *(groups != group for group in range(n_groups))]
    head, _ = _fit(data, training, subsets=subsets)
    out_of_fold = _predict(head, data, training)[np.arange(len(training)), groups + 1]
    learner = FittedLearner(
        validation=out_of_fold,
        held_out=_predict(head, data, data.split.held_out)[:, 0],
        parts=LearnerParts(kernel=head),
    )
    residuals = np.abs(out_of_fold - data.targets[training])
    return learner, CrossValidation(residuals=residuals, groups=groups.astype(np.int64))


def _fit(
    data: FittingData,
    rows: IntArray,
    *,
    choice: KernelChoice | None = None,
    subsets: list[NDArray[np.bool_]] | None = None,
) -> tuple[KernelHead, KernelChoice]:
    return fit_kernel_head(
        data.embeddings[rows],
        data.targets[rows],
        data.recipe.kernel,
        groups=data.rows.fingerprints[rows],
        choice=choice,
        subsets=subsets,
        readouts=data.readout_features[rows],
    )


def _predict(head: KernelHead, data: FittingData, rows: IntArray) -> FloatArray:
    return head.predict(data.embeddings[rows], data.readout_features[rows])
