"""Messages: all that a convolution does along an edge or angle, in one step.

On a CPU a compiled kernel takes each message through all of it; on other devices runs the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from moma_cl.core.openmp import in_torch_threads

_LAYERS, _SECOND, _NORMS = 6, 8, 12  # where parameters of layers, second ones and norms begin


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Messages:
    """Which rows of tables the messages of a batch, along its edges or its angles, are made of.

    The table of pairs has two rows for each member of one kind, as first and as second of a pair.
    """

    index: Tensor  # rows of pairs (2), singles, changes or -1, factors, result; (6, n_messages)
    counts: Tensor  # how often each message counts, shape (n_messages,)
    cut: int  # the first message of the second of two parts, which are computed side by side
    apart: bool = True  # whether the parts have no row in common, neither do their results

    def spans(self) -> list[tuple[int, int]]:
        """Give first and last message, exclusive, of each part."""
        n_messages = len(self.counts)
        if 0 < self.cut < n_messages:
            return [(0, self.cut), (self.cut, n_messages)]
        return [(0, n_messages)]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tables:
    """What messages are made of."""

    pairs: Tensor  # shape (n_pairs, 2 * width)
    singles: Tensor  # shape (n_singles, 2 * width)
    changes: Tensor | None = None  # shape (n_changes, 2 * width)
    factors: Tensor | None = None  # what messages are multiplied by, shape (n_factors, width)
    features: Tensor | None = None  # of each message, shape (n_messages, width)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layers:
    """The layers of φ; of those that are absent, nothing is computed."""

    norms: tuple[nn.LayerNorm, nn.LayerNorm]
    features: nn.Linear | None = None  # first layer's part for the features of each message
    bias: Tensor | None = None  # of the first layer, if it has no such part
    second: tuple[nn.Linear, nn.Linear] | None = None  # of both branches


def plain_messages(messages: Messages, tables: Tables, layers: Layers, start: Tensor) -> Tensor:
    """Compute `add_messages` by its formula."""
    first, second, single, change, factor, receiver = messages.index
    hidden = tables.pairs[first] + tables.pairs[second] + tables.singles[single]
    if tables.changes is not None:
        none = tables.changes.new_zeros(1, tables.changes.shape[1])
        hidden = hidden + torch.cat([tables.changes, none])[change]  # -1 is the last row
    if layers.features is not None:
        hidden = hidden + layers.features(tables.features)
    elif layers.bias is not None:
        hidden = hidden + layers.bias
    branches = hidden.chunk(2, dim=1)
    if layers.second is not None:
        pairs = zip(layers.second, branches, strict=True)
        branches = tuple(layer(functional.silu(branch)) for layer, branch in pairs)
    core, gate = (norm(branch) for norm, branch in zip(layers.norms, branches, strict=True))
    result = functional.silu(core) * torch.sigmoid(gate)
    scale = messages.counts[:, None]
    if tables.factors is not None:
        scale = tables.factors[factor] * scale
    return start.index_add(0, receiver, result * scale)


def add_messages(messages: Messages, tables: Tables, layers: Layers, start: Tensor) -> Tensor:
    """Add φ of each message, times its factors and its count, to the row that receives it.

    Parameters
    ----------
    messages
        Which rows of the tables each message is made of.
    tables
        What is added up before the first normalisation or second layer.
    layers
        The layers of φ.
    start
        What the messages are added to, shape ``(n_receivers, width)``.

    Returns
    -------
    Tensor
        The sums, in the shape of ``start``.
    """
    if start.device.type != "cpu":
        return plain_messages(messages, tables, layers, start)
    modules = [layers.features, *(layers.second or (None, None)), *layers.norms]
    parameters = [getattr(module, name, None) for module in modules for name in ("weight", "bias")]
    if layers.features is None:
        parameters[1] = layers.bias
    rows = (start, tables.pairs, tables.singles, tables.changes, tables.factors, tables.features)
    inputs = (*(None if one is None else one.contiguous() for one in rows), *parameters)
    eps = layers.norms[0].eps
    if not torch.is_grad_enabled():
        return _forward(messages, eps, inputs, keep=False)[0]
    result: Tensor = _Messages.apply(messages, eps, *inputs)  # type: ignore[no-untyped-call]
    return result


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, messages: Messages, eps: float, *inputs: Tensor | None) -> Tensor:
        result, ctx.calls = _forward(messages, eps, inputs, keep=True)
        ctx.apart = messages.apart
        ctx.save_for_backward(*inputs)  # their arrays are in the calls; torch watches for changes
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from moma_cl.backbones.chgnet.message_gradients import backward

        kernel: Callable[..., None] = backward
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        gradient = gradients[0].contiguous()
        array = gradient.numpy()
        tables = inputs[1:_LAYERS]
        rows, *others = (
            [None if one is None else torch.zeros_like(one) for one in tables]
            for _ in (ctx.calls[:1] if ctx.apart else ctx.calls)
        )
        to_rows = [[None if one is None else one.numpy() for one in own] for own in (rows, *others)]
        learned = [
            one if need or place >= _NORMS else None
            for place, (one, need) in enumerate(zip(inputs, needed, strict=True))
        ][_LAYERS:]
        sizes = [0 if one is None else one.numel() for one in learned]
        sums = np.zeros((len(ctx.calls), sum(sizes)), array.dtype)  # each call adds to its own
        absent = np.zeros((0, array.shape[1]), array.dtype), np.zeros(0, array.dtype)
        in_torch_threads(
            [
                partial(kernel, *call, array, _packed([*own, *_views(own_sums, learned)], *absent))
                for call, own, own_sums in zip(ctx.calls, cycle(to_rows), sums, strict=False)
            ]
        )
        for own in others:
            for row, other in zip(rows, own, strict=True):
                if row is not None and other is not None:
                    row.add_(other)
        parts = torch.split(torch.from_numpy(sums.sum(0)), sizes)
        to_layers = [
            None if one is None else part.view_as(one)
            for one, part in zip(learned, parts, strict=True)
        ]
        results = zip([gradient, *rows, *to_layers], needed, strict=True)
        return (None, None, *(one if need else None for one, need in results))


def _forward(
    messages: Messages, eps: float, inputs: Sequence[Tensor | None], *, keep: bool
) -> tuple[Tensor, list[Any]]:
    """Compute the sums, and give the arguments of each call of the kernel."""
    import moma_cl.core.compiled  # noqa: F401  the first to import Numba, in half of the time
    from moma_cl.backbones.chgnet.message_kernel import BLOCK, forward

    result = cast("Tensor", inputs[0]).detach().clone()
    array = result.numpy()
    rows = [None if one is None else one.detach().numpy() for one in inputs[1:]]
    width, precision = array.shape[1], array.dtype.type
    packed = _packed(rows, np.zeros((0, width), precision), np.zeros(2 * width, precision))
    arguments = (messages.index.numpy(), messages.counts.numpy(), *packed)
    calls: list[Any] = []
    for span in messages.spans():
        kept = span[1] - span[0] if keep else BLOCK
        # the sums of the first layer are not needed later unless a second one follows
        hidden = kept if inputs[_SECOND] is not None else BLOCK
        shapes = ((hidden, 2 * width), (kept, 2 * width), (kept, 2))
        saved = tuple(np.empty(shape, array.dtype) for shape in shapes)
        calls.append((span, precision(eps), *arguments, saved))
    kernel: Callable[..., None] = forward
    results = [array, *(array if messages.apart else np.zeros_like(array) for _ in calls[1:])]
    in_torch_threads(
        [partial(kernel, *call, own) for call, own in zip(calls, results, strict=True)]
    )
    if not messages.apart:
        array += sum(results[1:])
    return result, calls


def _views(numbers: NDArray[Any], like: Sequence[Tensor | None]) -> list[NDArray[Any] | None]:
    """Divide numbers among arrays of these shapes."""
    views: list[NDArray[Any] | None] = []
    start = 0
    for one in like:
        if one is None:
            views.append(None)
            continue
        end = start + one.numel()
        views.append(numbers[start:end].reshape(one.shape))
        start = end
    return views


def _packed(
    arrays: Sequence[NDArray[Any] | None], absent: NDArray[Any], absent_bias: NDArray[Any]
) -> tuple[Any, ...]:
    """Give arrays as the kernel takes them: tables, features, first and second layers, norms."""
    width = absent.shape[1]
    biases = {6: absent_bias, 8: absent_bias[:width], 10: absent_bias[:width]}
    given = [biases.get(place, absent) if one is None else one for place, one in enumerate(arrays)]
    return tuple(given[:4]), given[4], tuple(given[5:7]), tuple(given[7:11]), tuple(given[11:])
