"""Leave-one-out errors in closed form; rows of the same structure are left out together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray

Groups = NDArray[np.integer]


def left_out_errors(
    solution: FloatArray,
    diagonal: FloatArray,
    block: Callable[[IntArray], FloatArray],
    repeated: Iterable[IntArray],
) -> FloatArray:
    """Find the error for each row of a linear fit to the rows of all other groups.

    Both linear and kernel ridge regression have a matrix ``M`` for which the errors of the rows
    ``G`` of one group, left out together, are ``(M_GG)⁻¹ (M y)_G``. For linear ridge regression
    ``M`` is the identity less the hat matrix, for kernel ridge regression the inverse of the
    regularised kernel.

    Parameters
    ----------
    solution
        ``M y``, shape ``(n_rows,)``.
    diagonal
        Diagonal of ``M``, shape ``(n_rows,)``.
    block
        Gives ``M_GG`` for row indices ``G``.
    repeated
        Groups of more than one row, as :func:`repeated_rows` lists them.

    Returns
    -------
    FloatArray
        Target less prediction, shape ``(n_rows,)``, in the unit of ``y``.

    References
    ----------
    Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, equation 7.64, for groups
    of one row.
    """
    errors = solution / diagonal
    for rows in repeated:
        errors[rows] = np.linalg.lstsq(block(rows), solution[rows])[0]
    return np.asarray(errors)


def repeated_rows(groups: Groups) -> list[IntArray]:
    """List the rows of every group that has more than one, group by group.

    ``groups`` has the group of each row, shape ``(n_rows,)``.
    """
    order = np.argsort(groups, kind="stable")
    changes = np.flatnonzero(np.diff(groups[order])) + 1
    bounds = np.concatenate([[0], changes, [len(order)]])
    several = np.flatnonzero(np.diff(bounds) > 1)
    return [order[bounds[i] : bounds[i + 1]] for i in several]
