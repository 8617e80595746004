"""The fine-tuned learners: an encoder and a head trained by gradients, from each start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from threading import Event, Lock

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.core.devices import in_turn_off_the_cpu
from moma_cl.core.threads import side_by_side
from moma_cl.derivations.finetuning_starts import Start, finetuning_starts
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.learner import FittedLearner
from moma_cl.learning.head import head_vector
from moma_cl.learning.training import TrainingError, TrainingSet, predict_graphs, train
from moma_cl.predictors.artifact import FinetunedEncoder, LearnerParts
from moma_cl.predictors.module_readouts import ReadoutBaseline
from moma_cl.progress import Progress
from moma_cl.records.records import ModuleKind


def fit_finetuned_learners(data: FittingData, *, with_readouts: bool) -> dict[str, FittedLearner]:
    """Fine-tune every start of a predictor; give a learner for each, by the name of its start.

    ``with_readouts`` says whether readouts of modules help to predict the task.
    """
    baseline = None
    if with_readouts:
        training = data.split.train
        baseline = ReadoutBaseline.fit(data.readout_features[training], data.targets[training])
    starts = list(finetuning_starts(data, baseline))
    _train_all(data, starts)
    return {start.name: _trained_learner(data, start) for start in starts}


def _train_all(data: FittingData, starts: Sequence[Start]) -> None:
    """Train all, on the CPU as many at once as there are cores."""
    workspace, split, settings = data.workspace, data.split, data.recipe.finetune
    graphs = workspace.graphs(data.rows)
    steps = _Steps(f"predictor {data.task.name}", workspace.progress, len(starts))

    def fit(start: Start) -> None:
        predicted, spread = _baseline(data, start)
        training_set = TrainingSet(
            graphs=graphs,
            targets=(data.targets - predicted) / spread,
            train=split.train,
            validation=split.validation,
        )
        counted = partial(steps.count, start.name)
        train(start.encoder, start.head, training_set, settings, progress=counted)
        steps.end(start.name)

    # an optimiser imports it when first made; two at once would each see half of it
    import_module("torch._dynamo")
    try:
        with in_turn_off_the_cpu(workspace.device):
            side_by_side([partial(fit, start) for start in starts])
    finally:
        steps.cancelled.set()


@dataclass(slots=True)
class _Steps:
    """Adds up the steps of trainings that run at once; if one fails, it ends the others."""

    label: str
    progress: Progress
    n_trainings: int  # of as many steps each
    cancelled: Event = field(default_factory=Event)
    _done: dict[str, int] = field(default_factory=dict)
    _each: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, name: str, done: int, each: int) -> None:
        """Report how many steps of one training are done."""
        if self.cancelled.is_set():
            raise TrainingError("the training was given up: another one failed, or was interrupted")
        with self._lock:
            self._done[name], self._each = done, each
            self.progress(self.label, sum(self._done.values()), each * self.n_trainings)

    def end(self, name: str) -> None:
        """Count the steps that a training stopped short of."""
        self.count(name, self._each, self._each)


def _trained_learner(data: FittingData, start: Start) -> FittedLearner:
    """Round the parameters of a start that was trained, then predict."""
    encoder, head, split = start.encoder, start.head, data.split
    kind = ModuleKind.ADAPTER if start.slot.has_adapters else data.composition.module
    parameters = data.workspace.round_parameters(encoder, kind, data.recipe.finetune.rounded_bits)
    predicted, spread = _baseline(data, start)
    validation, held_out = (
        predict_graphs(encoder, head, data.graphs_of(rows)) * spread + predicted[rows]
        for rows in (split.validation, split.held_out)
    )
    stored = FinetunedEncoder(parameters=parameters, head=head_vector(head))
    parts = LearnerParts(finetuned={start.slot: stored}, baseline=start.baseline)
    return FittedLearner(validation=validation, held_out=held_out, parts=parts)


def _baseline(data: FittingData, start: Start) -> tuple[FloatArray, float]:
    """Give what a start's baseline predicts of every row, and the spread of its residuals."""
    if start.baseline is None:
        return np.zeros(len(data.targets)), 1.0
    return start.baseline.predict(data.readout_features), start.baseline.spread
