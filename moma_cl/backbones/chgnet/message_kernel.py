"""The compiled kernel of messages, forward and backward.

It takes a block of messages at a time through all steps, while their rows are in the processor's
fast memory. Numba's own loops do not become vectors, since it must assume that arrays overlap, and
its exponential is one number at a time. So the passes over a row and the products are written in
the compiler's intermediate language, on vectors of the processor.

All places are addresses in memory. A row has `WIDTH` columns, or twice as many where both branches
lie side by side: core, then gate. Everything stands in one file, because Numba keeps compiled code
until the file of the function that it compiled changes.
"""

# ruff: noqa: ARG001  the arguments of an intrinsic are read by the code that it emits

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from moma_cl.arraytypes import IntArray
from moma_cl.core.compiled import compiled

WIDTH = 64
"""Columns of a branch."""

BLOCK = 48
"""Messages that are taken through all steps at a time."""

_FEATURES = binding.get_host_cpu_features()
_VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16
_TILE_ROWS = 4  # rows and vectors of a product that are summed in registers at a time
_TILE_VECTORS = 2 if _VECTOR_BYTES == 32 else 4

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = tuple[Array, ...]
Gradients: TypeAlias = tuple[Arrays, Array, Arrays, Arrays, Arrays]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class _Vectors:
    """Writes code that computes with vectors of one precision."""

    def __init__(self, builder: Any, number: Any) -> None:
        self.builder, self.number = builder, number
        self.double = isinstance(number, ir.DoubleType)
        self.bytes = 8 if self.double else 4
        self.lanes = _VECTOR_BYTES // self.bytes
        self.vector = ir.VectorType(number, self.lanes)

    def constant(self, value: float) -> Any:
        """Give a number in all lanes."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def load(self, start: Any, place: int | Any = 0) -> Any:
        """Load the vector that lies so many numbers after an address."""
        value = self.builder.load(self._at(start, place, self.vector))
        value.align = self.bytes
        return value

    def store(self, value: Any, start: Any, place: int | Any = 0) -> None:
        """Store a vector so many numbers after an address."""
        self.builder.store(value, self._at(start, place, self.vector)).align = self.bytes

    def add_to(self, start: Any, place: int, value: Any) -> None:
        """Add a vector to what lies so many numbers after an address."""
        self.store(self.builder.fadd(self.load(start, place), value), start, place)

    def load_number(self, start: Any, place: int | Any = 0) -> Any:
        """Load the number that lies so many numbers after an address."""
        return self.builder.load(self._at(start, place, self.number))

    def store_number(self, value: Any, start: Any, place: int) -> None:
        """Store a number so many numbers after an address."""
        self.builder.store(value, self._at(start, place, self.number))

    def spread(self, number: Any) -> Any:
        """Put one number into all lanes."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, number, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(one, nothing, self._lanes([0] * self.lanes))

    def fma(self, one: Any, other: Any, total: Any) -> Any:
        """Multiply and add with one rounding."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [one, other, total])

    def total(self, vector: Any) -> Any:
        """Add up the lanes, in all lanes of the result."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            swapped = self._lanes([lane ^ lanes for lane in range(self.lanes)])
            other = self.builder.shuffle_vector(vector, vector, swapped)
            vector = self.builder.fadd(vector, other)
        return vector

    def inverse_root(self, vector: Any) -> Any:
        """Compute 1/√x."""
        kind = ir.FunctionType(self.vector, [self.vector])
        name = f"llvm.sqrt.v{self.lanes}f{8 * self.bytes}"
        root = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.fdiv(self.constant(1.0), self.builder.call(root, [vector]))

    def sigmoid(self, vector: Any) -> Any:
        """Compute σ(x)."""
        return self.builder.fdiv(self.constant(1.0), self.inverse_sigmoid(vector))

    def inverse_sigmoid(self, vector: Any) -> Any:
        """Compute 1/σ(x) = 1 + exp(-x)."""
        return self.builder.fadd(self.constant(1.0), self._exponential_of_minus(vector))

    def _exponential_of_minus(self, vector: Any) -> Any:
        """Compute exp(-x) = 2ⁿ exp(r), |r| ≤ ln(2)/2, with Taylor's series for exp(r).

        Where the result would leave the range of normal numbers, it is near the end of the range.
        """
        builder, number = self.builder, np.float64 if self.double else np.float32
        most, digits, degree = (708.0, 52, 13) if self.double else (87.3, 23, 7)
        for limit, compare in ((most, ">"), (-most, "<")):
            outside = builder.fcmp_ordered(compare, vector, self.constant(limit))
            vector = builder.select(
                outside, self.constant(limit), vector
            )  # what is no number stays
        # Added to a number with no digits after the point, any other loses its own.
        point = self.constant(1.5 * 2.0**digits)
        shifted = self.fma(vector, self.constant(-1.0 / math.log(2.0)), point)
        n = builder.fsub(shifted, point)
        high = float(number(math.log(2.0)))  # of ln 2, whose next digits are in the low part
        low = 2.3190468138462996e-17 if self.double else math.log(2.0) - high
        rest = self.fma(n, self.constant(-high), builder.fneg(vector))
        rest = self.fma(n, self.constant(-low), rest)
        value = self.constant(1.0 / math.factorial(degree))
        for power in range(degree - 1, -1, -1):
            value = self.fma(value, rest, self.constant(1.0 / math.factorial(power)))
        whole = ir.VectorType(ir.IntType(8 * self.bytes), self.lanes)
        exponent = builder.shl(
            builder.bitcast(shifted, whole), ir.Constant(whole, [digits] * self.lanes)
        )
        scaled = builder.add(builder.bitcast(value, whole), exponent)
        return builder.bitcast(scaled, self.vector)

    def _at(self, start: Any, place: int | Any, kind: Any) -> Any:
        place = _constant(place) if isinstance(place, int) else place
        pointer = self.builder.inttoptr(start, self.number.as_pointer())
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())

    @staticmethod
    def _lanes(numbers: list[int]) -> Any:
        return ir.Constant(ir.VectorType(_I32, len(numbers)), numbers)


def _constant(number: int) -> Any:
    return ir.Constant(_I64, number)


def _emitter(body: Callable[..., None]) -> Callable[..., Any]:
    """Give the function by which Numba writes the code of an intrinsic."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        body(_Vectors(builder, context.get_value_type(signature.args[-1])), *arguments)
        return context.get_dummy_value()

    return write


def _add(vectors: _Vectors, out: Any, row: Any, n_columns: Any, _: Any) -> None:
    step = _constant(vectors.lanes)
    with cgutils.for_range_slice(vectors.builder, _constant(0), n_columns, step, _I64) as (at, _n):
        value = vectors.builder.fadd(vectors.load(out, at), vectors.load(row, at))
        vectors.store(value, out, at)


@intrinsic  # type: ignore[untyped-decorator]
def add(typing: Any, out: Any, row: Any, n_columns: Any, like: Any) -> Any:
    """Add a row to another; ``like`` is any number of the precision."""
    return types.void(*[types.int64] * 3, like), _emitter(_add)


def _gather(vectors: _Vectors, out: Any, start: Any, *rest: Any) -> None:
    for column in range(0, 2 * WIDTH, vectors.lanes):
        terms = [vectors.load(row, column) for row in (start, *rest[:3])]
        vectors.store(_sum(vectors.builder, terms), out, column)


@intrinsic  # type: ignore[untyped-decorator]
def gather(  # noqa: PLR0917
    typing: Any, out: Any, start: Any, one: Any, other: Any, third: Any, like: Any
) -> Any:
    """Write the sum of three rows and what it starts from, both branches."""
    return types.void(*[types.int64] * 5, like), _emitter(_gather)


def _copy(vectors: _Vectors, out: Any, row: Any, n_columns: Any, _: Any) -> None:
    step = _constant(vectors.lanes)
    with cgutils.for_range_slice(vectors.builder, _constant(0), n_columns, step, _I64) as (at, _n):
        vectors.store(vectors.load(row, at), out, at)


@intrinsic  # type: ignore[untyped-decorator]
def copy(typing: Any, out: Any, row: Any, n_columns: Any, like: Any) -> Any:
    """Copy a row."""
    return types.void(*[types.int64] * 3, like), _emitter(_copy)


def _multiply(vectors: _Vectors, out: Any, left: Any, right: Any, n_inner: Any, *rest: Any) -> None:
    out_stride, left_strides, right_stride, n_rows = rest[0], rest[1:3], rest[3], rest[4]
    builder = vectors.builder
    whole = builder.sub(n_rows, builder.srem(n_rows, _constant(_TILE_ROWS)))
    width = _TILE_VECTORS * vectors.lanes
    for begin, end, count in ((_constant(0), whole, _TILE_ROWS), (whole, n_rows, 1)):
        with cgutils.for_range_slice(builder, begin, end, _constant(count), _I64) as (first, _):
            for column in range(0, WIDTH, width):
                places = [
                    builder.add(
                        builder.mul(builder.add(first, _constant(row)), out_stride),
                        _constant(column),
                    )
                    for row in range(count)
                ]
                _tile(
                    vectors,
                    (out, places),
                    (left, first, *left_strides),
                    (right, right_stride, column),
                    n_inner,
                )


def _tile(vectors: _Vectors, out: Any, left: Any, right: Any, n_inner: Any) -> None:
    """Add to some rows and columns of a product, with their sums in registers."""
    builder = vectors.builder
    start, places = out
    columns = range(0, _TILE_VECTORS * vectors.lanes, vectors.lanes)
    sums = []
    for place in places:
        for column in columns:
            kept = cgutils.alloca_once(builder, vectors.vector)
            builder.store(vectors.load(start, builder.add(place, _constant(column))), kept)
            sums.append(kept)
    left_start, first, row_stride, inner_stride = left
    right_start, right_stride, right_column = right
    rows = [
        builder.mul(builder.add(first, _constant(row)), row_stride) for row in range(len(places))
    ]
    with cgutils.for_range(builder, n_inner, intp=_I64) as loop:
        at = builder.add(builder.mul(loop.index, right_stride), _constant(right_column))
        values = [vectors.load(right_start, builder.add(at, _constant(c))) for c in columns]
        inner = builder.mul(loop.index, inner_stride)
        for row, place in enumerate(rows):
            number = vectors.load_number(left_start, builder.add(place, inner))
            factor = vectors.spread(number)
            for column, value in enumerate(values):
                kept = sums[row * len(values) + column]
                builder.store(vectors.fma(factor, value, builder.load(kept)), kept)
    kept = iter(sums)
    for place in places:
        for column in columns:
            vectors.store(builder.load(next(kept)), start, builder.add(place, _constant(column)))


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
    return types.void(*[types.int64] * 9, like), _emitter(_multiply)


def _silu(vectors: _Vectors, out: Any, row: Any, _: Any) -> None:
    for column in range(0, 2 * WIDTH, vectors.lanes):
        value = vectors.load(row, column)
        vectors.store(vectors.builder.fmul(value, vectors.sigmoid(value)), out, column)


@intrinsic  # type: ignore[untyped-decorator]
def silu(typing: Any, out: Any, row: Any, like: Any) -> Any:
    """Write x σ(x), both branches."""
    return types.void(*[types.int64] * 2, like), _emitter(_silu)


def _silu_backward(vectors: _Vectors, out: Any, gradient: Any, row: Any, _: Any) -> None:
    builder = vectors.builder
    for column in range(0, 2 * WIDTH, vectors.lanes):
        value = vectors.load(row, column)
        opening = vectors.sigmoid(value)
        result = builder.fmul(value, opening)
        vectors.store(result, out, column)
        slope = builder.fadd(opening, builder.fsub(result, builder.fmul(result, opening)))
        vectors.store(builder.fmul(vectors.load(gradient, column), slope), gradient, column)


@intrinsic  # type: ignore[untyped-decorator]
def silu_backward(typing: Any, out: Any, gradient: Any, row: Any, like: Any) -> Any:
    """Write x σ(x), and multiply the gradient by its slope, both branches."""
    return types.void(*[types.int64] * 3, like), _emitter(_silu_backward)


def _normalize(  # noqa: PLR0917
    vectors: _Vectors, row: Any, normal: Any, inverse: Any, branch: int, eps: Any
) -> list[Any]:
    """Write the normalised columns of a branch and give them; keep 1/√(variance + ε)."""
    builder = vectors.builder
    columns = range(branch * WIDTH, (branch + 1) * WIDTH, vectors.lanes)
    values = [vectors.load(row, column) for column in columns]
    share = vectors.constant(1.0 / WIDTH)
    mean = builder.fmul(vectors.total(_sum(builder, values)), share)
    values = [builder.fsub(value, mean) for value in values]
    squares = [builder.fmul(value, value) for value in values]
    variance = builder.fmul(vectors.total(_sum(builder, squares)), share)
    scale = vectors.inverse_root(builder.fadd(variance, vectors.spread(eps)))
    vectors.store_number(builder.extract_element(scale, ir.Constant(_I32, 0)), inverse, branch)
    values = [builder.fmul(value, scale) for value in values]
    for column, value in zip(columns, values, strict=True):
        vectors.store(value, normal, column)
    return values


def _sum(builder: Any, values: list[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = builder.fadd(total, value)
    return total


def _gate(  # noqa: PLR0917
    vectors: _Vectors,
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
    count = vectors.spread(count)
    for index, column in enumerate(range(0, WIDTH, vectors.lanes)):
        core, gate = _scaled(vectors, norms, column, [branch[index] for branch in branches])
        below = builder.fmul(vectors.inverse_sigmoid(core), vectors.inverse_sigmoid(gate))
        value = builder.fdiv(core, below)
        factor = builder.fmul(vectors.load(factors, column), count)
        vectors.store(vectors.fma(value, factor, vectors.load(out, column)), out, column)


def _scaled(vectors: _Vectors, norms: Any, column: int, normals: list[Any]) -> list[Any]:
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
    return types.void(*[types.int64] * 6, count, count), _emitter(_gate)


def _gate_backward(  # noqa: PLR0917
    vectors: _Vectors,
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
    count = vectors.spread(count)
    along: list[list[Any]] = [[], []]
    sums: list[list[Any]] = [[], []]
    for column in range(0, WIDTH, vectors.lanes):
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
        mean = builder.fmul(vectors.total(_sum(builder, sums[branch])), share)
        slope = builder.fmul(vectors.total(_sum(builder, along[branch])), share)
        scale = vectors.spread(vectors.load_number(inverse, branch))
        for index, column in enumerate(range(branch * WIDTH, (branch + 1) * WIDTH, vectors.lanes)):
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
    return types.void(*[types.int64] * 8, count), _emitter(_gate_backward)


@compiled
def _address(array: Array) -> Any:
    return np.int64(array.ctypes.data)  # signed, as all that is added to it


@compiled
def _add_product(  # noqa: PLR0917
    out: int,
    out_stride: int,
    left: int,
    left_stride: int,
    weight: Array,
    n_rows: int,
    n_inner: int,
    like: Any,
) -> None:
    """Add the product of rows and a weight whose own rows are the columns of the input."""
    size = weight.itemsize
    for column in range(0, weight.shape[1], WIDTH):
        multiply(
            out + column * size,
            left,
            _address(weight) + column * size,
            n_inner,
            out_stride,
            left_stride,
            1,
            weight.shape[1],
            n_rows,
            like,
        )


@compiled
def _add_weight_gradient(  # noqa: PLR0917
    weight: Array,
    gradient: int,
    rows: int,
    row_stride: int,
    n_rows: int,
    like: Any,
) -> None:
    """Add the gradient of a weight, given that of a product's rows and the rows it was made of."""
    place, n_outputs = _address(weight), len(weight)
    multiply(place, gradient, rows, n_rows, WIDTH, 1, 2 * WIDTH, row_stride, n_outputs, like)


@compiled
def _joined(parts: Arrays) -> Array:
    """Give the parameters of both branches as one array."""
    joined = np.empty((len(parts), WIDTH), parts[0].dtype)
    for part in range(len(parts)):
        joined[part] = parts[part]
    return joined


@compiled
def _write_hidden(  # noqa: PLR0917
    x: int,
    start: int,
    n_rows: int,
    index: IntArray,
    tables: Arrays,
    features: Array,
    first: Arrays,
    eps: Any,
) -> None:
    """Write what the first layer gives for a block of messages."""
    pairs, singles, changes, _ = tables
    weight, bias = first
    size = weight.itemsize
    row = 2 * WIDTH * size
    if weight.size > 0:
        for i in range(n_rows):
            copy(x + i * row, _address(bias), 2 * WIDTH, eps)
        left = _address(features) + start * WIDTH * size
        _add_product(x, 2 * WIDTH, left, WIDTH, weight, n_rows, WIDTH, eps)
    for i in range(n_rows):
        m, out = start + i, x + i * row
        gather(
            out,
            out if weight.size > 0 else _address(bias),
            _address(pairs) + index[0, m] * row,
            _address(pairs) + index[1, m] * row,
            _address(singles) + index[2, m] * row,
            eps,
        )
        if len(changes) > 0 and index[3, m] >= 0:
            add(out, _address(changes) + index[3, m] * row, 2 * WIDTH, eps)


@compiled
def _write_second(  # noqa: PLR0917
    y: int,
    x: int,
    h: int,
    n_rows: int,
    weights: Arrays,
    biases: Array,
    eps: Any,
) -> None:
    """Write what the second layers give for a block of messages, and on the way their input."""
    size = biases.itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    for i in range(n_rows):
        silu(h + i * row, x + i * row, eps)
        copy(y + i * row, _address(biases), 2 * WIDTH, eps)
    _add_product(y, 2 * WIDTH, h, 2 * WIDTH, weights[0], n_rows, WIDTH, eps)
    _add_product(y + branch, 2 * WIDTH, h + branch, 2 * WIDTH, weights[1], n_rows, WIDTH, eps)


@compiled
def forward(  # noqa: PLR0917
    span: tuple[int, int],
    eps: Any,
    index: IntArray,
    counts: Array,
    tables: Arrays,
    features: Array,
    first: Arrays,
    second: Arrays,
    norms: Arrays,
    saved: Arrays,
    out: Array,
) -> None:
    """Add messages to the rows of a result that receive them.

    Parameters
    ----------
    span
        The first message and the one after the last.
    eps
        What is added to a variance.
    index
        For each message two rows of pairs, a row of singles, one of changes or -1, one of factors,
        and the row of the result, shape ``(6, n_messages)``.
    counts
        How often each counts, shape ``(n_messages,)``.
    tables
        Pairs, singles, changes and factors; the last two without rows if there are none.
    features
        Of each message, shape ``(n_messages, WIDTH)``, if the first layer has a part for them.
    first
        Weight, without rows if there is none, and bias of this part.
    second
        Weight and bias of the second layer of core and gate; weights without rows if there is none.
    norms
        Scale and shift of the norms of core and gate.
    saved
        Where to keep the sums of the first layer, both branches normalised, and by what they were
        divided, for the messages of the span. Arrays of a block serve all blocks in turn.
    out
        The result, shape ``(n_receivers, WIDTH)``.
    """
    hidden, normal, inverse = saved
    scales, biases = _joined(norms), _joined((second[1], second[3]))
    row, branch = 2 * WIDTH * scales.itemsize, WIDTH * scales.itemsize
    first = (np.ascontiguousarray(first[0].T), first[1])
    weights = (np.ascontiguousarray(second[0].T), np.ascontiguousarray(second[2].T))
    ones = np.ones(WIDTH, scales.dtype)
    layers, sums = np.empty((2, BLOCK, 2 * WIDTH), scales.dtype)
    begin, end = span
    for start in range(begin, end, BLOCK):
        n_rows = min(BLOCK, end - start)
        x = _address(hidden) + ((start - begin) * row if len(hidden) > BLOCK else 0)
        _write_hidden(x, start, n_rows, index, tables, features, first, eps)
        if weights[0].size > 0:
            _write_second(_address(sums), x, _address(layers), n_rows, weights, biases, eps)
            x = _address(sums)
        for i in range(n_rows):
            m = start + i
            place = m - begin if len(normal) > BLOCK else i
            factors = _address(ones)
            if len(tables[3]) > 0:
                factors = _address(tables[3]) + index[4, m] * branch
            gate(
                _address(out) + index[5, m] * branch,
                x + i * row,
                _address(normal) + place * row,
                _address(inverse) + place * 2 * scales.itemsize,
                _address(scales),
                factors,
                counts[m],
                eps,
            )


@compiled
def _write_gate_gradients(  # noqa: PLR0917
    d: int,
    start: int,
    place: int,
    n_rows: int,
    index: IntArray,
    counts: Array,
    factors: Array,
    scales: Array,
    saved: Arrays,
    gradient: Array,
    to_factors: Array,
    to_scales: Array,
) -> None:
    """Write the gradients of both branches of a block, and add those of factors and norms."""
    _, normal, inverse = saved
    size = scales.itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    ones, nothing = np.ones(WIDTH, scales.dtype), np.zeros(WIDTH, scales.dtype)
    for i in range(n_rows):
        m = start + i
        factor, to_factor = _address(ones), _address(nothing)
        if len(factors) > 0:
            factor = _address(factors) + index[4, m] * branch
            to_factor = _address(to_factors) + index[4, m] * branch
        gate_backward(
            d + i * row,
            _address(gradient) + index[5, m] * branch,
            _address(normal) + (place + i) * row,
            _address(inverse) + (place + i) * 2 * size,
            _address(scales),
            _address(to_scales),
            factor,
            to_factor,
            counts[m],
        )


@compiled
def _write_second_gradients(  # noqa: PLR0917
    e: int,
    h: int,
    d: int,
    x: int,
    n_rows: int,
    second: Arrays,
    to_second: Arrays,
    eps: Any,
) -> None:
    """Write the gradients of a block's sums of the first layer; add those of second layers."""
    size = second[0].itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    _add_product(e, 2 * WIDTH, d, 2 * WIDTH, second[0], n_rows, WIDTH, eps)
    _add_product(e + branch, 2 * WIDTH, d + branch, 2 * WIDTH, second[2], n_rows, WIDTH, eps)
    for i in range(n_rows):
        silu_backward(h + i * row, e + i * row, x + i * row, eps)
    if len(to_second[0]) > 0:
        _add_weight_gradient(to_second[0], d, h, 2 * WIDTH, n_rows, eps)
        _add_weight_gradient(to_second[2], d + branch, h + branch, 2 * WIDTH, n_rows, eps)
        for i in range(n_rows):
            add(_address(to_second[1]), d + i * row, WIDTH, eps)
            add(_address(to_second[3]), d + i * row + branch, WIDTH, eps)


@compiled
def _add_first_gradients(  # noqa: PLR0917
    d: int,
    start: int,
    n_rows: int,
    index: IntArray,
    features: Array,
    first: Arrays,
    to_tables: Arrays,
    to_features: Array,
    to_first: Arrays,
    eps: Any,
) -> None:
    """Add the gradients of all that the first layer adds up, for a block of messages."""
    to_pairs, to_singles, to_changes, _ = to_tables
    size = first[0].itemsize
    row, place = 2 * WIDTH * size, start * WIDTH * size
    for i in range(n_rows):
        m, at = start + i, d + i * row
        add(_address(to_pairs) + index[0, m] * row, at, 2 * WIDTH, eps)
        add(_address(to_pairs) + index[1, m] * row, at, 2 * WIDTH, eps)
        add(_address(to_singles) + index[2, m] * row, at, 2 * WIDTH, eps)
        if len(to_changes) > 0 and index[3, m] >= 0:
            add(_address(to_changes) + index[3, m] * row, at, 2 * WIDTH, eps)
    if len(first[0]) > 0:
        to_rows = _address(to_features) + place
        _add_product(to_rows, WIDTH, d, 2 * WIDTH, first[0], n_rows, 2 * WIDTH, eps)
    if len(to_first[0]) > 0:
        rows = _address(features) + place
        _add_weight_gradient(to_first[0], d, rows, WIDTH, n_rows, eps)
        for i in range(n_rows):
            add(_address(to_first[1]), d + i * row, 2 * WIDTH, eps)


@compiled
def backward(  # noqa: PLR0917
    span: tuple[int, int],
    eps: Any,
    index: IntArray,
    counts: Array,
    tables: Arrays,
    features: Array,
    first: Arrays,
    second: Arrays,
    norms: Arrays,
    saved: Arrays,
    gradient: Array,
    gradients: Gradients,
) -> None:
    """Add the gradients of all that messages are made of, given that of the result.

    Arguments are those of `forward`. ``gradients`` are to be those of tables, features, first and
    second layers and norms. Weights whose gradients are not needed have no rows in them.
    """
    to_tables, to_features, to_first, to_second, to_norms = gradients
    hidden = saved[0]
    scales, to_scales = _joined(norms), np.zeros((4, WIDTH), norms[0].dtype)
    row = 2 * WIDTH * scales.itemsize
    layers, sums, hiddens = np.empty((3, BLOCK, 2 * WIDTH), scales.dtype)
    begin, end = span
    for start in range(begin, end, BLOCK):
        n_rows = min(BLOCK, end - start)
        d, place = _address(sums), start - begin
        factors, to_factors = tables[3], to_tables[3]
        _write_gate_gradients(
            d,
            start,
            place,
            n_rows,
            index,
            counts,
            factors,
            scales,
            saved,
            gradient,
            to_factors,
            to_scales,
        )
        if len(second[0]) > 0:
            hiddens[:] = 0
            x, e, h = _address(hidden) + place * row, _address(hiddens), _address(layers)
            _write_second_gradients(e, h, d, x, n_rows, second, to_second, eps)
            d = e
        _add_first_gradients(
            d, start, n_rows, index, features, first, to_tables, to_features, to_first, eps
        )
    for part in range(4):
        to_norms[part][:] += to_scales[part]
