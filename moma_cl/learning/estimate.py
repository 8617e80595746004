"""Estimates: leave-one-out prediction of a task's rows from their neighbours in an embedding.

The better a module's embedding space predicts each row of a task from the other rows, the more
useful the module is to the task (MoMa, arXiv 2502.15483, section 2.2).
"""

from __future__ import annotations

import math

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.learning.leave_one_out import Groups, left_out_errors, repeated_rows
from moma_cl.recipe import EstimateSettings

RIDGES = 10.0 ** np.arange(-6.0, 4.0)
MORE = 4  # strands and entries beyond the k that are needed, since some may tie
# Similarities held at once: they fit into a cache, unless that would be too few rows for BLAS.
BLOCK_ENTRIES = 250_000
BLOCK_ROWS = 128


def leave_one_out_predictions(
    embeddings: FloatArray, targets: FloatArray, groups: Groups, settings: EstimateSettings
) -> FloatArray:
    """Predict each row from the others with the estimator of the recipe.

    Parameters
    ----------
    embeddings
        One row each, shape ``(n_rows, n_features)``.
    targets
        Normalised targets, shape ``(n_rows,)``, dimensionless.
    groups
        Rows of one number are the same structure and do not predict each other, shape
        ``(n_rows,)``.
    settings
        Estimator, ``k``, temperature and the distance below which a row is a duplicate.

    Returns
    -------
    FloatArray
        Leave-one-out predictions, shape ``(n_rows,)``, dimensionless; NaN where no other rows can
        predict one.
    """
    if settings.estimator == "knn":
        return knn_leave_one_out(embeddings, targets, groups, settings)
    return ridge_leave_one_out(embeddings, targets, groups)


def knn_leave_one_out(
    embeddings: FloatArray, targets: FloatArray, groups: Groups, settings: EstimateSettings
) -> FloatArray:
    """Predict each row as the weighted mean of its k nearest other rows, as the paper does.

    Similarity is the cosine; weights are ``exp(s / temperature)``, normalised over the k nearest
    (arXiv 2502.15483, equation 2). Near-duplicates of a row are not its neighbours; equal
    similarities are ordered by row. ``k`` shrinks where there are fewer than ``k + 1`` rows. A row
    without any neighbour is predicted NaN.
    """
    n_rows = len(embeddings)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norms > 0, norms, 1.0)
    k = min(settings.k, n_rows - 1)
    predictions = np.full(n_rows, np.nan)
    if k < 1:
        return predictions
    repeated = repeated_rows(groups)
    group_of = np.full(n_rows, -1)
    for number, alike in enumerate(repeated):
        group_of[alike] = number
    # as many strands as the strands that are looked through have entries
    n_strands = max(k, math.isqrt(n_rows * (k + MORE)))
    width = -(-n_rows // n_strands) * n_strands
    block = max(BLOCK_ROWS, BLOCK_ENTRIES // width)
    buffer = np.empty((min(block, n_rows), width))
    for start in range(0, n_rows, block):
        rows = np.arange(start, min(start + block, n_rows))
        similarity = buffer[: len(rows)]
        np.matmul(unit[start : start + block], unit.T, out=similarity[:, :n_rows])
        similarity[:, n_rows:] = -np.inf
        similarity[rows - start, rows] = -np.inf
        for row in np.flatnonzero(group_of[rows] >= 0):
            similarity[row, repeated[group_of[start + row]]] = -np.inf
        nearest, near = _largest(similarity, k, n_strands, below=1.0 - settings.duplicate_distance)
        weights = _softmax(near / settings.temperature)
        predictions[rows] = (weights * targets[nearest % n_rows]).sum(axis=1)
    return predictions


def _largest(
    similarity: FloatArray, k: int, n_strands: int, *, below: float
) -> tuple[IntArray, FloatArray]:
    """Find the k largest entries of each row up to a bound, equal ones in the order of columns.

    Columns are divided into strands, every n-th of them in one: none of the k largest entries is in
    a strand whose own largest is not among the k largest of those. What is above the bound is
    overwritten.
    """
    n_rows, width = similarity.shape
    strands = similarity.reshape(n_rows, width // n_strands, n_strands)
    largest = strands.max(axis=1)
    row, strand = np.nonzero(largest > below)
    if len(row):
        entries = strands[row, :, strand]
        entries[entries > below] = -np.inf
        strands[row, :, strand] = entries
        largest[row, strand] = entries.max(axis=1)
    n_kept = min(n_strands, k + MORE)
    kept = np.argpartition(largest, n_strands - n_kept, axis=1)[:, n_strands - n_kept :]
    columns = (kept[:, :, None] + np.arange(0, width, n_strands)).reshape(n_rows, -1)
    entries = similarity.ravel().take(columns + width * np.arange(n_rows)[:, None])
    n_chosen = min(columns.shape[1], k + MORE)
    chosen = np.argpartition(entries, -n_chosen, axis=1)[:, -n_chosen:]
    entries = np.take_along_axis(entries, chosen, axis=1)
    near, nearest = _ordered(entries, np.take_along_axis(columns, chosen, axis=1))
    last = near[:, k - 1]
    # where entries that equal the last one may have been left out
    tied = (near[:, -1] == last) & (n_chosen < width)
    tied |= (largest >= last[:, None]).sum(axis=1) > n_kept
    near, nearest = near[:, :k], nearest[:, :k]
    for index in np.flatnonzero(tied):
        candidates = np.flatnonzero(similarity[index] >= last[index])
        first = candidates[np.argsort(-similarity[index, candidates], kind="stable")[:k]]
        nearest[index], near[index] = first, similarity[index, first]
    return nearest, near


def _ordered(entries: FloatArray, columns: IntArray) -> tuple[FloatArray, IntArray]:
    """Sort each row, the largest first, equal entries in the order of columns."""
    order = np.lexsort((columns, -entries), axis=1)
    return np.take_along_axis(entries, order, axis=1), np.take_along_axis(columns, order, axis=1)


def ridge_leave_one_out(embeddings: FloatArray, targets: FloatArray, groups: Groups) -> FloatArray:
    """Predict each row by the ridge regression on all rows of other groups, in closed form.

    Features are standardised, the intercept is not penalised, and the ridge is the one of a grid
    with the smallest error. With fewer than three groups all predictions are NaN.
    """
    n_rows = len(embeddings)
    if len(np.unique(groups)) < 3:
        return np.full(n_rows, np.nan)
    features = embeddings - embeddings.mean(axis=0)
    spread = features.std(axis=0)
    varies = spread > 1e-6 * max(1.0, float(np.abs(embeddings).max()))
    features = features[:, varies] / spread[varies]
    vectors, squares = _left_spectrum(features / np.sqrt(max(1, features.shape[1])))
    centred = targets - targets.mean()
    projected, squared = vectors.T @ centred, vectors**2
    repeated = repeated_rows(groups)
    best, best_error = np.full(n_rows, np.nan), np.inf
    for ridge in RIDGES * n_rows * 1e-3:
        shrink = squares / (squares + ridge)

        def block(rows: IntArray, shrink: FloatArray = shrink) -> FloatArray:
            hat = (vectors[rows] * shrink) @ vectors[rows].T + 1.0 / n_rows
            return np.eye(len(rows)) - hat

        residuals = centred - vectors @ (shrink * projected)
        leverage = squared @ shrink + 1.0 / n_rows
        errors = left_out_errors(residuals, np.maximum(1.0 - leverage, 1e-9), block, repeated)
        error = float(np.mean(errors**2))
        if error < best_error:
            best, best_error = targets - errors, error
    return best


def _left_spectrum(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left singular vectors and squared singular values, through the smaller Gram matrix."""
    n_rows, n_features = features.shape
    if n_rows <= n_features:
        squares, vectors = np.linalg.eigh(features @ features.T)
        return vectors, np.maximum(squares, 0.0)
    squares, right = np.linalg.eigh(features.T @ features)
    keep = squares > 1e-12 * max(float(squares[-1]) if n_features else 0.0, 1e-300)
    return features @ (right[:, keep] / np.sqrt(squares[keep])), squares[keep]


def _softmax(logits: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = shifted.sum(axis=1, keepdims=True)
    return np.asarray(shifted / total)


def winsorised(targets: FloatArray, share: float) -> FloatArray:
    """Pull the targets, shape ``(n_rows,)``, beyond two quantiles in to them.

    ``share`` is the share of the rows beyond each quantile; the unit stays.
    """
    low, high = np.quantile(targets, [share, 1.0 - share])
    return np.clip(targets, low, high)
