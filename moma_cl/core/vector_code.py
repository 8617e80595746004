"""Writes code that computes with vectors of the processor, for intrinsics of compiled functions.

Numba's own loops do not become vectors, since it must assume that arrays overlap, and its
exponential is one number at a time. So the innermost passes over rows are written in the compiler's
intermediate language. All places are addresses in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils

_FEATURES = binding.get_host_cpu_features()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16
"""What a vector of this processor holds."""

_I32, I64 = ir.IntType(32), ir.IntType(64)


def constant(number: int) -> Any:
    """Give a number of rows, columns or bytes as a value of the code."""
    return ir.Constant(I64, number)


def emitter(write_code: Callable[..., None]) -> Callable[..., Any]:
    """Give the function by which Numba writes the code of an intrinsic that returns nothing.

    Its last argument is of the precision that the code is to compute in.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        write_code(Vectors(builder, context.get_value_type(signature.args[-1])), *arguments)
        return context.get_dummy_value()

    return write


class Vectors:
    """Writes code that computes with vectors of one precision.

    Its methods take values of the code, give others, and write what comes between.
    """

    def __init__(self, builder: Any, number: Any) -> None:
        self.builder, self.number = builder, number
        self.double = isinstance(number, ir.DoubleType)
        self.bytes = 8 if self.double else 4
        self.n_lanes = VECTOR_BYTES // self.bytes
        self.vector = ir.VectorType(number, self.n_lanes)

    def constant(self, value: float) -> Any:
        """Give a number in all lanes."""
        return ir.Constant(self.vector, [value] * self.n_lanes)

    def load(self, start: Any, place: int | Any = 0) -> Any:
        """Load the vector that lies so many numbers after an address."""
        value = self.builder.load(self._at(start, place, self.vector))
        value.align = self.bytes
        return value

    def store(self, value: Any, start: Any, place: int | Any = 0) -> None:
        """Store a vector so many numbers after an address."""
        self.builder.store(value, self._at(start, place, self.vector)).align = self.bytes

    def add_to(self, start: Any, place: int | Any, value: Any) -> None:
        """Add a vector to what lies so many numbers after an address."""
        self.store(self.builder.fadd(self.load(start, place), value), start, place)

    def load_scalar(self, start: Any, place: int | Any = 0) -> Any:
        """Load the number that lies so many numbers after an address."""
        return self.builder.load(self._at(start, place, self.number))

    def store_first(self, vector: Any, start: Any, place: int) -> None:
        """Store the first lane of a vector so many numbers after an address."""
        number = self.builder.extract_element(vector, ir.Constant(_I32, 0))
        self.builder.store(number, self._at(start, place, self.number))

    def broadcast(self, number: Any) -> Any:
        """Put one number into all lanes."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, number, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(one, nothing, _lanes([0] * self.n_lanes))

    def fma(self, one: Any, other: Any, addend: Any) -> Any:
        """Multiply and add with one rounding."""
        return self._call("fma", one, other, addend)

    def sum(self, vectors: Sequence[Any]) -> Any:
        """Add vectors from the first to the last."""
        total = vectors[0]
        for vector in vectors[1:]:
            total = self.builder.fadd(total, vector)
        return total

    def sum_lanes(self, vector: Any) -> Any:
        """Add up the lanes, in all lanes of the result."""
        distance = self.n_lanes
        while distance > 1:
            distance //= 2
            swapped = _lanes([lane ^ distance for lane in range(self.n_lanes)])
            other = self.builder.shuffle_vector(vector, vector, swapped)
            vector = self.builder.fadd(vector, other)
        return vector

    def inverse_root(self, vector: Any) -> Any:
        """Compute 1/√x."""
        return self.builder.fdiv(self.constant(1.0), self._call("sqrt", vector))

    def sigmoid(self, vector: Any) -> Any:
        """Compute σ(x)."""
        return self.builder.fdiv(self.constant(1.0), self.inverse_sigmoid(vector))

    def inverse_sigmoid(self, vector: Any) -> Any:
        """Compute 1/σ(x) = 1 + exp(-x)."""
        return self.builder.fadd(self.constant(1.0), self.exp_of_minus(vector))

    def exp_of_minus(self, vector: Any) -> Any:
        """Compute exp(-x) = 2ⁿ exp(r), |r| ≤ ln(2)/2, with Taylor's series for exp(r).

        Where the result would leave the range of normal numbers, it is near the end of the range.
        What is no number stays none.
        """
        builder, number = self.builder, np.float64 if self.double else np.float32
        limit, digits, degree = (708.0, 52, 13) if self.double else (87.3, 23, 7)
        for end, compare in ((self.constant(limit), ">"), (self.constant(-limit), "<")):
            vector = builder.select(builder.fcmp_ordered(compare, vector, end), end, vector)
        # Added to a number with no digits after the point, any other loses its own.
        point = self.constant(1.5 * 2.0**digits)
        shifted = self.fma(vector, self.constant(-1.0 / math.log(2.0)), point)
        n = builder.fsub(shifted, point)
        # ln 2 as a number of this precision and one with its next digits
        high = float(number(math.log(2.0)))
        low = 2.3190468138462996e-17 if self.double else math.log(2.0) - high
        rest = self.fma(n, self.constant(-high), builder.fneg(vector))
        rest = self.fma(n, self.constant(-low), rest)
        series = self.constant(1.0 / math.factorial(degree))
        for power in range(degree - 1, -1, -1):
            series = self.fma(series, rest, self.constant(1.0 / math.factorial(power)))
        # n is in the last bits of the shifted number, and is added to the exponent of the series.
        whole = ir.VectorType(ir.IntType(8 * self.bytes), self.n_lanes)
        places = ir.Constant(whole, [digits] * self.n_lanes)
        exponent = builder.shl(builder.bitcast(shifted, whole), places)
        scaled = builder.add(builder.bitcast(series, whole), exponent)
        return builder.bitcast(scaled, self.vector)

    def _call(self, name: str, *vectors: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * len(vectors))
        full = f"llvm.{name}.v{self.n_lanes}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self.builder.call(function, vectors)

    def _at(self, start: Any, place: int | Any, kind: Any) -> Any:
        place = constant(place) if isinstance(place, int) else place
        pointer = self.builder.inttoptr(start, self.number.as_pointer())
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())


def _lanes(numbers: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(numbers)), numbers)
