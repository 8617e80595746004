"""Reading numbers out of the arrays of a blob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray

StoredArrays: TypeAlias = Mapping[str, NDArray[np.generic]]


def floats(arrays: StoredArrays, name: str) -> FloatArray:
    """Give an array in double precision, in which all is computed off the encoders."""
    return arrays[name].astype(np.float64)


def integers(arrays: StoredArrays, name: str) -> IntArray:
    """Give an array of row numbers or counts."""
    return arrays[name].astype(np.int64)
