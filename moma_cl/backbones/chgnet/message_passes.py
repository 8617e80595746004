"""The passes over rows of messages, and products with them, as code of vectors.

A row has `WIDTH` columns, or twice as many where both branches lie side by side: core, then gate.
"""

# ruff: noqa: ARG001  the arguments of an intrinsic are read by the code that it emits

from __future__ import annotations

from itertools import product
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from moma_cl.core.vector_code import I64, VECTOR_BYTES, Vectors, constant, emitter

WIDTH = 64
"""Columns of a branch."""

_TILE_ROWS = 4  # rows and vectors of a product that are summed in registers at a time
_TILE_VECTORS = 2 if VECTOR_BYTES == 32 else 4


def _add(vectors: Vectors, out: Any, row: Any, n_columns: Any, _: Any) -> None:
    step = constant(vectors.n_lanes)
    with cgutils.for_range_slice(vectors.builder, constant(0), n_columns, step, I64) as (at, _n):
        vectors.add_to(out, at, vectors.load(row, at))


@intrinsic  # type: ignore[untyped-decorator]
def add(typing: Any, out: Any, row: Any, n_columns: Any, like: Any) -> Any:
    """Add a row to another; ``like`` is any number of the precision."""
    return types.void(*[types.int64] * 3, like), emitter(_add)


def _gather(vectors: Vectors, out: Any, start: Any, *rest: Any) -> None:
    for column in range(0, 2 * WIDTH, vectors.n_lanes):
        terms = [vectors.load(row, column) for row in (start, *rest[:3])]
        vectors.store(vectors.sum(terms), out, column)


@intrinsic  # type: ignore[untyped-decorator]
def gather(  # noqa: PLR0917
    typing: Any, out: Any, start: Any, one: Any, other: Any, third: Any, like: Any
) -> Any:
    """Write the sum of three rows and what it starts from, both branches."""
    return types.void(*[types.int64] * 5, like), emitter(_gather)


def _copy(vectors: Vectors, out: Any, row: Any, n_columns: Any, _: Any) -> None:
    step = constant(vectors.n_lanes)
    with cgutils.for_range_slice(vectors.builder, constant(0), n_columns, step, I64) as (at, _n):
        vectors.store(vectors.load(row, at), out, at)


@intrinsic  # type: ignore[untyped-decorator]
def copy(typing: Any, out: Any, row: Any, n_columns: Any, like: Any) -> Any:
    """Copy a row."""
    return types.void(*[types.int64] * 3, like), emitter(_copy)


def _multiply(  # noqa: PLR0917
    vectors: Vectors,
    out: Any,
    left: Any,
    right: Any,
    n_inner: Any,
    out_stride: Any,
    left_stride: Any,
    left_inner_stride: Any,
    right_stride: Any,
    n_rows: Any,
    _: Any,
) -> None:
    builder = vectors.builder
    whole = builder.sub(n_rows, builder.srem(n_rows, constant(_TILE_ROWS)))
    for begin, end, count in ((constant(0), whole, _TILE_ROWS), (whole, n_rows, 1)):
        with cgutils.for_range_slice(builder, begin, end, constant(count), I64) as (first, _n):
            rows = [builder.add(first, constant(row)) for row in range(count)]
            out_rows = [builder.mul(row, out_stride) for row in rows]
            left_rows = [builder.mul(row, left_stride) for row in rows]
            for column in range(0, WIDTH, _TILE_VECTORS * vectors.n_lanes):
                _add_tile(
                    vectors,
                    (out, out_rows, column),
                    (left, left_rows, left_inner_stride),
                    (right, right_stride),
                    n_inner,
                )


def _add_tile(vectors: Vectors, out: Any, left: Any, right: Any, n_inner: Any) -> None:
    """Add to some rows and columns of a product, with their sums in registers."""
    builder = vectors.builder
    out_start, out_rows, first_column = out
    left_start, left_rows, left_stride = left
    right_start, right_stride = right
    width = _TILE_VECTORS * vectors.n_lanes
    columns = [constant(first_column + column) for column in range(0, width, vectors.n_lanes)]
    places = [builder.add(row, column) for row in out_rows for column in columns]
    sums = [cgutils.alloca_once(builder, vectors.vector) for _ in places]
    for kept, place in zip(sums, places, strict=True):
        builder.store(vectors.load(out_start, place), kept)
    with cgutils.for_range(builder, n_inner, intp=I64) as loop:
        inner = builder.mul(loop.index, right_stride)
        values = [vectors.load(right_start, builder.add(inner, column)) for column in columns]
        inner = builder.mul(loop.index, left_stride)
        factors = [
            vectors.broadcast(vectors.load_scalar(left_start, builder.add(row, inner)))
            for row in left_rows
        ]
        for kept, (factor, value) in zip(sums, product(factors, values), strict=True):
            builder.store(vectors.fma(factor, value, builder.load(kept)), kept)
    for kept, place in zip(sums, places, strict=True):
        vectors.store(builder.load(kept), out_start, place)


@intrinsic  # type: ignore[untyped-decorator]
def multiply(  # noqa: PLR0917
    typing: Any,
    out: Any,
    left: Any,
    right: Any,
    n_inner: Any,
    out_stride: Any,
    left_stride: Any,
    left_inner_stride: Any,
    right_stride: Any,
    n_rows: Any,
    like: Any,
) -> Any:
    """Add the product of two matrices, out[i] += Σ_k left[i, k] right[k], `WIDTH` columns."""
    return types.void(*[types.int64] * 9, like), emitter(_multiply)


def _silu(vectors: Vectors, out: Any, row: Any, _: Any) -> None:
    for column in range(0, 2 * WIDTH, vectors.n_lanes):
        value = vectors.load(row, column)
        vectors.store(vectors.builder.fmul(value, vectors.sigmoid(value)), out, column)


@intrinsic  # type: ignore[untyped-decorator]
def silu(typing: Any, out: Any, row: Any, like: Any) -> Any:
    """Write x σ(x), both branches."""
    return types.void(*[types.int64] * 2, like), emitter(_silu)


def _silu_backward(vectors: Vectors, out: Any, gradient: Any, row: Any, _: Any) -> None:
    builder = vectors.builder
    for column in range(0, 2 * WIDTH, vectors.n_lanes):
        value = vectors.load(row, column)
        opening = vectors.sigmoid(value)
        result = builder.fmul(value, opening)
        vectors.store(result, out, column)
        slope = builder.fadd(opening, builder.fsub(result, builder.fmul(result, opening)))
        vectors.store(builder.fmul(vectors.load(gradient, column), slope), gradient, column)


@intrinsic  # type: ignore[untyped-decorator]
def silu_backward(typing: Any, out: Any, gradient: Any, row: Any, like: Any) -> Any:
    """Write x σ(x), and multiply the gradient by its slope, both branches."""
    return types.void(*[types.int64] * 3, like), emitter(_silu_backward)


def _normalize(  # noqa: PLR0917
    vectors: Vectors, row: Any, normal: Any, inverse: Any, branch: int, eps: Any
) -> list[Any]:
    """Write the normalised columns of a branch and give them; keep 1/√(variance + ε)."""
    builder = vectors.builder
    columns = range(branch * WIDTH, (branch + 1) * WIDTH, vectors.n_lanes)
    values = [vectors.load(row, column) for column in columns]
    share = vectors.constant(1.0 / WIDTH)
    mean = builder.fmul(vectors.sum_lanes(vectors.sum(values)), share)
    values = [builder.fsub(value, mean) for value in values]
    squares = [builder.fmul(value, value) for value in values]
    variance = builder.fmul(vectors.sum_lanes(vectors.sum(squares)), share)
    scale = vectors.inverse_root(builder.fadd(variance, vectors.broadcast(eps)))
    vectors.store_first(scale, inverse, branch)
    values = [builder.fmul(value, scale) for value in values]
    for column, value in zip(columns, values, strict=True):
        vectors.store(value, normal, column)
    return values


def _gate(  # noqa: PLR0917
    vectors: Vectors,
    out: Any,
    row: Any,
    normal: Any,
    inverse: Any,
    norms: Any,
    factors: Any,
    count: Any,
    eps: Any,
) -> None:
    builder = vectors.builder
    branches = [_normalize(vectors, row, normal, inverse, branch, eps) for branch in range(2)]
    count = vectors.broadcast(count)
    for index, column in enumerate(range(0, WIDTH, vectors.n_lanes)):
        core, gate = _scaled(vectors, norms, column, [branch[index] for branch in branches])
        below = builder.fmul(vectors.inverse_sigmoid(core), vectors.inverse_sigmoid(gate))
        value = builder.fdiv(core, below)
        factor = builder.fmul(vectors.load(factors, column), count)
        vectors.store(vectors.fma(value, factor, vectors.load(out, column)), out, column)


def _scaled(vectors: Vectors, norms: Any, column: int, normals: list[Any]) -> list[Any]:
    return [
        vectors.fma(
            normal,
            vectors.load(norms, 2 * branch * WIDTH + column),
            vectors.load(norms, (2 * branch + 1) * WIDTH + column),
        )
        for branch, normal in enumerate(normals)
    ]


@intrinsic  # type: ignore[untyped-decorator]
def gate(  # noqa: PLR0917
    typing: Any,
    out: Any,
    row: Any,
    normal: Any,
    inverse: Any,
    norms: Any,
    factors: Any,
    count: Any,
    eps: Any,
) -> Any:
    """Add SiLU(norm(core)) ⊙ σ(norm(gate)) ⊙ factors · count; keep what the gradient needs."""
    return types.void(*[types.int64] * 6, count, count), emitter(_gate)


def _gate_backward(  # noqa: PLR0917
    vectors: Vectors,
    out: Any,
    gradient: Any,
    normal: Any,
    inverse: Any,
    norms: Any,
    to_norms: Any,
    factors: Any,
    to_factors: Any,
    count: Any,
) -> None:
    builder, one = vectors.builder, vectors.constant(1.0)
    count = vectors.broadcast(count)
    along: list[list[Any]] = [[], []]
    sums: list[list[Any]] = [[], []]
    for column in range(0, WIDTH, vectors.n_lanes):
        normals = [vectors.load(normal, branch * WIDTH + column) for branch in range(2)]
        core, gate = _scaled(vectors, norms, column, normals)
        inverses = vectors.inverse_sigmoid(core), vectors.inverse_sigmoid(gate)
        both = builder.fdiv(one, builder.fmul(*inverses))  # one division instead of two
        opening, core_opening = (builder.fmul(both, inverse) for inverse in inverses)
        value = builder.fmul(core, core_opening)
        above = builder.fmul(vectors.load(gradient, column), count)
        result = builder.fmul(value, opening)
        vectors.add_to(to_factors, column, builder.fmul(above, result))
        above = builder.fmul(above, vectors.load(factors, column))
        slope = builder.fadd(core_opening, builder.fsub(value, builder.fmul(value, core_opening)))
        closing = builder.fmul(result, builder.fsub(one, opening))
        below = [builder.fmul(builder.fmul(above, opening), slope), builder.fmul(above, closing)]
        for branch in range(2):
            place = 2 * branch * WIDTH + column
            vectors.add_to(to_norms, place, builder.fmul(below[branch], normals[branch]))
            vectors.add_to(to_norms, place + WIDTH, below[branch])
            scaled = builder.fmul(below[branch], vectors.load(norms, place))
            vectors.store(scaled, out, branch * WIDTH + column)
            sums[branch].append(scaled)
            along[branch].append(builder.fmul(scaled, normals[branch]))
    share = vectors.constant(-1.0 / WIDTH)
    for branch in range(2):
        mean = builder.fmul(vectors.sum_lanes(vectors.sum(sums[branch])), share)
        slope = builder.fmul(vectors.sum_lanes(vectors.sum(along[branch])), share)
        scale = vectors.broadcast(vectors.load_scalar(inverse, branch))
        for index, column in enumerate(
            range(branch * WIDTH, (branch + 1) * WIDTH, vectors.n_lanes)
        ):
            value = builder.fadd(sums[branch][index], mean)
            value = vectors.fma(vectors.load(normal, column), slope, value)
            vectors.store(builder.fmul(value, scale), out, column)


@intrinsic  # type: ignore[untyped-decorator]
def gate_backward(  # noqa: PLR0917
    typing: Any,
    out: Any,
    gradient: Any,
    normal: Any,
    inverse: Any,
    norms: Any,
    to_norms: Any,
    factors: Any,
    to_factors: Any,
    count: Any,
) -> Any:
    """Write the gradient of both branches, and add those of norms and factors."""
    return types.void(*[types.int64] * 8, count), emitter(_gate_backward)
