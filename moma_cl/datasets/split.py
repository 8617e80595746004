"""Which rows of a task give what: gradients, choices, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import IntArray
from moma_cl.datasets.segments import HELD_OUT, TRAIN, VALIDATION, LiveRows
from moma_cl.recipe import PredictorSettings
from moma_cl.records.records import Calibration, Grouping


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Split:
    """What each row is used for.

    Attributes
    ----------
    calibration
        Where the intervals come from, which also says how the predictor is made.
    train
        Rows that are fitted; all rows of a cross-validation.
    validation
        Rows that decide; none in a cross-validation, where each row decides in its turn.
    held_out
        Rows that decide nothing.
    """

    calibration: Calibration
    train: IntArray
    validation: IntArray
    held_out: IntArray


def split_of(rows: LiveRows, grouping: Grouping, settings: PredictorSettings) -> Split:
    """Split the rows of a dataset by what each is used for.

    Parameters
    ----------
    rows
        The live rows of a dataset.
    grouping
        What decided the folds: a column of the user's keeps its held-out rows also where there
        are few.
    settings
        The numbers of rows below which less is done.

    Returns
    -------
    Split
        The split.
    """
    train, validation = rows.in_fold(TRAIN), rows.in_fold(VALIDATION)
    held_out = rows.in_fold(HELD_OUT)
    if settings.has_folds(
        n_train=len(train), n_validation=len(validation), n_held_out=len(held_out)
    ):
        return Split(
            calibration=Calibration.HELD_OUT,
            train=train,
            validation=validation,
            held_out=held_out,
        )
    known = np.sort(np.concatenate([train, validation]))
    if grouping != Grouping.COLUMN:
        known, held_out = np.arange(len(rows.ids)), np.zeros(0, np.int64)
    few = len(known) < settings.min_rows_interval
    return Split(
        calibration=Calibration.RANGE if few else Calibration.CROSS_VALIDATION,
        train=known,
        validation=np.zeros(0, np.int64),
        held_out=held_out,
    )
