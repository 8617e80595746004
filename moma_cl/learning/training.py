"""Gradient training of an encoder and a head on prepared graphs; needs only torch and PyG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moma_cl.backbones.base import Backbone
from moma_cl.core.denormals import without_denormals
from moma_cl.core.pyg import Data
from moma_cl.graphs.batching import batches_by_size, collate_for, load_of
from moma_cl.learning.head import Head
from moma_cl.recipe import TrainingSettings
from moma_store.errors import MomaError

EVALUATION_EDGES = 8192  # in a batch
_FUSED = frozenset({"cpu", "cuda"})  # devices whose optimiser takes one kernel a step

Progress = Callable[[int, int], None]


class TrainingError(MomaError):
    """Training went wrong in a way that no result can be trusted."""

    code = "training"
    exit_code = 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainingSet:
    """Graphs and targets of all rows, and which of them train and validate."""

    graphs: Sequence[Data]  # one graph per row
    targets: NDArray[np.float64]  # normalised targets, shape (n_rows,), dimensionless
    train: NDArray[np.int64]  # rows that give gradients
    validation: NDArray[np.int64]  # rows that decide when to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """How a training went."""

    validation_mae: float  # mean absolute error at the best epoch, dimensionless
    best_epoch: int  # the epoch whose averaged parameters were kept
    epochs: int  # that were run


@without_denormals()
def train(
    encoder: Backbone,
    head: Head,
    data: TrainingSet,
    settings: TrainingSettings,
    *,
    progress: Progress | None = None,
) -> TrainingReport:
    """Fit in place; what is left in encoder and head is the best epoch's moving average.

    Mean absolute error, AdamW, linear warm-up and cosine decay, an exponential moving average of
    the parameters, early stopping on the validation rows.

    Parameters
    ----------
    encoder
        The encoder; only parameters that require a gradient move.
    head
        The head, on the encoder's device, where all is computed.
    data
        Graphs and targets, on the CPU: each step moves its own batch.
    settings
        The recipe's numbers.
    progress
        Called with the steps done and the steps planned; what it raises ends the training.

    Returns
    -------
    TrainingReport
        Best validation error and where it was reached.

    Raises
    ------
    TrainingError
        If there are no rows, the loss is not finite, or no parameter moved.
    """
    if len(data.train) == 0 or len(data.validation) == 0:
        raise TrainingError(
            f"cannot train on {len(data.train)} rows and stop on {len(data.validation)}: "
            "both folds need at least one row"
        )
    return _Training(encoder, head, data, settings, progress=progress).run()


@without_denormals()
def predict_graphs(encoder: Backbone, head: Head, graphs: Sequence[Data]) -> NDArray[np.float64]:
    """Predict without gradients, one graph per row.

    Predictions are normalised, shape ``(n_rows,)``, dimensionless.
    """
    answers = np.zeros(len(graphs))
    for network in (encoder, head):
        if network.training:
            network.eval()  # walks through all layers, which takes as long as a small block
    with torch.inference_mode():
        for part in batches_by_size([load_of(graph) for graph in graphs], EVALUATION_EDGES):
            batch = collate_for(encoder, [graphs[index] for index in part])
            # to the CPU first: Apple's GPUs have no float64
            answers[part] = head(encoder(batch), batch).cpu().double().numpy()
    return answers


class _Training:
    """Optimiser, schedule and moving average of one training."""

    def __init__(
        self,
        encoder: Backbone,
        head: Head,
        data: TrainingSet,
        settings: TrainingSettings,
        *,
        progress: Progress | None,
    ) -> None:
        self.encoder, self.head, self.data, self.settings = encoder, head, data, settings
        self.targets = torch.from_numpy(data.targets).float()
        steps_per_epoch = math.ceil(len(data.train) / settings.batch_size)
        self.epochs = max(1, min(settings.epochs, settings.max_steps // steps_per_epoch))
        self.total_steps = self.epochs * steps_per_epoch
        encoder_parameters = [p for p in encoder.parameters() if p.requires_grad]
        head_parameters = list(head.parameters())
        self.trained: list[Tensor] = [*encoder_parameters, *head_parameters]
        self.average = [parameter.detach().clone() for parameter in self.trained]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": encoder_parameters, "lr": _encoder_rate(encoder, settings)},
                {"params": head_parameters, "lr": settings.head_learning_rate},
            ],
            weight_decay=settings.weight_decay,
            fused=encoder.device.type in _FUSED,
        )
        warmup = max(1, round(settings.warmup * self.total_steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _learning_rate(step, warmup, self.total_steps)
        )
        self.step, self.progress = 0, progress

    def run(self) -> TrainingReport:
        """Train until the last epoch, or until validation errors no longer fall."""
        start = [parameter.detach().clone() for parameter in self.trained]
        best, best_epoch, kept = math.inf, 0, start
        epoch = 0
        for epoch in range(1, self.epochs + 1):
            self.epoch(np.random.default_rng([self.settings.seed, epoch]))
            with _holding(self.trained, self.average):
                error = self.validation_error()
            if error < best:
                best, best_epoch, kept = error, epoch, [one.clone() for one in self.average]
            if epoch - best_epoch >= self.settings.patience:
                break
        pairs = zip(start, kept, strict=True)
        if all(torch.equal(old.cpu(), new.cpu()) for old, new in pairs):
            raise TrainingError(
                f"no parameter moved in {epoch} epochs; best validation error {best!r}. "
                "Check the targets and the learning rate of the recipe"
            )
        _assign(self.trained, kept)
        return TrainingReport(validation_mae=best, best_epoch=best_epoch, epochs=epoch)

    def epoch(self, generator: np.random.Generator) -> None:
        """Visit every training row once."""
        order = generator.permutation(self.data.train)
        size = self.settings.batch_size
        self.encoder.train()
        self.head.train()
        for start in range(0, len(order), size):
            self._step(order[start : start + size])

    def _step(self, rows: NDArray[np.int64]) -> None:
        batch = collate_for(self.encoder, [self.data.graphs[row] for row in rows])
        targets = self.targets[rows].to(self.encoder.device)
        loss = (self.head(self.encoder(batch), batch) - targets).abs().mean()
        value = float(loss.detach().cpu())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.step}; lower the learning rate "
                "of the recipe, or look for extreme targets"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        # a short memory at first: the average must not remember the start
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.trained, 1.0 - decay)
        if self.progress is not None:
            self.progress(self.step, self.total_steps)

    def validation_error(self) -> float:
        """Mean absolute error on the validation rows, dimensionless."""
        rows = self.data.validation
        answers = predict_graphs(self.encoder, self.head, [self.data.graphs[row] for row in rows])
        return float(np.abs(answers - self.data.targets[rows]).mean())


def _encoder_rate(encoder: Backbone, settings: TrainingSettings) -> float:
    if encoder.adapters is not None:
        return settings.adapter_learning_rate
    return settings.encoder_learning_rate * encoder.learning_rate_factor


def _learning_rate(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _assign(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


@contextmanager
def _holding(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Let the parameters hold other values for a while."""
    present = [parameter.detach().clone() for parameter in parameters]
    _assign(parameters, values)
    try:
        yield
    finally:
        _assign(parameters, present)
