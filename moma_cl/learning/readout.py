"""Readouts: from a module's embeddings to the property it was trained on.

A module's own head reads node features and is thrown away with its training; a readout is fitted
afterwards, on the embeddings that a hub keeps anyway. Two kinds are tried: ridge regression in
closed form, and the mean of a few small networks, which reads a well-trained module about twice as
exactly but can err wildly where rows are few. The one that errs less on the module's validation
rows stays.

Networks are tried on all features and on means and deviations alone: extremes over the atoms tell a
work function, and only invite overfitting where the property is one of the whole crystal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.learning.embedding import moment_columns
from moma_cl.learning.standardisation import centre_and_spread

READOUTS = "readouts"
"""Array of the readouts of a multitask module, as `LinearReadouts` stores them."""

RIDGES = 10.0 ** np.arange(-8, 3)  # per row, of standardised features
NETWORKS = 4
WIDTH = 32  # of each network
EPOCHS = 40
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Readout:
    """Affine layers with SiLU between them; a single layer is a linear readout."""

    centre: FloatArray  # of the embeddings that the first layer reads, shape (n_features,)
    spread: FloatArray  # likewise
    layers: tuple[tuple[FloatArray, FloatArray], ...]  # weights (n_out, n_in), biases (n_out,)

    def predict(self, embeddings: NDArray[np.float32]) -> FloatArray:
        """Predict the module's own property from embeddings by its encoder.

        Embeddings have shape ``(n_rows, n_features)``; predictions have shape ``(n_rows,)``,
        normalised as the targets of its task.
        """
        values = (embeddings.astype(np.float64) - self.centre) / self.spread
        for number, (weight, bias) in enumerate(self.layers):
            if number > 0:
                values = values / (1.0 + np.exp(-np.clip(values, -50.0, 50.0)))
            values = values @ weight.T + bias
        return np.asarray(values[:, 0])

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which it is stored; the layers of networks in half precision."""
        if len(self.layers) == 1:
            weight, bias = self.layers[0]
            slope = weight[0] / self.spread
            return {"readout": np.append(slope, bias - slope @ self.centre).astype(np.float32)}
        arrays: dict[str, NDArray[np.generic]] = {
            "readout_scale": np.stack([self.centre, self.spread]).astype(np.float32)
        }
        for number, (weight, bias) in enumerate(self.layers):
            joined = np.concatenate([weight, bias[:, None]], axis=1)
            arrays[f"readout_layer_{number}"] = joined.astype(np.float16)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self | None:
        """Read what `to_arrays` gave from a module's blob; none where the module has no readout."""
        if "readout" in arrays:
            linear = arrays["readout"].astype(np.float64)
            zeros, ones = np.zeros(len(linear) - 1), np.ones(len(linear) - 1)
            return cls(centre=zeros, spread=ones, layers=((linear[None, :-1], linear[-1:]),))
        if "readout_scale" not in arrays:
            return None
        centre, spread = arrays["readout_scale"].astype(np.float64)
        names = sorted(name for name in arrays if name.startswith("readout_layer_"))
        return cls(centre=centre, spread=spread, layers=_split(arrays[name] for name in names))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LinearReadouts:
    """Linear readouts of one encoder that was trained on several properties at once."""

    slopes: FloatArray  # shape (n_properties, n_features)
    intercepts: FloatArray  # shape (n_properties,)

    @classmethod
    def of(cls, readouts: Sequence[Readout]) -> Self:
        """Put linear readouts of the same encoder together, in their order."""
        arrays = [readout.to_arrays()["readout"] for readout in readouts]
        return cls.from_array(np.stack(arrays))

    @classmethod
    def from_array(cls, array: NDArray[np.generic]) -> Self:
        """Read what `to_array` gave."""
        joined = array.astype(np.float64)
        return cls(slopes=joined[:, :-1], intercepts=joined[:, -1])

    def to_array(self) -> NDArray[np.float32]:
        """Give slopes and intercepts side by side, as they are stored."""
        return np.concatenate([self.slopes, self.intercepts[:, None]], axis=1).astype(np.float32)

    def predict(self, embeddings: NDArray[np.float32]) -> FloatArray:
        """Predict every property from embeddings by the encoder.

        Embeddings have shape ``(n_rows, n_features)``; predictions have shape
        ``(n_rows, n_properties)``, each normalised as the targets of its own task.
        """
        return np.asarray(embeddings.astype(np.float64) @ self.slopes.T + self.intercepts)


def fit_readout(
    embeddings: NDArray[np.float32],
    targets: FloatArray,
    n_train: int,
    *,
    columns: IntArray | None = None,
) -> Readout:
    """Fit a module's readout.

    Parameters
    ----------
    embeddings
        Of the module's rows by its own encoder, those of its training first, shape
        ``(n_rows, n_features)``.
    targets
        Normalised targets of the module's task, shape ``(n_rows,)``, dimensionless.
    n_train
        Number of rows of the training; the others decide between the two kinds, and without any
        the readout is linear.
    columns
        Features that networks are tried on besides all of them.

    Returns
    -------
    Readout
        The one with the smaller mean absolute error on the rows that decide.
    """
    linear = linear_readout(embeddings, targets)
    if not 0 < n_train < len(targets):
        return linear
    training, validation = slice(0, n_train), slice(n_train, None)
    candidates = [
        _networks(embeddings, targets, n_train, read)
        for read in (np.arange(embeddings.shape[1]), columns)
        if read is not None
    ]
    candidates.append(linear_readout(embeddings[training], targets[training]))
    errors = [
        float(np.abs(readout.predict(embeddings[validation]) - targets[validation]).mean())
        for readout in candidates
    ]
    best = int(np.argmin(errors))
    return linear if best == len(candidates) - 1 else candidates[best]


def module_readout(
    embeddings: NDArray[np.float32],
    targets: FloatArray,
    training: IntArray,
    validation: IntArray,
    feature_dim: int,
) -> Readout:
    """Fit the readout of a module that was just trained.

    Parameters
    ----------
    embeddings
        Of all rows of its task by its own encoder, shape ``(n_rows, n_features)``.
    targets
        Normalised targets of these rows, shape ``(n_rows,)``, dimensionless.
    training
        Rows that it was trained on.
    validation
        Rows that decided when to stop.
    feature_dim
        Width of the encoder's node features.

    Returns
    -------
    Readout
        What `fit_readout` gives, with networks tried on means and deviations alone, too.
    """
    known = np.concatenate([training, validation])
    columns = moment_columns(embeddings.shape[1], feature_dim)
    return fit_readout(embeddings[known], targets[known], len(training), columns=columns)


def linear_readout(embeddings: NDArray[np.float32], targets: FloatArray) -> Readout:
    """Fit a ridge regression, its ridge chosen by leave-one-out error.

    Parameters
    ----------
    embeddings
        One row each, shape ``(n_rows, n_features)``.
    targets
        Normalised targets, shape ``(n_rows,)``, dimensionless.

    Returns
    -------
    Readout
        Of a single layer.

    References
    ----------
    Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, equation 7.64.
    """
    rows = embeddings.astype(np.float64)
    centre, spread = centre_and_spread(rows)
    rows = (rows - centre) / spread
    mean = float(targets.mean())
    goal = targets - mean
    is_wide = rows.shape[0] < rows.shape[1]  # then the rows span less than the features do
    squares, vectors = np.linalg.eigh(rows @ rows.T if is_wide else rows.T @ rows)
    squares = np.maximum(squares, 0.0)
    turned = vectors * np.sqrt(squares) if is_wide else rows @ vectors
    projected = turned.T @ goal
    best, best_error = np.zeros_like(squares), np.inf
    for ridge in RIDGES * len(rows):
        shrink = 1.0 / (squares + ridge)
        residual = goal - turned @ (shrink * projected)
        leverage = (turned**2) @ shrink + 1.0 / len(rows)
        error = float(np.abs(residual / np.maximum(1.0 - leverage, 1e-9)).mean())
        if error < best_error:
            best, best_error = shrink, error
    slope = (
        rows.T @ (vectors @ (best * (vectors.T @ goal)))
        if is_wide
        else vectors @ (best * projected)
    )
    return Readout(centre=centre, spread=spread, layers=((slope[None, :], np.array([mean])),))


def _networks(
    embeddings: NDArray[np.float32],
    targets: FloatArray,
    n_train: int,
    columns: IntArray,
) -> Readout:
    """Mean of networks of two hidden layers, stopped at the best epoch on the other rows.

    Each minimises its own mean absolute error. They are one network whose layers are sparse.
    """
    rows = embeddings.astype(np.float64)
    centre, spread = centre_and_spread(rows[:n_train])
    features = torch.from_numpy(((rows - centre) / spread)[:, columns].astype(np.float32))
    goal = torch.from_numpy(targets.astype(np.float32))
    joined = _best_epoch(_SideBySide(len(columns)), features, goal, n_train)
    first = np.zeros((len(joined[0]), rows.shape[1] + 1), dtype=np.float16)
    first[:, np.append(columns, rows.shape[1])] = joined[0]
    return Readout(
        centre=centre.astype(np.float32).astype(np.float64),
        spread=spread.astype(np.float32).astype(np.float64),
        layers=_split([first, *joined[1:]]),
    )


def _split(
    joined: Iterable[NDArray[np.generic]],
) -> tuple[tuple[FloatArray, FloatArray], ...]:
    layers = [layer.astype(np.float64) for layer in joined]
    return tuple((layer[:, :-1], layer[:, -1]) for layer in layers)


class _SideBySide(nn.Module):
    """A few networks that read the same features and know nothing of each other.

    Parameters
    ----------
    n_features
        Number of the features.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            first = nn.Linear(n_features, NETWORKS * WIDTH)
            inner = [nn.Linear(WIDTH, WIDTH) for _ in range(NETWORKS)]
            last = [nn.Linear(WIDTH, 1) for _ in range(NETWORKS)]
        self.first = first
        self.weights = nn.ParameterList(
            nn.Parameter(torch.stack([one.weight.detach().T for one in layer]))
            for layer in (inner, last)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.stack([one.bias.detach()[None] for one in layer]))
            for layer in (inner, last)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Predict by each network, shape ``(n_networks, n_rows)``."""
        hidden = nn.functional.silu(self.first(features))
        hidden = hidden.view(-1, NETWORKS, WIDTH).transpose(0, 1)
        hidden = nn.functional.silu(torch.baddbmm(self.biases[0], hidden, self.weights[0]))
        return torch.baddbmm(self.biases[1], hidden, self.weights[1])[:, :, 0]

    def joined(self) -> list[NDArray[np.float16]]:
        """Give weights and bias of each layer side by side, of one network for the mean."""
        inner = np.zeros((NETWORKS * WIDTH, NETWORKS * WIDTH), dtype=np.float32)
        for number, weight in enumerate(self.weights[0]):
            block = slice(number * WIDTH, (number + 1) * WIDTH)
            inner[block, block] = weight.detach().numpy().T
        last = torch.cat([weight.T for weight in self.weights[1]], dim=1) / NETWORKS
        layers = (
            (self.first.weight, self.first.bias),
            (torch.from_numpy(inner), self.biases[0].flatten()),
            (last, self.biases[1].mean(dim=0)[0]),
        )
        return [
            torch.cat([weight, bias[:, None]], dim=1).detach().numpy().astype(np.float16)
            for weight, bias in layers
        ]


def _best_epoch(
    model: _SideBySide, features: Tensor, targets: Tensor, n_train: int
) -> list[NDArray[np.float16]]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    n_steps = EPOCHS * -(-n_train // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=n_steps, pct_start=0.1
    )
    best, kept = float("inf"), model.joined()
    for epoch in range(EPOCHS):
        order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(n_train))
        for rows in torch.split(order, BATCH_SIZE):
            loss = (model(features[rows]) - targets[rows]).abs().mean(dim=1).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            answers = model(features[n_train:]).mean(dim=0)
        error = float((answers - targets[n_train:]).abs().mean())
        if error < best:
            best, kept = error, model.joined()
    return kept
