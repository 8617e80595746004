"""The fine-tuned learners: an encoder and a head trained by gradients, several at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from threading import Event, Lock
from typing import TypeVar

from moma_cl.arraytypes import IntArray
from moma_cl.core.devices import in_turn_off_the_cpu
from moma_cl.core.threads import as_they_end
from moma_cl.derivations.derived import Computed, Derived
from moma_cl.derivations.finetuning_start import FinetuningStart, finetuning_start
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.learner_record import derived_learner
from moma_cl.learning.head import head_vector
from moma_cl.learning.training import TrainingError, TrainingSet, predict_graphs, train
from moma_cl.predictors.learner_artifact import FinetunedEncoder, LearnerArtifact, RowAnswers
from moma_cl.progress import Progress
from moma_cl.workspace.workspace import Workspace

Outcome = TypeVar("Outcome")


def fit_finetuned_learners(
    workspace: Workspace, derivations: Sequence[Derivation]
) -> Generator[Computed]:
    """Fit learners of one task, on the CPU as many at once as there are cores.

    Each is given as soon as its training has ended, or failed: the others go on. Whoever closes the
    generator before its end ends all trainings.
    """
    steps = _Steps(f"learners {derivations[0].task}", workspace.progress, len(derivations))
    starts, trainings = [], []
    for index, derivation in enumerate(derivations):
        # one after the other: what a workspace keeps is for one thread
        start = _outcome(partial(finetuning_start, workspace, derivation))
        if isinstance(start, FinetuningStart):
            starts.append((index, start))
            trainings.append(_training(start, partial(steps.count, index)))
        else:
            yield Computed(index=index, outcome=start)
    # an optimiser imports it when first made; two at once would each see half of it
    import_module("torch._dynamo")
    try:
        with in_turn_off_the_cpu(workspace.device), closing(as_they_end(trainings)) as ended:
            for place, (error, seconds) in ended:
                index, start = starts[place]
                steps.end(index)
                begun = time.perf_counter()
                fitted = partial(_fitted, start, derivations[index])
                outcome = _outcome(fitted) if error is None else error
                took = seconds + time.perf_counter() - begun
                yield Computed(index=index, outcome=outcome, seconds=took)
    finally:
        steps.cancelled.set()


def _training(
    start: FinetuningStart, progress: Callable[[int, int], None]
) -> Callable[[], tuple[Exception | None, float]]:
    """Give the call that trains a start in place; it returns what went wrong, and the seconds."""
    data, baseline = start.data, start.baseline
    targets = data.targets
    if baseline is not None:
        targets = (targets - baseline.predictions) / baseline.regression.spread
    training_set = TrainingSet(
        graphs=start.encoders.graphs(data.rows),
        targets=targets,
        train=data.split.train,
        validation=data.split.validation,
    )
    settings = data.recipe.finetune

    def call() -> tuple[Exception | None, float]:
        begun = time.perf_counter()
        outcome = _outcome(
            partial(train, start.encoder, start.head, training_set, settings, progress=progress)
        )
        return outcome if isinstance(outcome, Exception) else None, time.perf_counter() - begun

    return call


def _outcome(call: Callable[[], Outcome]) -> Outcome | Exception:
    """Make a call; give what it returns, or what went wrong."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
        return error


def _fitted(start: FinetuningStart, derivation: Derivation) -> Derived:
    """Round the parameters of a start that was trained, then predict."""
    encoder, head, data, baseline = start.encoder, start.head, start.data, start.baseline
    bits = data.recipe.finetune.rounded_bits
    parameters = start.encoders.round_parameters(encoder, start.trained, bits)
    graphs = start.encoders.graphs(data.rows)

    def answers(rows: IntArray) -> RowAnswers:
        predicted = predict_graphs(encoder, head, [graphs[row] for row in rows])
        if baseline is not None:
            predicted = predicted * baseline.regression.spread + baseline.predictions[rows]
        return RowAnswers(rows=rows, answers=predicted)

    artifact = LearnerArtifact(
        validation=answers(data.split.validation),
        held_out=answers(data.split.held_out),
        finetuned=FinetunedEncoder(parameters=parameters, head=head_vector(head)),
        baseline=baseline.regression if baseline else None,
        readout_scale=baseline.scale if baseline else None,
    )
    return derived_learner(
        data,
        derivation,
        artifact,
        start=start.kind,
        multitask=start.multitask,
        base=start.encoders.base(start.trained),
    )


@dataclass(slots=True)
class _Steps:
    """Adds up the steps of trainings that run at once, and ends them when nobody waits for them."""

    label: str
    progress: Progress
    n_trainings: int  # of as many steps each
    cancelled: Event = field(default_factory=Event)
    _done: dict[int, int] = field(default_factory=dict)
    _each: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, training: int, done: int, each: int) -> None:
        """Report how many steps of one training are done."""
        if self.cancelled.is_set():
            raise TrainingError("the training was given up: the pass has ended")
        with self._lock:
            self._done[training], self._each = done, each
            self.progress(self.label, sum(self._done.values()), each * self.n_trainings)

    def end(self, training: int) -> None:
        """Count the steps that a training stopped short of."""
        self.count(training, self._each, self._each)
