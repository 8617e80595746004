"""Lossless coding of float32 parameters as the difference from a base.

Fine-tuning moves most parameters by a few units in the last places. Floats are mapped to integers
of the same order, so that a small move becomes a small difference whatever the exponent; zigzag
makes it small in magnitude and the byte planes put the zero bytes of a chunk side by side, where a
fast compressor finds them. Only bit patterns are handled, so NaN payloads, infinities, subnormals
and negative zero survive.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moma_store.errors import IntegrityError, InvalidInputError

Float32Array = NDArray[np.float32]
Uint32Array = NDArray[np.uint32]
Uint8Array = NDArray[np.uint8]

_SIGN = np.uint32(0x8000_0000)
# Elements handled at a time: what is written in between then stays in the processor's cache.
_BLOCK = 1 << 16


def to_ordered(values: Float32Array, *, out: Uint32Array | None = None) -> Uint32Array:
    """Map floats to integers whose order is theirs.

    Parameters
    ----------
    values
        Any bit patterns, shape ``(n,)``, contiguous.
    out
        Where to put the integers, shape ``(n,)``, contiguous; a new array if None.

    Returns
    -------
    Uint32Array
        All bits inverted where the sign bit is set, else the sign bit set, shape ``(n,)``.
    """
    bits: Uint32Array = values.view("<u4")
    mask = np.empty(values.shape, dtype="<u4") if out is None else out
    # The shift is arithmetic: all bits of the mask are set where the sign is, its sign bit always.
    np.right_shift(bits.view("<i4"), 31, out=mask.view("<i4"))
    mask |= _SIGN
    mask ^= bits
    return mask


def from_ordered(ordered: Uint32Array, *, out: Float32Array | None = None) -> Float32Array:
    """Invert `to_ordered`.

    Parameters
    ----------
    ordered
        What `to_ordered` gives, shape ``(n,)``.
    out
        Where to put the floats, shape ``(n,)``, contiguous; a new array if None.

    Returns
    -------
    Float32Array
        The floats, bit for bit, shape ``(n,)``.
    """
    values = np.empty(ordered.shape, dtype="<f4") if out is None else out
    mask = values.view("<u4")
    np.right_shift(ordered.view("<i4"), 31, out=mask.view("<i4"))
    np.invert(mask, out=mask)
    mask |= _SIGN
    mask ^= ordered
    return values


def encode_difference(values: Float32Array, base: Float32Array) -> Uint8Array:
    """Code one chunk as the difference from another.

    Parameters
    ----------
    values
        The chunk, shape ``(n,)``, contiguous.
    base
        What it is close to, shape ``(n,)``, contiguous.

    Returns
    -------
    Uint8Array
        Byte planes of the zigzagged differences modulo 2³², least significant first,
        shape ``(4, n)``.

    Raises
    ------
    InvalidInputError
        If the shapes differ.
    """
    if values.shape != base.shape:
        raise InvalidInputError(
            f"the base has shape {base.shape}, expected that of the values, {values.shape}"
        )
    planes = np.empty((4, len(values)), dtype=np.uint8)
    scratch = np.empty((2, min(_BLOCK, len(values))), dtype="<u4")
    for start in range(0, len(values), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(values)))
        zigzag, other = scratch[:, : block.stop - start]
        to_ordered(values[block], out=zigzag)
        zigzag -= to_ordered(base[block], out=other)
        np.right_shift(zigzag.view("<i4"), 31, out=other.view("<i4"))
        zigzag <<= np.uint32(1)
        zigzag ^= other
        for plane in planes:
            plane[block] = zigzag  # its lowest byte; faster than every fourth byte of a view
            zigzag >>= np.uint32(8)
    return planes


def decode_difference(
    planes: Uint8Array, base: Float32Array, *, out: Float32Array | None = None
) -> Float32Array:
    """Invert `encode_difference`.

    Parameters
    ----------
    planes
        Byte planes, shape ``(4, n)``.
    base
        The chunk they differ from, shape ``(n,)``, contiguous.
    out
        Where to put the values, shape ``(n,)``, contiguous; a new array if None.

    Returns
    -------
    Float32Array
        The values, bit for bit, shape ``(n,)``.

    Raises
    ------
    IntegrityError
        If the shapes do not belong together.
    """
    if planes.shape != (4, *base.shape):
        raise IntegrityError(
            f"byte planes have shape {planes.shape}, expected {(4, *base.shape)} as the base has"
        )
    values: Float32Array = np.empty(base.shape, dtype="<f4") if out is None else out
    scratch = np.empty((2, min(_BLOCK, len(base))), dtype="<u4")
    for start in range(0, len(base), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(base)))
        zigzag, other = scratch[:, : block.stop - start]
        for place, plane in enumerate(planes):
            zigzag.view(np.uint8)[place::4] = plane[block]
        np.bitwise_and(zigzag, np.uint32(1), out=other)
        np.negative(other, out=other)
        zigzag >>= np.uint32(1)
        zigzag ^= other
        zigzag += to_ordered(base[block], out=other)
        from_ordered(zigzag, out=values[block])
    return values
