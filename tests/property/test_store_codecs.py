from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moma_store.codecs import decode_difference, encode_difference, from_ordered, to_ordered
from moma_store.errors import IntegrityError, InvalidInputError

# Zeros, subnormals, ones, the largest numbers, infinities, quiet and signalling NaN; both signs.
SPECIAL = [
    0,
    1,
    0x7FFFFF,
    0x800000,
    0x3F800000,
    0x7F7FFFFF,
    0x7F800000,
    0x7F800001,
    0x7FC00001,
    0x7FFFFFFF,
]
BITS = st.integers(0, 2**32 - 1) | st.sampled_from(
    [s | bits for bits in SPECIAL for s in (0, 1 << 31)]
)


def floats(bits: list[int]) -> np.ndarray:
    return np.array(bits, dtype="<u4").view("<f4")


PAIRS = st.lists(st.tuples(BITS, BITS), max_size=40).map(
    lambda pairs: (floats([a for a, _ in pairs]), floats([b for _, b in pairs]))
)


@given(PAIRS)
def test_difference_is_exact_on_all_bit_patterns(pair):
    values, base = pair
    planes = encode_difference(values, base)
    assert planes.shape == (4, len(values))
    assert decode_difference(planes, base).tobytes() == values.tobytes()


@given(arrays("<f4", 30, elements=st.floats(width=32, allow_nan=False)))
def test_order_of_integers_is_that_of_floats(values):
    ordered = to_ordered(values)
    assert from_ordered(ordered).tobytes() == values.tobytes()
    assert list(values[np.argsort(ordered)]) == sorted(values)


@given(PAIRS)
def test_equal_values_give_zeros(pair):
    values, _ = pair
    assert not encode_difference(values, values.copy()).any()


def test_planes_follow_the_documented_formula():
    values, base = floats([0x3F800003, 0x3F7FFFFF]), floats([0x3F800000, 0x3F800000])
    # Differences +3 and -1 zigzag to 6 and 1; the least significant plane comes first.
    assert encode_difference(values, base).tolist() == [[6, 1], [0, 0], [0, 0], [0, 0]]
    across_zero = encode_difference(floats([0x80000000]), floats([0]))
    assert across_zero.tolist() == [[1], [0], [0], [0]]


def test_shapes_must_agree():
    with pytest.raises(InvalidInputError):
        encode_difference(floats([1, 2]), floats([1]))
    with pytest.raises(IntegrityError):
        decode_difference(np.zeros((4, 2), "u1"), floats([1]))
