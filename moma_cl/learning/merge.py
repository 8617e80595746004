"""Merging: the weighted average of parameter vectors, of which only the result is held whole."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moma_cl.arraytypes import ParameterVector
from moma_store.errors import InvalidInputError

_BLOCK = 1 << 14  # parameters summed at a time, in double precision; stays in the cache


def merge(
    size: int, weighted: Iterable[tuple[float, Iterable[ParameterVector]]]
) -> ParameterVector:
    """Average parameter vectors by their weights, in the order given.

    One vector at weight one comes back bit for bit. Callers give the vectors in the order of
    their digests, so that equal compositions round equally.

    Parameters
    ----------
    size
        Length of each vector.
    weighted
        Weights that sum to one, each with the pieces of a vector, shapes ``(n,)`` that add up to
        ``(size,)``. A generator of pieces may raise at its end: the result is then lost.

    Returns
    -------
    ParameterVector
        The average, shape ``(size,)``.

    Raises
    ------
    InvalidInputError
        If there is nothing to merge, a length differs, or weights do not sum to one.

    References
    ----------
    arXiv 2502.15483, equation 4.
    """
    result: ParameterVector = np.zeros(size, dtype=np.float32)
    total, n_merged = 0.0, 0
    for weight, pieces in weighted:
        stop = 0
        for piece in pieces:
            start, stop = stop, stop + len(piece)
            if stop <= size:
                _add(result[start:stop], piece, weight)
        if stop != size:
            raise InvalidInputError(
                f"cannot merge a vector of {stop:,} parameters with one of {size:,}: the modules"
                " come from different backbones"
            )
        total += weight
        n_merged += 1
    if n_merged == 0:
        raise InvalidInputError("nothing to merge: the composition has no module")
    if abs(total - 1.0) > 1e-9:
        raise InvalidInputError(f"weights of {n_merged} modules sum to {total!r}; expected 1")
    return result


def _add(part: ParameterVector, piece: ParameterVector, weight: float) -> None:
    if weight == 1.0:
        # The only one: bit for bit, negative zeros and NaN included.
        part[:] = piece
        return
    for start in range(0, len(part), _BLOCK):
        block = slice(start, start + _BLOCK)
        part[block] = part[block] + weight * piece[block].astype(np.float64)
