"""Steps of message passing with gradients written by hand: fewer passes over fewer arrays.

At the sizes of training, a message-passing network spends its time on element-wise passes over
arrays of one row per edge or angle, more than on products. What autograd records as a dozen
operations is one here, and only what its gradient needs is kept. Second derivatives do not exist.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# oneDNN's product runs at twice the speed of the default one on processors that are not Intel's
_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
_MIN_ROWS = 256
# It keeps 1,024 compiled kernels of 0.4 MB each, most of which never come again; read on first use.
# Parts of them it keeps for good, so that it must not see ever new numbers of rows.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")


def product(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, centered: int | None = None
) -> Tensor:
    """Do what :func:`torch.nn.functional.linear` does, for many rows.

    Parameters
    ----------
    rows
        Shape ``(n_rows, n_in)``.
    weight
        Shape ``(n_out, n_in)``.
    bias
        Shape ``(n_out,)``.
    centered
        Take the mean off each run of so many columns of the result; it is taken off the
        parameters, where it costs next to nothing.

    Returns
    -------
    Tensor
        Shape ``(n_rows, n_out)``.
    """
    if not torch.is_grad_enabled():
        return _multiply(rows, *_centered(weight, bias, centered))
    return _applied(_Product, rows, weight, bias, centered)


def padded(values: Tensor, fill: float = 0.0) -> Tensor:
    """Append values until their number is one of a few that come again and again.

    oneDNN compiles a kernel for each number of rows, which takes longer than to run it.

    Parameters
    ----------
    values
        Shape ``(n_rows,)``.
    fill
        What to append.

    Returns
    -------
    Tensor
        At most an eighth longer, or as it was if it is short.
    """
    n_rows = len(values)
    if n_rows < _MIN_ROWS:
        return values
    spare = -n_rows % _grain(n_rows)
    return torch.cat([values, values.new_full((spare,), fill)]) if spare else values


def _grain(n_rows: int) -> int:
    """Between an eighth and a sixteenth of a number of rows, the same for many numbers."""
    return (1 << (n_rows.bit_length() - 1)) // 8


def gathered_sum(table: Tensor, index: Tensor, start: Tensor | None = None) -> Tensor:
    """Add up rows of a table.

    Parameters
    ----------
    table
        Shape ``(n_table, n_columns)``.
    index
        Which rows, shape ``(n_rows, n_terms)``.
    start
        What to add to, shape ``(n_rows, n_columns)``.

    Returns
    -------
    Tensor
        Sums, shape ``(n_rows, n_columns)``.
    """
    if not torch.is_grad_enabled():
        return _gathered(table, index, start)
    return _applied(_GatheredSum, table, index, start)


def gated(
    core: Tensor, gate: Tensor, norms: tuple[nn.LayerNorm, nn.LayerNorm], factors: Tensor | None
) -> Tensor:
    """Normalise both branches, let one gate the other, and multiply.

    The branches must have a mean of zero over each row, as a product that is ``centered`` has;
    normalising is then a division by the root of the mean square.

    Parameters
    ----------
    core
        Shape ``(n_rows, n_columns)``; goes through SiLU. Overwritten where no gradient is needed.
    gate
        Same shape; goes through the logistic function. Overwritten likewise.
    norms
        Scale, shift and ε of the normalisation of each.
    factors
        Same shape, or none for one each.

    Returns
    -------
    Tensor
        Same shape.
    """
    if not torch.is_grad_enabled():
        return _gated_in_place(core, gate, norms, factors)
    parameters = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    return _applied(_Gated, core, gate, factors, norms[0].eps, *parameters)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, width: int | None
    ) -> Tensor:
        weight, bias = _centered(weight, bias, width)
        ctx.save_for_backward(rows, weight)
        ctx.width = width
        return _multiply(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        to_rows = _multiply(gradient, weight.T, None) if ctx.needs_input_grad[0] else None
        to_weight = gradient.T @ rows if ctx.needs_input_grad[1] else None
        to_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        if ctx.width is not None:
            to_weight, to_bias = (
                None if total is None else _without_mean(total, ctx.width)
                for total in (to_weight, to_bias)
            )
        return to_rows, to_weight, to_bias, None


class _GatheredSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, start: Tensor | None) -> Tensor:
        ctx.save_for_backward(index)
        ctx.n_table = len(table)
        return _gathered(table, index, start)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (index,) = ctx.saved_tensors
        to_table, _, to_start = ctx.needs_input_grad
        if not to_table:
            return None, None, gradient
        total = gradient.new_zeros(ctx.n_table, gradient.shape[1])
        for rows in index.unbind(1):
            total.index_add_(0, rows, gradient)
        return total, None, gradient if to_start else None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        core: Tensor,
        gate: Tensor,
        factors: Tensor | None,
        eps: float,
        *parameters: Tensor,
    ) -> Tensor:
        core_scale, core_shift, gate_scale, gate_shift = parameters
        core_inverse, gate_inverse = _inverse_deviation(core, eps), _inverse_deviation(gate, eps)
        core, gate = core * core_inverse, gate * gate_inverse
        scaled = torch.addcmul(core_shift, core, core_scale)
        value = functional.silu(scaled)
        opening = torch.addcmul(gate_shift, gate, gate_scale).sigmoid_()
        result = value * opening
        ctx.save_for_backward(
            core, gate, core_inverse, gate_inverse, scaled, value, opening, factors, *parameters
        )
        return result if factors is None else result.mul_(factors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        core, gate, core_inverse, gate_inverse, *rest = ctx.saved_tensors
        scaled, value, opening, factors, core_scale, _, gate_scale, _ = rest
        to_factors = None
        if factors is not None:
            if ctx.needs_input_grad[2]:
                to_factors = (value * opening).mul_(gradient)
            gradient = gradient * factors
        to_core = torch.ops.aten.silu_backward(gradient * opening, scaled)
        to_gate = torch.ops.aten.sigmoid_backward(gradient * value, opening)
        learned = ctx.needs_input_grad[4]
        to_core, *core_parameters = _normal_backward(
            to_core, core, core_inverse, core_scale, learned=learned
        )
        to_gate, *gate_parameters = _normal_backward(
            to_gate, gate, gate_inverse, gate_scale, learned=learned
        )
        return (to_core, to_gate, to_factors, None, *core_parameters, *gate_parameters)


def _gated_in_place(
    core: Tensor, gate: Tensor, norms: tuple[nn.LayerNorm, nn.LayerNorm], factors: Tensor | None
) -> Tensor:
    for rows, norm in zip((core, gate), norms, strict=True):
        rows.mul_(_inverse_deviation(rows, norm.eps))
        torch.addcmul(norm.bias, rows, norm.weight, out=rows)
    result = functional.silu(core, inplace=True).mul_(gate.sigmoid_())
    return result if factors is None else result.mul_(factors)


def _inverse_deviation(rows: Tensor, eps: float) -> Tensor:
    """Give one over the deviation of rows whose mean is zero, shape ``(n_rows, 1)``."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    inverse: Tensor = norm.square_().mul_(1.0 / rows.shape[1]).add_(eps).rsqrt_()
    return inverse


def _normal_backward(
    gradient: Tensor, normal: Tensor, inverse: Tensor, scale: Tensor, *, learned: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Give the gradients of the rows before they were normalised, of the scale and the shift."""
    aligned = gradient * normal
    to_scale, to_shift = (aligned.sum(0), gradient.sum(0)) if learned else (None, None)
    along = torch.mv(aligned, scale).mul_(-1.0 / normal.shape[1])[:, None]
    to_rows = torch.addcmul(gradient.mul_(scale), normal, along).mul_(inverse)
    return to_rows, to_scale, to_shift


def _applied(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]  # torch's
    return result


def _gathered(table: Tensor, index: Tensor, start: Tensor | None) -> Tensor:
    total: Tensor = functional.embedding_bag(index, table, mode="sum")
    return total if start is None else total.add_(start)


def _centered(
    weight: Tensor, bias: Tensor | None, width: int | None
) -> tuple[Tensor, Tensor | None]:
    """Take the mean off what a layer puts out, run by run."""
    if width is None:
        return weight, bias
    return _without_mean(weight, width), None if bias is None else _without_mean(bias, width)


def _without_mean(parameter: Tensor, width: int) -> Tensor:
    """Take the mean off each run of a layer's outputs."""
    runs = parameter.view(-1, width, *parameter.shape[1:])
    shifted: Tensor = runs - runs.mean(1, keepdim=True)
    return shifted.view_as(parameter)


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n_rows = len(rows)
    comes_again = n_rows >= _MIN_ROWS and n_rows % _grain(n_rows) == 0
    fits = rows.dtype == torch.float32 and rows.device.type == "cpu"
    if not (_ONEDNN and fits and comes_again):
        return functional.linear(rows, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result
