"""Kernel learners: a kernel head on embeddings by the composed encoder, or a multitask module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.folds import cv_groups
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.kernel_features import KernelFeatures
from moma_cl.learning.kernel_head import KernelChoice, KernelHead, fit_kernel_head
from moma_cl.predictors.calibration import learned_rows
from moma_cl.predictors.learner_artifact import LearnerArtifact, RowAnswers
from moma_cl.records.hub import hub_of
from moma_cl.records.records import Calibration, Grouping

_SHARPNESS = 16  # power of the inverse errors by which a head and the median of the rows count


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Rows:
    """The rows of a task with the features that a kernel head is fitted on."""

    data: FittingData
    features: KernelFeatures

    def fit(
        self,
        rows: IntArray,
        *,
        choice: KernelChoice | None = None,
        subsets: list[NDArray[np.bool_]] | None = None,
    ) -> tuple[KernelHead, KernelChoice]:
        return fit_kernel_head(
            self.features.embeddings[rows],
            self.data.targets[rows],
            self.data.recipe.kernel,
            groups=self.data.rows.fingerprints[rows],
            choice=choice,
            subsets=subsets,
            readouts=self.features.readouts.values[rows],
        )

    def predict(self, head: KernelHead, rows: IntArray) -> FloatArray:
        return head.predict(self.features.embeddings[rows], self.features.readouts.values[rows])

    def artifact(
        self,
        head: KernelHead,
        validation: RowAnswers,
        folds: IntArray | None = None,
    ) -> LearnerArtifact:
        held_out = self.data.split.held_out
        answers = self.predict(head, held_out)[:, 0]
        return LearnerArtifact(
            validation=validation,
            held_out=RowAnswers(rows=held_out, answers=answers),
            kernel=head,
            readout_scale=self.features.readouts.scale if head.uses_readouts else None,
            folds=folds,
        )


def fit_kernel_learner(data: FittingData, features: KernelFeatures) -> LearnerArtifact:
    """Fit a kernel learner of a task; of few rows every training row decides, out of fold."""
    rows = _Rows(data=data, features=features)
    held_out = data.split.calibration == Calibration.HELD_OUT
    return _with_validation_fold(rows) if held_out else _cross_validated(rows)


def _with_validation_fold(rows: _Rows) -> LearnerArtifact:
    """Fit a head that has not seen the validation rows to answer them, then one that has."""
    split = rows.data.split
    head, choice = rows.fit(split.train)
    answers = rows.predict(head, split.validation)[:, 0]
    head, _ = rows.fit(learned_rows(split), choice=choice)
    return rows.artifact(head, RowAnswers(rows=split.validation, answers=answers))


def _cross_validated(rows: _Rows) -> LearnerArtifact:
    """Fit a head on all rows to answer, and one without each group to measure its errors."""
    data, training = rows.data, rows.data.split.train
    # a user's column of folds does not tell which rows belong together
    by_column = data.task.grouping == Grouping.COLUMN
    groups = cv_groups(
        [data.rows.formulas[row] for row in training],
        data.rows.fingerprints[training],
        Grouping.FORMULA if by_column else data.task.grouping,
        hub_of(data.workspace.store).salt,
        max_folds=data.recipe.kernel.cv_folds,
    )
    n_groups = int(groups.max(initial=-1)) + 1
    subsets = [np.ones(len(training), dtype=bool), *(groups != group for group in range(n_groups))]
    head, _ = rows.fit(training, subsets=subsets)
    out_of_fold = np.arange(len(training)), groups + 1
    targets = data.targets[training]
    medians = np.array([np.median(targets[seen]) if seen.any() else 0.0 for seen in subsets])
    answers = rows.predict(head, training)[out_of_fold]
    head = head.drawn_to(medians, _share(answers, medians[groups + 1], targets))
    answers = rows.predict(head, training)[out_of_fold]
    return rows.artifact(head, RowAnswers(rows=training, answers=answers), groups.astype(np.int64))


def _share(answers: FloatArray, medians: FloatArray, targets: FloatArray) -> float:
    """Say how much a head counts beside the median of the rows it was fitted on.

    Of few rows with some large targets, a head may err more than the median, which says the same
    of every structure. Each counts by a high power of its inverse out-of-fold error: almost fully
    where it is clearly better.
    """
    head, median = (np.abs(one - targets).mean() for one in (answers, medians))
    return float(1.0 / (1.0 + (head / median) ** _SHARPNESS)) if median > 0 else 1.0
