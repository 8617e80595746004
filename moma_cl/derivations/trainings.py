"""Derivations that train an encoder and a head by gradients, several at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from threading import Event, Lock
from typing import TypeVar

from moma_cl.backbones.base import Backbone
from moma_cl.core.devices import in_turn_off_the_cpu
from moma_cl.core.threads import as_they_end
from moma_cl.derivations.derived import Computed, Derived
from moma_cl.derivations.keys import Derivation
from moma_cl.learning.head import Head
from moma_cl.learning.training import TrainingError, TrainingReport, TrainingSet, train
from moma_cl.progress import Progress
from moma_cl.recipe import TrainingSettings
from moma_cl.workspace.workspace import Workspace

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Training:
    """A training, ready to begin, and what becomes of it."""

    encoder: Backbone  # trained in place, as the head is
    head: Head
    data: TrainingSet
    settings: TrainingSettings
    finish: Callable[[TrainingReport], Derived]  # makes the result of what was trained


Prepare = Callable[[Workspace, Derivation], Training]


def train_together(
    workspace: Workspace, label: str, derivations: Sequence[Derivation], prepare: Prepare
) -> Generator[Computed]:
    """Train for derivations of one task, on the CPU as many at once as there are cores.

    Each is given as soon as its training has ended, or failed: the others go on. Whoever closes the
    generator before its end ends all trainings.
    """
    steps = _Steps(label, workspace.progress)
    trainings, calls = [], []
    for index, derivation in enumerate(derivations):
        # one after the other: what a workspace keeps is for one thread
        training = _outcome(partial(prepare, workspace, derivation))
        if isinstance(training, Training):
            trainings.append((index, training))
            calls.append(partial(_trained, training, partial(steps.count, index)))
        else:
            yield Computed(index=index, outcome=training)
    steps.n_trainings = len(calls)
    # an optimiser imports it when first made; two at once would each see half of it
    import_module("torch._dynamo")
    try:
        with in_turn_off_the_cpu(workspace.device), closing(as_they_end(calls)) as ended:
            for place, (report, seconds) in ended:
                index, training = trainings[place]
                steps.end(index)
                begun = time.perf_counter()
                outcome = (
                    report
                    if isinstance(report, Exception)
                    else _outcome(partial(training.finish, report))
                )
                took = seconds + time.perf_counter() - begun
                yield Computed(index=index, outcome=outcome, seconds=took)
    finally:
        steps.cancelled.set()


def _trained(
    training: Training, progress: Callable[[int, int], None]
) -> tuple[TrainingReport | Exception, float]:
    """Train in place; give the report, or what went wrong, and the seconds."""
    begun = time.perf_counter()
    encoder, head, data = training.encoder, training.head, training.data
    report = _outcome(partial(train, encoder, head, data, training.settings, progress=progress))
    return report, time.perf_counter() - begun


def _outcome(call: Callable[[], Outcome]) -> Outcome | Exception:
    """Make a call; give what it returns, or what went wrong."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
        return error


@dataclass(slots=True)
class _Steps:
    """Adds up the steps of trainings that run at once, and ends them when nobody waits for them."""

    label: str
    progress: Progress
    n_trainings: int = 0
    cancelled: Event = field(default_factory=Event)
    _done: dict[int, int] = field(default_factory=dict)
    _planned: dict[int, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def count(self, training: int, done: int, planned: int) -> None:
        """Report how many steps of one training are done."""
        if self.cancelled.is_set():
            raise TrainingError("the training was given up: the pass has ended")
        with self._lock:
            self._done[training], self._planned[training] = done, planned
            # those that have not begun yet take as many as the others
            mean = sum(self._planned.values()) / len(self._planned)
            self.progress(self.label, sum(self._done.values()), round(mean * self.n_trainings))

    def end(self, training: int) -> None:
        """Count the steps that a training stopped short of."""
        planned = self._planned.get(training, 0)
        self.count(training, planned, planned)
