"""The compiled kernel of messages, forward.

It takes a block of messages at a time through all steps, while their rows are in the processor's
fast memory. Arrays are passed on as addresses in memory. These are the arguments of a call:

span
    The first message and the one after the last.
eps
    What is added to a variance.
index
    For each message two rows of pairs, a row of singles, one of changes or -1, one of factors, and
    the row of the result, shape ``(6, n_messages)``.
counts
    How often each counts, shape ``(n_messages,)``.
tables
    Pairs, singles, changes and factors; the last two without rows if there are none.
features
    Of each message, shape ``(n_messages, WIDTH)``, if the first layer has a part for them.
first
    Weight of this part, without rows if there is none, and bias of the first layer.
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

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import IntArray
from moma_cl.backbones.chgnet.message_passes import WIDTH, add, copy, gate, gather, multiply, silu
from moma_cl.core.compiled import compiled

BLOCK = 48
"""Messages that are taken through all steps at a time."""

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = tuple[Array, ...]


@compiled
def address(array: Array) -> Any:
    """Give the place of an array in memory, signed, as all that is added to it."""
    return np.int64(array.ctypes.data)


@compiled
def add_product(  # noqa: PLR0917
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
            address(weight) + column * size,
            n_inner,
            out_stride,
            left_stride,
            1,
            weight.shape[1],
            n_rows,
            like,
        )


@compiled
def joined(parts: Arrays) -> Array:
    """Give parameters of both branches as the rows of one array."""
    rows = np.empty((len(parts), WIDTH), parts[0].dtype)
    for part in range(len(parts)):
        rows[part] = parts[part]
    return rows


@compiled
def _write_hidden(  # noqa: PLR0917
    hidden: int,
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
            copy(hidden + i * row, address(bias), 2 * WIDTH, eps)
        left = address(features) + start * WIDTH * size
        add_product(hidden, 2 * WIDTH, left, WIDTH, weight, n_rows, WIDTH, eps)
    for i in range(n_rows):
        m, out = start + i, hidden + i * row
        gather(
            out,
            out if weight.size > 0 else address(bias),
            address(pairs) + index[0, m] * row,
            address(pairs) + index[1, m] * row,
            address(singles) + index[2, m] * row,
            eps,
        )
        if len(changes) > 0 and index[3, m] >= 0:
            add(out, address(changes) + index[3, m] * row, 2 * WIDTH, eps)


@compiled
def _write_second(  # noqa: PLR0917
    branches: int,
    hidden: int,
    activations: int,
    n_rows: int,
    weights: Arrays,
    biases: Array,
    eps: Any,
) -> None:
    """Write what the second layers give for a block of messages, and on the way their input."""
    size = biases.itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    for i in range(n_rows):
        silu(activations + i * row, hidden + i * row, eps)
        copy(branches + i * row, address(biases), 2 * WIDTH, eps)
    add_product(branches, 2 * WIDTH, activations, 2 * WIDTH, weights[0], n_rows, WIDTH, eps)
    add_product(
        branches + branch,
        2 * WIDTH,
        activations + branch,
        2 * WIDTH,
        weights[1],
        n_rows,
        WIDTH,
        eps,
    )


@compiled
def _add_gated(  # noqa: PLR0917
    out: Array,
    branches: int,
    normal: int,
    inverse: int,
    start: int,
    n_rows: int,
    index: IntArray,
    counts: Array,
    factors: Array,
    scales: Array,
    eps: Any,
) -> None:
    """Add a block of messages to their receivers, and keep what their gradients need."""
    size = scales.itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    ones = np.ones(WIDTH, scales.dtype)
    for i in range(n_rows):
        m = start + i
        gate(
            address(out) + index[5, m] * branch,
            branches + i * row,
            normal + i * row,
            inverse + i * 2 * size,
            address(scales),
            address(factors) + index[4, m] * branch if len(factors) > 0 else address(ones),
            counts[m],
            eps,
        )


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
    """Add messages to the rows of a result that receive them."""
    hidden, normal, inverse = saved
    scales, biases = joined(norms), joined((second[1], second[3]))
    size = scales.itemsize
    row = 2 * WIDTH * size
    first = (np.ascontiguousarray(first[0].T), first[1])
    weights = (np.ascontiguousarray(second[0].T), np.ascontiguousarray(second[2].T))
    factors = tables[3]
    activations, seconds = np.empty((2, BLOCK, 2 * WIDTH), scales.dtype)
    begin, end = span
    for start in range(begin, end, BLOCK):
        n_rows, place = min(BLOCK, end - start), start - begin
        branches = address(hidden) + (place * row if len(hidden) > BLOCK else 0)
        _write_hidden(branches, start, n_rows, index, tables, features, first, eps)
        if weights[0].size > 0:
            firsts, branches = branches, address(seconds)
            _write_second(branches, firsts, address(activations), n_rows, weights, biases, eps)
        kept = place if len(normal) > BLOCK else 0
        normals, inverses = address(normal) + kept * row, address(inverse) + kept * 2 * size
        _add_gated(
            out, branches, normals, inverses, start, n_rows, index, counts, factors, scales, eps
        )
