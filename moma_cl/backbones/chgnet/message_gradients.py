"""The compiled kernel of messages, backward: the gradients of all that messages are made of.

Like `message_kernel` it takes a block of messages at a time through all steps.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from moma_cl.arraytypes import IntArray
from moma_cl.backbones.chgnet.message_kernel import (
    BLOCK,
    Array,
    Arrays,
    add_product,
    address,
    joined,
)
from moma_cl.backbones.chgnet.message_passes import (
    WIDTH,
    add,
    gate_backward,
    multiply,
    silu_backward,
)
from moma_cl.core.compiled import compiled

Gradients: TypeAlias = tuple[Arrays, Array, Arrays, Arrays, Arrays]


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
    place, n_outputs = address(weight), len(weight)
    multiply(place, gradient, rows, n_rows, WIDTH, 1, 2 * WIDTH, row_stride, n_outputs, like)


@compiled
def _add_bias_gradient(bias: Array, gradient: int, n_rows: int, like: Any) -> None:
    """Add the gradient of a bias, if it is wanted, given that of rows of both branches."""
    if len(bias) > 0:
        for i in range(n_rows):
            add(address(bias), gradient + i * 2 * WIDTH * bias.itemsize, len(bias), like)


@compiled
def _write_gate_gradients(  # noqa: PLR0917
    to_branches: int,
    start: int,
    place: int,
    n_rows: int,
    index: IntArray,
    counts: Array,
    factors: Arrays,
    scales: Arrays,
    saved: Arrays,
    gradient: Array,
) -> None:
    """Write the gradients of both branches of a block, and add those of factors and norms."""
    _, normal, inverse = saved
    size = scales[0].itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    ones, nothing = np.ones(WIDTH, scales[0].dtype), np.zeros(WIDTH, scales[0].dtype)
    for i in range(n_rows):
        m = start + i
        factor, to_factor = address(ones), address(nothing)
        if len(factors[0]) > 0:
            factor = address(factors[0]) + index[4, m] * branch
            to_factor = address(factors[1]) + index[4, m] * branch
        gate_backward(
            to_branches + i * row,
            address(gradient) + index[5, m] * branch,
            address(normal) + (place + i) * row,
            address(inverse) + (place + i) * 2 * size,
            address(scales[0]),
            address(scales[1]),
            factor,
            to_factor,
            counts[m],
        )


@compiled
def _write_second_gradients(  # noqa: PLR0917
    to_hidden: int,
    activations: int,
    to_branches: int,
    hidden: int,
    n_rows: int,
    second: Arrays,
    to_second: Arrays,
    eps: Any,
) -> None:
    """Write the gradients of a block's sums of the first layer; add those of second layers."""
    size = second[0].itemsize
    row, branch = 2 * WIDTH * size, WIDTH * size
    to_gate, gate = to_branches + branch, activations + branch
    add_product(to_hidden, 2 * WIDTH, to_branches, 2 * WIDTH, second[0], n_rows, WIDTH, eps)
    add_product(to_hidden + branch, 2 * WIDTH, to_gate, 2 * WIDTH, second[2], n_rows, WIDTH, eps)
    for i in range(n_rows):
        silu_backward(activations + i * row, to_hidden + i * row, hidden + i * row, eps)
    _add_weight_gradient(to_second[0], to_branches, activations, 2 * WIDTH, n_rows, eps)
    _add_weight_gradient(to_second[2], to_gate, gate, 2 * WIDTH, n_rows, eps)
    _add_bias_gradient(to_second[1], to_branches, n_rows, eps)
    _add_bias_gradient(to_second[3], to_gate, n_rows, eps)


@compiled
def _add_first_gradients(  # noqa: PLR0917
    to_hidden: int,
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
        m, at = start + i, to_hidden + i * row
        add(address(to_pairs) + index[0, m] * row, at, 2 * WIDTH, eps)
        add(address(to_pairs) + index[1, m] * row, at, 2 * WIDTH, eps)
        add(address(to_singles) + index[2, m] * row, at, 2 * WIDTH, eps)
        if len(to_changes) > 0 and index[3, m] >= 0:
            add(address(to_changes) + index[3, m] * row, at, 2 * WIDTH, eps)
    if len(first[0]) > 0:
        to_rows = address(to_features) + place
        add_product(to_rows, WIDTH, to_hidden, 2 * WIDTH, first[0], n_rows, 2 * WIDTH, eps)
    rows = address(features) + place
    _add_weight_gradient(to_first[0], to_hidden, rows, WIDTH, n_rows, eps)
    _add_bias_gradient(to_first[1], to_hidden, n_rows, eps)


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

    Arguments are those of `message_kernel`. ``gradients`` are to be those of tables, features,
    first and second layers and norms. Parameters whose gradients are not needed are empty in them.
    """
    to_tables, to_features, to_first, to_second, to_norms = gradients
    scales = (joined(norms), np.zeros((4, WIDTH), norms[0].dtype))
    factors = (tables[3], to_tables[3])
    row = 2 * WIDTH * scales[0].itemsize
    activations, branches, hiddens = np.empty((3, BLOCK, 2 * WIDTH), scales[0].dtype)
    begin, end = span
    for start in range(begin, end, BLOCK):
        n_rows, place = min(BLOCK, end - start), start - begin
        to_branches = to_hidden = address(branches)
        _write_gate_gradients(
            to_branches, start, place, n_rows, index, counts, factors, scales, saved, gradient
        )
        if len(second[0]) > 0:
            hiddens[:] = 0
            to_hidden, hidden = address(hiddens), address(saved[0]) + place * row
            _write_second_gradients(
                to_hidden,
                address(activations),
                to_branches,
                hidden,
                n_rows,
                second,
                to_second,
                eps,
            )
        _add_first_gradients(
            to_hidden, start, n_rows, index, features, first, to_tables, to_features, to_first, eps
        )
    for part in range(4):
        to_norms[part][:] += scales[1][part]
