"""The steps of message passing that take the most time: each as a formula and as a fast kernel.

At the sizes of training, a message-passing network spends its time on element-wise passes over
arrays of one row per edge or angle, more than on products. A kernel makes fewer passes over fewer
arrays: what autograd records as a dozen operations is one step here, whose gradient is written by
hand and keeps only what it needs. Second derivatives of kernels do not exist.

The formula of each kernel stands above it under the name ``plain_…``, in ordinary torch with the
gradient that autograd finds. `_kernel_of` decides which of the two runs; tests hold them equal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

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

P = ParamSpec("P")
Step = Callable[Concatenate[Tensor, P], Tensor]


def _kernel_of(formula: Step[P]) -> Callable[[Step[P]], Step[P]]:
    """Run a kernel on tensors in the memory of a CPU, and its formula on any other device."""

    def choosing(kernel: Step[P]) -> Step[P]:
        @wraps(kernel)
        def step(first: Tensor, /, *arguments: P.args, **options: P.kwargs) -> Tensor:
            chosen = kernel if first.device.type == "cpu" else formula
            return chosen(first, *arguments, **options)

        return step

    return choosing


def plain_product(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, centered: int | None = None
) -> Tensor:
    """Compute `product` by its formula, X Wᵀ + b less the mean of each run of columns."""
    result = functional.linear(rows, weight, bias)
    if centered is None:
        return result
    runs = torch.unflatten(result, 1, (-1, centered))
    return torch.flatten(runs - runs.mean(2, keepdim=True), 1)


@_kernel_of(plain_product)
def product(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, centered: int | None = None
) -> Tensor:
    """Multiply many rows by a matrix, as :func:`torch.nn.functional.linear` does.

    Rows have shape ``(n_rows, n_in)``, the weight ``(n_out, n_in)``. If ``centered`` is given, the
    mean over each run of this many columns is subtracted from the result. The kernel subtracts it
    from the parameters instead, which costs next to nothing.
    """
    if not torch.is_grad_enabled():
        return _multiply(rows, *_centered(weight, bias, centered))
    return _applied(_Product, rows, weight, bias, centered)


def plain_gathered_sum(table: Tensor, index: Tensor, start: Tensor | None = None) -> Tensor:
    """Compute `gathered_sum` by its formula, ``start[i] + Σ_k table[index[i, k]]``."""
    total = table[index].sum(1)
    return total if start is None else start + total


@_kernel_of(plain_gathered_sum)
def gathered_sum(table: Tensor, index: Tensor, start: Tensor | None = None) -> Tensor:
    """Add up rows of a table, shape ``(n_table, n_columns)``, and what each sum starts from.

    ``index``, shape ``(n_rows, n_terms)``, has the rows that each sum is made of; sums and start
    have shape ``(n_rows, n_columns)``.
    """
    if not torch.is_grad_enabled():
        return _gathered(table, index, start)
    return _applied(_GatheredSum, table, index, start)


def plain_gated(
    core: Tensor, gate: Tensor, norms: tuple[nn.LayerNorm, nn.LayerNorm], factors: Tensor | None
) -> Tensor:
    """Compute `gated` by its formula, SiLU(norm(core)) ⊙ σ(norm(gate)) ⊙ factors.

    Here norm(x) = γ ⊙ x / √(⟨x²⟩ + ε) + β, where ⟨⟩ is the mean over a row.
    """
    core, gate = (
        rows * torch.rsqrt(rows.square().mean(1, keepdim=True) + norm.eps) * norm.weight + norm.bias
        for rows, norm in zip((core, gate), norms, strict=True)
    )
    result = functional.silu(core) * torch.sigmoid(gate)
    return result if factors is None else result * factors


@_kernel_of(plain_gated)
def gated(
    core: Tensor, gate: Tensor, norms: tuple[nn.LayerNorm, nn.LayerNorm], factors: Tensor | None
) -> Tensor:
    """Normalise both branches of a layer, let one gate the other, and multiply by the factors.

    The branches must have a mean of zero over each row, as a ``centered`` product has. To normalise
    them is then to divide by the root of their mean square; scale γ, shift β and ε are in
    ``norms``. All shapes are ``(n_rows, n_columns)``. Both branches may be overwritten where no
    gradient is computed.

    References
    ----------
    Gating: Deng et al., arXiv 2302.14231, Methods. Normalisation: Ba et al., *Layer
    Normalization*, arXiv 1607.06450, equation 4.
    """
    if not torch.is_grad_enabled():
        return _gated_in_place(core, gate, norms, factors)
    parameters = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    return _applied(_Gated, core, gate, factors, norms[0].eps, *parameters)


def padded(values: Tensor, fill: float = 0.0) -> Tensor:
    """Append values, at most an eighth more, until their number is one that comes again and again.

    oneDNN compiles a kernel for each number of rows, which takes longer than to run it. Other
    devices gain nothing from this, so values on them are returned as they are, and so are few
    values. Values have shape ``(n_rows,)``.
    """
    n_rows = len(values)
    if n_rows < _MIN_ROWS or values.device.type != "cpu":
        return values
    spare = -n_rows % _grain(n_rows)
    return torch.cat([values, values.new_full((spare,), fill)]) if spare else values


def _grain(n_rows: int) -> int:
    """Give a number between an eighth and a sixteenth of the rows, one for many numbers of rows."""
    return (1 << (n_rows.bit_length() - 1)) // 8


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
    """Give 1/√(⟨x²⟩ + ε) of rows x whose mean is zero, shape ``(n_rows, 1)``."""
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
    """Give the parameters of a layer whose output has no mean over each run of columns."""
    if width is None:
        return weight, bias
    return _without_mean(weight, width), None if bias is None else _without_mean(bias, width)


def _without_mean(parameter: Tensor, width: int) -> Tensor:
    """Subtract the mean over each run of a layer's outputs from its weight or bias."""
    runs = parameter.view(-1, width, *parameter.shape[1:])
    shifted: Tensor = runs - runs.mean(1, keepdim=True)
    return shifted.view_as(parameter)


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n_rows = len(rows)
    comes_again = n_rows >= _MIN_ROWS and n_rows % _grain(n_rows) == 0
    if not (_ONEDNN and rows.dtype == torch.float32 and comes_again):
        return functional.linear(rows, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result
