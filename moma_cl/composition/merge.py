"""Merging: the weighted average of parameter vectors, one vector in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from moma_store.errors import InvalidInputError

ParameterVector = NDArray[np.float32]

CHUNK = 1 << 20  # parameters added at a time, in double precision, then rounded


def merge(weighted: Iterable[tuple[float, ParameterVector]]) -> ParameterVector:
    """Average parameter vectors by their weights, in the order given.

    One vector at weight one comes back bit for bit. Callers give the vectors in the order of
    their digests, so that equal compositions round equally.

    Parameters
    ----------
    weighted
        Weights that sum to one, each with a parameter vector of shape ``(n_parameters,)``. May
        be a generator: a vector is dropped before the next is asked for.

    Returns
    -------
    ParameterVector
        The average, shape ``(n_parameters,)``.

    Raises
    ------
    InvalidInputError
        If there is nothing to merge, lengths differ, or weights do not sum to one.

    References
    ----------
    arXiv 2502.15483, equation 4.
    """
    total, n_merged = 0.0, 0
    result: ParameterVector | None = None
    for weight, vector in weighted:
        total += weight
        n_merged += 1
        if result is None:
            result = vector.copy() if weight == 1.0 else _scaled(vector, weight)
            continue
        if len(vector) != len(result):
            raise InvalidInputError(
                f"cannot merge a vector of {len(vector):,} parameters with one of "
                f"{len(result):,}: the modules come from different backbones"
            )
        _add(result, vector, weight)
    if result is None:
        raise InvalidInputError("nothing to merge: the composition has no module")
    if abs(total - 1.0) > 1e-9:
        raise InvalidInputError(f"weights of {n_merged} modules sum to {total!r}; expected 1")
    return result


def _scaled(vector: ParameterVector, weight: float) -> ParameterVector:
    result = np.zeros(len(vector), dtype=np.float32)
    _add(result, vector, weight)
    return result


def _add(result: ParameterVector, vector: ParameterVector, weight: float) -> None:
    for start in range(0, len(result), CHUNK):
        part = slice(start, start + CHUNK)
        result[part] = result[part] + weight * vector[part].astype(np.float64)
