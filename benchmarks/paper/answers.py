"""The answers of every learner to rows that it has not seen, kept so that ways to join are tried.

Each fit leaves one file. Whatever joins learners can be tried on these files in seconds, and each
part's share of a gain be measured, without training anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moma_cl.derivations.keys import DerivationKind
from moma_cl.predictors.predictor import load_artifact
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.progress import quiet
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Predictor
from moma_cl.records.refs import full_name
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

FOLDS = ("validation", "held_out")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answered:
    """Answers to the rows of one fold that all learners have in common.

    Attributes
    ----------
    targets
        In the task's unit, shape ``(n_rows,)``.
    answers
        By learner, in the task's unit, shape ``(n_rows,)`` each.
    """

    targets: NDArray[np.float64]
    answers: Mapping[str, NDArray[np.float64]]

    def mae(self, names: Sequence[str]) -> float:
        """Measure the error of the mean of some learners.

        Parameters
        ----------
        names
            Which learners.

        Returns
        -------
        float
            Mean absolute error, in the task's unit.
        """
        mean = np.mean([self.answers[name] for name in names], axis=0)
        return float(np.abs(mean - self.targets).mean())


def save(hub: Path, predictor: Predictor, file: Path) -> None:
    """Keep the answers of all learners of a predictor's dataset.

    Parameters
    ----------
    hub
        The hub.
    predictor
        The predictor fitted last.
    file
        Where answers are kept: NumPy's archive of arrays.
    """
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        targets = workspace.rows(predictor.dataset).targets
        normaliser = load_artifact(store, predictor).normaliser
        arrays: dict[str, NDArray[np.generic]] = {"targets": targets}
        for one in learners_of(store, predictor.dataset):
            name = full_name(one.record.name, backbone_record(store, one.record.backbone).name)
            for fold in FOLDS:
                given = getattr(one.artifact, fold)
                arrays[f"{name}/{fold}_rows"] = given.rows
                arrays[f"{name}/{fold}"] = normaliser.inverse(given.answers)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def learners_of(store: Store, dataset: str) -> list[StoredLearner]:
    """Load every learner that was fitted to a dataset.

    Parameters
    ----------
    store
        The hub's store.
    dataset
        Digest of the dataset.

    Returns
    -------
    list[StoredLearner]
        The learners, in the order of their derivations' keys.
    """
    memos = store.memos(f"{DerivationKind.LEARNER}:").values()
    stored = (StoredLearner.load(store, memo.result) for memo in memos)
    return [one for one in stored if one.record.dataset == dataset]


def load(files: Mapping[str, Path], fold: str) -> Answered:
    """Read answers of several fits of one task and split.

    Parameters
    ----------
    files
        Where they are kept, by what stands before the names of learners.
    fold
        One of `FOLDS`.

    Returns
    -------
    Answered
        Answers to the rows that all learners have answered.
    """
    found: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    targets = np.zeros(0)
    for prefix, file in files.items():
        with np.load(file) as arrays:
            targets = arrays["targets"]
            for key in arrays.files:
                name, _, kind = key.rpartition("/")
                if kind == fold:
                    found[prefix + name] = arrays[f"{name}/{fold}_rows"], arrays[key]
    rows = reduce(np.intersect1d, (own for own, _ in found.values()))
    return Answered(
        targets=targets[rows],
        answers={name: own[np.searchsorted(had, rows)] for name, (had, own) in found.items()},
    )
