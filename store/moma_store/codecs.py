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
_ALL = np.uint32(0xFFFF_FFFF)


def to_ordered(values: Float32Array) -> Uint32Array:
    """Map floats to integers whose order is theirs.

    Parameters
    ----------
    values
        Any bit patterns, shape ``(n,)``, contiguous.

    Returns
    -------
    Uint32Array
        All bits inverted where the sign bit is set, else the sign bit set, shape ``(n,)``.
    """
    bits: Uint32Array = values.view("<u4")
    return bits ^ np.where(bits & _SIGN != 0, _ALL, _SIGN)


def from_ordered(ordered: Uint32Array) -> Float32Array:
    """Invert `to_ordered`.

    Parameters
    ----------
    ordered
        What `to_ordered` gives, shape ``(n,)``.

    Returns
    -------
    Float32Array
        The floats, bit for bit, shape ``(n,)``.
    """
    bits = ordered ^ np.where(ordered & _SIGN != 0, _SIGN, _ALL)
    return bits.view("<f4")


def encode_difference(values: Float32Array, base: Float32Array) -> Uint8Array:
    """Code one chunk as the difference from another.

    Parameters
    ----------
    values
        The chunk, shape ``(n,)``.
    base
        What it is close to, shape ``(n,)``.

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
    difference = to_ordered(values) - to_ordered(base)
    signs = (difference.view("<i4") >> 31).view("<u4")
    zigzag = np.ascontiguousarray((difference << np.uint32(1)) ^ signs, dtype="<u4")
    return np.ascontiguousarray(zigzag.view(np.uint8).reshape(-1, 4).T)


def decode_difference(planes: Uint8Array, base: Float32Array) -> Float32Array:
    """Invert `encode_difference`.

    Parameters
    ----------
    planes
        Byte planes, shape ``(4, n)``.
    base
        The chunk they differ from, shape ``(n,)``.

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
    zigzag = np.ascontiguousarray(planes.T).view("<u4").reshape(-1)
    difference = (zigzag >> np.uint32(1)) ^ (np.uint32(0) - (zigzag & np.uint32(1)))
    return from_ordered(difference + to_ordered(base))
