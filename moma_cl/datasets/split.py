"""What the rows of a task are used for: fitting, choices, calibration."""

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
        What decided the folds: held-out rows of a user's fold column stay so in small tasks, too.
    settings
        The numbers of rows that training, validation and calibration need.

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
    train = np.sort(np.concatenate([train, validation]))
    if grouping != Grouping.COLUMN:
        train, held_out = np.arange(len(rows.ids)), np.zeros(0, np.int64)
    few = len(train) < settings.min_rows_interval
    return Split(
        calibration=Calibration.RANGE if few else Calibration.CROSS_VALIDATION,
        train=train,
        validation=np.zeros(0, np.int64),
        held_out=held_out,
    )
