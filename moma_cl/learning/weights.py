"""Weights of a composition: a convex program over the modules' leave-one-out predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray

GAP = 1e-10  # of var(y): asked of the solver, a tenth of what is promised
MAX_EXCHANGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The solution of the convex program."""

    values: FloatArray  # one weight per column, shape (n_modules,), none below zero, their sum one
    objective: float  # mean squared error of the weighted prediction, in var(y)
    duality_gap: float  # bound of the distance to the optimum before pruning, in var(y)


def solve_weights(predictions: FloatArray, targets: FloatArray, *, prune: float) -> Weights:
    """Minimise ``(1/m) ‖Ŷw − y‖²`` over the simplex.

    Clarabel's interior point brings the iterate close; exchanges on the active set make it exact,
    also where modules predict the same.

    Parameters
    ----------
    predictions
        Leave-one-out predictions, a column per module, shape ``(n_rows, n_modules)``.
    targets
        Targets, shape ``(n_rows,)``, in the same unit.
    prune
        Small weights are dropped while the objective rises by no more than this, in var(y).

    Returns
    -------
    Weights
        The weights, pruned.

    References
    ----------
    arXiv 2502.15483, equation 3; the duality gap is that of Jaggi, ICML 2013, equation 2.
    """
    variance = float(np.var(targets)) or 1.0
    centre = float(np.mean(targets))  # Σw = 1, so a shift changes nothing but the rounding
    scaled = (predictions - centre) / np.sqrt(variance)
    goal = (targets - centre) / np.sqrt(variance)
    # of residuals, not of predictions: near-perfect columns would cancel otherwise
    residuals = scaled - goal[:, None]
    gram = residuals.T @ residuals / len(targets)
    values = _exchange(gram, _interior_point(gram))
    gap = duality_gap(gram, values)
    values = _pruned(gram, values, prune)
    return Weights(values=values, objective=float(values @ gram @ values), duality_gap=gap)


def duality_gap(gram: FloatArray, values: FloatArray) -> float:
    """Bound how far ``wᵀGw`` is above its minimum over the simplex, in the unit of G.

    G is the Gram matrix of the columns' residuals, shape ``(n_modules, n_modules)``; the weights w,
    shape ``(n_modules,)``, lie on the simplex.
    """
    gradient = 2.0 * gram @ values
    return float(values @ gradient - gradient.min())


def _interior_point(gram: FloatArray) -> FloatArray:
    import clarabel
    from scipy import sparse

    n_modules = len(gram)
    constraints = sparse.vstack(
        [sparse.csc_matrix(np.ones((1, n_modules))), -sparse.eye(n_modules, format="csc")],
        format="csc",
    )
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(2.0 * gram)),
        np.zeros(n_modules),
        constraints,
        np.concatenate([[1.0], np.zeros(n_modules)]),
        [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(n_modules)],
        settings,
    )
    values = np.asarray(solver.solve().x, dtype=np.float64)
    if not np.all(np.isfinite(values)) or values.max(initial=0.0) <= 0.0:
        return np.full(n_modules, 1.0 / n_modules)
    return _on_simplex(np.where(values > 1e-7, values, 0.0))


def _exchange(gram: FloatArray, values: FloatArray) -> FloatArray:
    """Move to the optimum of the support, add the column that pays most, until none does."""
    for _ in range(MAX_EXCHANGES):
        values = _optimum_on_support(gram, values)
        gradient = 2.0 * gram @ values
        best = int(np.argmin(gradient))
        if values @ gradient - gradient[best] <= GAP:
            break
        direction = -values.copy()
        direction[best] += 1.0
        curvature = float(direction @ gram @ direction)
        slope = float(gradient @ direction)
        step = min(1.0, -slope / (2.0 * curvature)) if curvature > 0 else 1.0
        values = _on_simplex(values + step * direction)
    return values


def _optimum_on_support(gram: FloatArray, values: FloatArray) -> FloatArray:
    for _ in range(len(values)):
        support = np.flatnonzero(values > 0)
        target = _equality_optimum(gram[np.ix_(support, support)])
        step = target - values[support]
        shrinking = step < 0
        if np.any(target < 0):
            room = values[support][shrinking] / -step[shrinking]
            length = min(1.0, float(room.min()))
        else:
            length = 1.0
        moved = np.zeros_like(values)
        moved[support] = np.maximum(values[support] + length * step, 0.0)
        if length < 1.0:  # the first to reach zero leaves, exactly
            moved[support[shrinking][int(np.argmin(room))]] = 0.0
        moved = _on_simplex(moved)
        if moved @ gram @ moved > values @ gram @ values:
            return values  # rounding: there is nothing left to gain
        values = moved
        if length >= 1.0:
            return values
    return values


def _equality_optimum(gram: FloatArray) -> FloatArray:
    """Minimise ``wᵀGw`` with ``Σw = 1`` only; the smallest such weights where many do."""
    size = len(gram)
    system = np.ones((size + 1, size + 1))
    system[:size, :size] = 2.0 * gram
    system[size, size] = 0.0
    scale = max(float(np.abs(gram).max()), np.finfo(float).tiny)
    system[:size, :size] /= scale
    right = np.zeros(size + 1)
    right[size] = 1.0
    return np.asarray(np.linalg.lstsq(system, right, rcond=1e-14)[0][:size])


def _pruned(gram: FloatArray, values: FloatArray, allowed: float) -> FloatArray:
    limit = float(values @ gram @ values) + allowed
    for column in np.argsort(values, kind="stable"):
        if values[column] == 0:
            continue
        fewer = values.copy()
        fewer[column] = 0.0
        if fewer.sum() <= 0:
            break
        fewer = _on_simplex(fewer)
        if fewer @ gram @ fewer > limit:
            break
        values = fewer
    return values


def _on_simplex(values: FloatArray) -> FloatArray:
    return np.asarray(values / values.sum())
