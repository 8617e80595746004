"""What a module needs, besides its encoder, to answer in its own unit.

The encoder of a module is what other tasks compose. With the readout of its property, the
normaliser, errors on rows that its training did not see and a sample of the rows that it did see,
the module answers questions of its own: with an interval, and with a word on whether the structure
is like those it has learned from. Its rows themselves are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import Arrays, FloatArray, IntArray
from moma_cl.datasets.split import Split
from moma_cl.learning.embedding import Embeddings
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import Readout
from moma_cl.learning.sampling import evenly_spaced
from moma_cl.predictors.calibration import Answered, Calibrated, calibrate
from moma_cl.predictors.calibration_arrays import ALIKE, calibrated_arrays, calibrated_from
from moma_cl.predictors.domain import HALF
from moma_cl.predictors.stored_arrays import StoredArrays
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import without_logarithm
from moma_cl.recipe import PredictorSettings
from moma_cl.records.records import Calibration
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_cl.structures.vacuum import with_vacuum

TRAINING_POINTS = 384  # of the domain, which has 0.25 MB at most: a hub may have many modules
VALIDATION_POINTS = 128  # likewise; they also decide whether the widths of intervals vary


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModuleRows:
    """Rows of a module's task as its calibration sees them."""

    split: Split  # which rows are used, and for what, as `sample` gives it
    embeddings: Embeddings  # by the module's encoder, shape (n_rows, n_features)
    feature_dim: int  # width of the node features
    targets: FloatArray  # normalised, shape (n_rows,)
    fingerprints: NDArray[np.uint64]  # shape (n_rows,)
    learned: Sequence[Crystal]  # of all rows that the module has learned from, in any order
    points: Sequence[Crystal]  # of the split's training rows, then of its validation rows


def sample(train: IntArray, validation: IntArray, held_out: IntArray) -> Split:
    """Choose the rows that a module keeps its domain and its errors of.

    Rows of the training and the validation are spread evenly; held-out rows are all kept.
    """
    return Split(
        calibration=Calibration.HELD_OUT if len(held_out) else Calibration.RANGE,
        train=train[evenly_spaced(len(train), TRAINING_POINTS)],
        validation=validation[evenly_spaced(len(validation), VALIDATION_POINTS)],
        held_out=held_out,
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModuleAnswers:
    """What a module's blob holds so that it can answer."""

    readout: Readout  # from embeddings to normalised answers
    normaliser: Normaliser  # from those to the unit
    extremes: tuple[float, float]  # smallest and largest normalised target of the known rows
    calibrated: Calibrated  # domain, of a sample of its rows, and held-out residuals
    slabs: NDArray[np.bool_]  # which points of the domain have vacuum, shape (n_points,)

    @classmethod
    def fit(cls, readout: Readout, normaliser: Normaliser, rows: ModuleRows) -> Self:
        """Calibrate a module's readout, and learn where its domain is."""
        split = rows.split
        used = np.concatenate([split.train, split.validation, split.held_out])
        ends = np.cumsum([len(split.train), len(split.validation), len(split.held_out)])
        parts = np.split(np.arange(len(used)), ends[:-1])
        answers, targets = readout.predict(rows.embeddings[used]), rows.targets[used]
        answered = Answered(
            embeddings=rows.embeddings[used].astype(np.float64),
            feature_dim=rows.feature_dim,
            targets=targets,
            fingerprints=rows.fingerprints[used],
            elements=tuple(sorted({int(z) for one in rows.learned for z in one.atomic_numbers})),
            split=replace(split, train=parts[0], validation=parts[1], held_out=parts[2]),
            validation=answers[parts[1]],
            held_out=answers[parts[2]],
        )
        known = targets[: ends[1]]
        return cls(
            readout=readout,
            normaliser=normaliser,
            extremes=(float(known.min()), float(known.max())),
            calibrated=calibrate(answered, PredictorSettings(), precision=HALF),
            slabs=with_vacuum(PackedCrystals.pack(rows.points)),
        )

    @property
    def calibration(self) -> Calibration:
        """Where its intervals come from: the range of the targets if nothing was held out."""
        return Calibration.HELD_OUT if len(self.calibrated.residuals) else Calibration.RANGE

    @property
    def label_range(self) -> tuple[float, float]:
        """Smallest and largest target of the known rows, in the unit."""
        low, high = self.normaliser.inverse(np.array(self.extremes)).tolist()
        return low, high

    def to_arrays(self) -> Arrays:
        """Give the arrays under which it is stored in the module's blob, the readout's included."""
        return {
            **self.readout.to_arrays(),
            "normaliser": np.array([self.normaliser.mean, self.normaliser.deviation]),
            "extremes": np.array(self.extremes),
            "domain_slabs": self.slabs,
            **calibrated_arrays(self.calibrated),
        }

    @classmethod
    def from_arrays(cls, arrays: StoredArrays, transform: Transform) -> Self | None:
        """Read what `to_arrays` gave, of targets with this transform.

        None where the module cannot answer: it was trained elsewhere, or on several tasks.
        """
        readout = Readout.from_arrays(arrays)
        if readout is None or "normaliser" not in arrays:
            return None
        mean, deviation = arrays["normaliser"].astype(np.float64).tolist()
        low, high = arrays["extremes"].astype(np.float64).tolist()
        return cls(
            readout=readout,
            normaliser=Normaliser(transform=transform, mean=mean, deviation=deviation),
            extremes=(low, high),
            calibrated=calibrated_from(arrays),
            slabs=arrays["domain_slabs"].astype(np.bool_),
        )

    def fits(self, arrays: StoredArrays, feature_dim: int) -> bool:
        """Tell whether the arrays that it was read from go together, for a backbone's width."""
        domain = self.calibrated.domain
        alike = all(
            arrays[first].shape[:1] == arrays[second].shape[:1]
            for first, second in (*ALIKE, ("domain_known", "domain_slabs"))
            if first in arrays and second in arrays
        )
        points = domain.points.shape[1:] == domain.centre.shape == (2 * feature_dim,)
        return alike and points and domain.neighbours > 0 and self.normaliser.deviation > 0


def answer_errors(
    unit: str, training: FloatArray, held_out: FloatArray, answers: FloatArray
) -> dict[str, Any]:
    """Measure how far a module's answers to held-out rows are off, for its record.

    Parameters
    ----------
    unit
        Of the module's targets; where it is that of a logarithm, errors are those of the values.
    training
        Targets of the training rows, shape ``(n_train,)``.
    held_out
        Targets of the held-out rows, shape ``(n_held_out,)``.
    answers
        Answers to these, same shape.

    Returns
    -------
    dict[str, Any]
        ``unit`` of the answers, ``mae``, ``mae_of_median`` (of always answering the median of the
        training rows) and ``n_held_out``; the errors are none where no row was held out.
    """
    plain = without_logarithm(unit)
    if plain != unit:
        training, held_out, answers = map(Transform.LOG10.inverse, (training, held_out, answers))
    errors = answers - held_out
    from_median = held_out - np.median(training)
    return {
        "unit": plain,
        "mae": float(np.abs(errors).mean()) if len(held_out) else None,
        "mae_of_median": float(np.abs(from_median).mean()) if len(held_out) else None,
        "n_held_out": len(held_out),
    }
