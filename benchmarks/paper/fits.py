"""Fine-tunings kept from one run to the next, and shared by methods.

The backbone fine-tuned on a task is half of what the default does and all of `ft`, and a composed
encoder is fine-tuned the same whatever other heads stand beside it. What a training starts from and
sees determines every bit that it leaves, so it is done once and looked up after that.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from moma_cl.backbones.base import Backbone
from moma_cl.derivations import trainings
from moma_cl.learning.head import Head
from moma_cl.learning.training import TrainingReport, TrainingSet, train
from moma_cl.recipe import TrainingSettings

Progress = Callable[[int, int], None]


@contextmanager
def kept_fits(folder: Path) -> Iterator[list[float]]:
    """Let predictors look a training up before they run it.

    Parameters
    ----------
    folder
        Where trainings are kept.

    Yields
    ------
    list[float]
        The seconds that the trainings which were looked up had taken.
    """
    saved: list[float] = []

    def looked_up(
        encoder: Backbone,
        head: Head,
        data: TrainingSet,
        settings: TrainingSettings,
        *,
        progress: Progress | None = None,
    ) -> TrainingReport:
        file = folder / f"{fit_key(encoder, head, data, settings)}.npz"
        if not file.exists():
            start = time.perf_counter()
            report = train(encoder, head, data, settings, progress=progress)
            keep(file, encoder, head, report, time.perf_counter() - start)
            return report
        with np.load(file) as found:
            _fill(encoder, found["encoder"])
            _fill(head, found["head"])
            saved.append(float(found["seconds"]))
            return TrainingReport(**json.loads(str(found["report"])))

    trainings.train = looked_up
    try:
        yield saved
    finally:
        trainings.train = train


def fit_key(encoder: Backbone, head: Head, data: TrainingSet, settings: TrainingSettings) -> str:
    """Name a training by what it starts from and what it sees.

    Parameters
    ----------
    encoder, head
        Before the training.
    data
        Graphs and targets.
    settings
        The recipe's numbers.

    Returns
    -------
    str
        A digest, hexadecimal.
    """
    numbers = asdict(settings)
    if encoder.adapters is None:
        del numbers["adapter_learning_rate"]
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for module in (encoder, head):
        digest.update(_vector(module).tobytes())
    for array in (data.targets, data.train, data.validation):
        digest.update(np.ascontiguousarray(array).tobytes())
    for graph in data.graphs:
        for name in sorted(graph.keys()):
            if isinstance(graph[name], Tensor):
                digest.update(np.ascontiguousarray(graph[name].numpy()).tobytes())
    return digest.hexdigest()


def keep(
    file: Path, encoder: nn.Module, head: nn.Module, report: TrainingReport, took: float
) -> None:
    """Keep what a training left.

    Parameters
    ----------
    file
        Where.
    encoder, head
        After the training.
    report
        What it told.
    took
        Seconds.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"encoder": _vector(encoder), "head": _vector(head), "seconds": np.array(took)}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, report=np.array(json.dumps(asdict(report))), **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def _vector(module: nn.Module) -> NDArray[np.float32]:
    return parameters_to_vector(module.parameters()).detach().numpy().copy()


def _fill(module: nn.Module, vector: NDArray[np.float32]) -> None:
    vector_to_parameters(torch.from_numpy(vector.copy()), module.parameters())
