"""The compiled kernel of a convolution, forward and backward.

It walks through the edges, and for each path through channels in vectors of the processor
(`moma_cl.core.vector_code`): sixteen channels at a time in single precision, while what an edge
needs of weights, features and messages stays in registers.

All places are addresses in memory. Rows of an array are ``stride`` numbers apart, and the number of
channels must be a multiple of what a vector holds.
"""

# ruff: noqa: ARG001  the arguments of an intrinsic are read by the code that it emits

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, TypeAlias

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from moma_cl.arraytypes import IntArray
from moma_cl.core.compiled import compiled
from moma_cl.core.vector_code import I64, Vectors, constant

_MOST_ROWS = 7  # 2l + 1 for degree 3

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = tuple[Array, ...]  # one for each degree
Geometry: TypeAlias = tuple[IntArray, IntArray, IntArray, IntArray, Array]


class _Loop(Vectors):
    """The body of a loop over channels, of which it handles one vector from ``channel`` on."""

    channel: Any

    def over(self, n_channels: Any) -> Any:
        """Begin the loop."""
        step = constant(self.n_lanes)
        return cgutils.for_range_slice(self.builder, constant(0), n_channels, step, I64)

    def at(self, row: int, stride: Any) -> Any:
        """Say how many numbers after the start of an array the vector in one of its rows lies."""
        return self.builder.add(self.builder.mul(stride, constant(row)), self.channel)

    def spread(self, start: Any, place: int) -> Any:
        """Load one number into all lanes."""
        return self.broadcast(self.load_scalar(start, place))


def _for_all_numbers(
    builder: Any, n_sources: Any, n_targets: Any, write: Callable[[int, int], None]
) -> None:
    """Write code for all pairs of numbers of rows, and jump to the one that is asked for."""
    end = builder.append_basic_block("rows.end")
    pair = builder.add(builder.mul(n_sources, constant(_MOST_ROWS + 1)), n_targets)
    switch = builder.switch(pair, end)
    for sources, targets in product(range(1, _MOST_ROWS + 1), repeat=2):
        case = builder.append_basic_block(f"rows.{sources}.{targets}")
        switch.add_case(constant(sources * (_MOST_ROWS + 1) + targets), case)
        with builder.goto_block(case):
            write(sources, targets)
            builder.branch(end)
    builder.position_at_end(end)


def _messages(loop: _Loop, places: Any, n_channels: Any, n_sources: int, n_targets: int) -> None:
    out, stride, features, weights, tensor = places
    with loop.over(n_channels) as (loop.channel, _):
        weight = loop.load(weights, loop.channel)
        scaled = [
            loop.builder.fmul(weight, loop.load(features, loop.at(source, n_channels)))
            for source in range(n_sources)
        ]
        for target in range(n_targets):
            place = loop.at(target, stride)
            total = loop.load(out, place)
            for source, value in enumerate(scaled):
                factor = loop.spread(tensor, target * n_sources + source)
                total = loop.fma(factor, value, total)
            loop.store(total, out, place)


def _gradients(loop: _Loop, places: Any, n_channels: Any, n_sources: int, n_targets: int) -> None:
    gradient, stride, features, weights, tensor, to_features, to_weights = places
    with loop.over(n_channels) as (loop.channel, _):
        weight = loop.load(weights, loop.channel)
        to_weight = loop.load(to_weights, loop.channel)
        above = [loop.load(gradient, loop.at(target, stride)) for target in range(n_targets)]
        for source in range(n_sources):
            total = loop.builder.fmul(loop.spread(tensor, source), above[0])
            for target in range(1, n_targets):
                factor = loop.spread(tensor, target * n_sources + source)
                total = loop.fma(factor, above[target], total)
            place = loop.at(source, n_channels)
            to_weight = loop.fma(total, loop.load(features, place), to_weight)
            to_feature = loop.load(to_features, place)
            loop.store(loop.fma(total, weight, to_feature), to_features, place)
        loop.store(to_weight, to_weights, loop.channel)


def _emitter(body: Callable[..., None]) -> Callable[..., Any]:
    """Give the function by which Numba writes the code of an intrinsic with a loop's body."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *places, n_channels, n_sources, n_targets, _ = arguments
        number = context.get_value_type(signature.args[-1])

        def write_one(sources: int, targets: int) -> None:
            body(_Loop(builder, number), places, n_channels, sources, targets)

        _for_all_numbers(builder, n_sources, n_targets, write_one)
        return context.get_dummy_value()

    return write


@intrinsic  # type: ignore[untyped-decorator]
def add_messages(  # noqa: PLR0917
    typing: Any,
    out: Any,
    stride: Any,
    features: Any,
    weights: Any,
    tensor: Any,
    n_channels: Any,
    n_sources: Any,
    n_targets: Any,
    like: Any,
) -> Any:
    """Add out[m₂] += Σ_m₁ tensor[m₂, m₁] · weights ∘ features[m₁], for an edge and path.

    Numbers of rows are ``n_sources`` and ``n_targets``; ``like`` is any number of the precision.
    """
    return types.void(*[types.int64] * 8, like), _emitter(_messages)


@intrinsic  # type: ignore[untyped-decorator]
def add_gradients(  # noqa: PLR0917
    typing: Any,
    gradient: Any,
    stride: Any,
    features: Any,
    weights: Any,
    tensor: Any,
    to_features: Any,
    to_weights: Any,
    n_channels: Any,
    n_sources: Any,
    n_targets: Any,
    like: Any,
) -> Any:
    """Add the gradients of features and weights, for an edge and path, given the messages'."""
    return types.void(*[types.int64] * 10, like), _emitter(_gradients)


@compiled
def forward(geometry: Geometry, weights: Array, features: Arrays, messages: Arrays) -> None:
    """Add the messages of all edges.

    Parameters
    ----------
    geometry
        The table of paths, numbers of rows and first rows of nodes, edges, and edge tensors.
    weights
        Weights of each distinct length.
    features
        Features of each degree.
    messages
        Where to add, for each degree.
    """
    table, counts, starts, edges, tensors = geometry
    size, like = weights.itemsize, weights.dtype.type(0)
    tensor = tensors.ctypes.data
    for edge in range(edges.shape[1]):
        source, target, length = edges[0, edge], edges[1, edge], edges[2, edge]
        weight = weights.ctypes.data + length * weights.shape[1] * size
        for path in range(len(table)):
            first, second, n_channels = table[path, 0], table[path, 1], table[path, 2]
            n_sources, n_targets = counts[source, first], counts[target, second]
            if n_channels > 0 and n_sources > 0 and n_targets > 0:
                stride = messages[second].shape[1]
                add_messages(
                    messages[second].ctypes.data
                    + (starts[target, second] * stride + table[path, 4]) * size,
                    stride,
                    features[first].ctypes.data + starts[source, first] * n_channels * size,
                    weight + table[path, 3] * size,
                    tensor,
                    n_channels,
                    n_sources,
                    n_targets,
                    like,
                )
            tensor += n_sources * n_targets * size


@compiled
def backward(  # noqa: PLR0917
    geometry: Geometry,
    weights: Array,
    features: Arrays,
    gradients: Arrays,
    to_weights: Array,
    to_features: Arrays,
) -> None:
    """Add the gradients of weights and features, given those of the messages of each degree."""
    table, counts, starts, edges, tensors = geometry
    size, like = weights.itemsize, weights.dtype.type(0)
    tensor = tensors.ctypes.data
    for edge in range(edges.shape[1]):
        source, target, length = edges[0, edge], edges[1, edge], edges[2, edge]
        for path in range(len(table)):
            first, second, n_channels = table[path, 0], table[path, 1], table[path, 2]
            n_sources, n_targets = counts[source, first], counts[target, second]
            if n_channels > 0 and n_sources > 0 and n_targets > 0:
                stride = gradients[second].shape[1]
                at_weight = (length * weights.shape[1] + table[path, 3]) * size
                at_source = starts[source, first] * n_channels * size
                add_gradients(
                    gradients[second].ctypes.data
                    + (starts[target, second] * stride + table[path, 4]) * size,
                    stride,
                    features[first].ctypes.data + at_source,
                    weights.ctypes.data + at_weight,
                    tensor,
                    to_features[first].ctypes.data + at_source,
                    to_weights.ctypes.data + at_weight,
                    n_channels,
                    n_sources,
                    n_targets,
                    like,
                )
            tensor += n_sources * n_targets * size
