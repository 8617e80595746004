"""Types of arrays, under the names that all of moma-cl gives them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
ParameterVector: TypeAlias = NDArray[np.float32]
"""All parameters of an encoder or an adapter, one after the other, shape ``(n_parameters,)``."""

Arrays: TypeAlias = dict[str, NDArray[np.generic]]
"""Arrays by name, as a blob holds them."""
