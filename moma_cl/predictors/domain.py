"""The domain of a predictor: how far a structure lies from those it has learned from.

The rows that a predictor has learned from are called its known rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.learning.embedding import last_extremes
from moma_cl.learning.standardisation import centre_and_spread

BLOCK_ENTRIES = 4_000_000  # distances held at once, so that memory is linear in the rows


class Applicability(StrEnum):
    """Whether a structure is like those a predictor has learned from."""

    INSIDE = "inside"
    EDGE = "edge"
    OUTSIDE = "outside"


# The extremes of a block over the atoms, summed over features, tell unlike structures best: of
# perovskites, 95 % are at the edge or outside of a domain of layered crystals.
METRIC = "cityblock"
INSIDE = 0.85  # quantile of the known rows' own distances up to which a structure is inside
OUTSIDE = 0.975  # quantile beyond which it is outside

SINGLE = np.dtype(np.float32)
HALF = np.dtype(np.float16)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Neighbours:
    """The known rows nearest to some structures."""

    distances: FloatArray  # ascending, shape (n_rows, n_neighbours), in units of the reach
    indices: IntArray  # places among the known rows, same shape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Domain:
    """The known rows as points in the embedding of the composed encoder."""

    centre: FloatArray  # standardisation of the points, shape (n_features,)
    spread: FloatArray  # likewise
    points: FloatArray  # standardised points of the known rows, shape (n_known, n_features)
    reach: float  # the mean distance to its neighbours within which a structure is inside
    limit: float  # multiple of the reach beyond which a structure is outside
    neighbours: int  # how many neighbours the distance is averaged over
    elements: tuple[int, ...]  # atomic numbers that occur in known rows, ascending
    precision: np.dtype[Any] = SINGLE  # of the points as they are stored

    @classmethod
    def fit(
        cls,
        points: FloatArray,
        neighbours: int,
        *,
        elements: tuple[int, ...],
        precision: np.dtype[Any] = SINGLE,
    ) -> Domain:
        """Measure how far known rows lie from each other.

        ``points`` are what :func:`points_of` gives for them. Distances are averaged over a number
        of neighbours, or over all where there are fewer. ``elements`` are those of the rows. The
        points are stored in ``precision``, single or half.
        """
        centre, spread = centre_and_spread(points)
        # rounded as it is stored, so that a reloaded domain answers with the same bits
        most = float(np.finfo(precision).max)
        standard = np.clip((points - centre) / spread, -most, most)
        standard = standard.astype(precision).astype(np.float64)
        domain = cls(
            centre=centre,
            spread=spread,
            points=standard,
            reach=1.0,
            limit=1.0,
            neighbours=max(1, min(neighbours, len(points) - 1)),
            elements=elements,
            precision=precision,
        )
        return domain._with_reach() if len(points) > 1 else domain

    def _with_reach(self) -> Domain:
        own = self.among_known(self.neighbours).distances.mean(axis=1)
        reach = float(np.quantile(own, INSIDE)) or 1.0
        limit = max(1.0, float(np.quantile(own, OUTSIDE)) / reach)
        return replace(self, reach=reach, limit=limit)

    def nearest(self, points: FloatArray, count: int) -> Neighbours:
        """Find the known rows nearest to structures, ``count`` or all, the nearest first."""
        return self._nearest((points - self.centre) / self.spread, count, own=None)

    def among_known(self, count: int) -> Neighbours:
        """Find for every known row the nearest others, ``count`` or all, the nearest first."""
        return self._nearest(self.points, count, own=np.arange(len(self.points)))

    def _nearest(self, rows: FloatArray, count: int, *, own: IntArray | None) -> Neighbours:
        from scipy.spatial.distance import cdist

        n_known = len(self.points)
        count = max(1, min(count, n_known - (own is not None)))
        distances = np.zeros((len(rows), count))
        indices = np.zeros((len(rows), count), dtype=np.int64)
        size = max(1, BLOCK_ENTRIES // n_known)
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            all_distances = cdist(rows[block], self.points, METRIC)
            if own is not None:
                all_distances[np.arange(len(all_distances)), own[block]] = np.inf
            nearest = np.argpartition(all_distances, count - 1, axis=1)[:, :count]
            near = np.take_along_axis(all_distances, nearest, axis=1)
            order = np.argsort(near, axis=1, kind="stable")
            indices[block] = np.take_along_axis(nearest, order, axis=1)
            distances[block] = np.take_along_axis(all_distances, indices[block], axis=1)
        return Neighbours(distances=distances / self.reach, indices=indices)

    def strangers(self, atomic_numbers: Iterable[int]) -> tuple[int, ...]:
        """List the elements of a structure that occur in no known row, ascending."""
        return tuple(sorted(set(atomic_numbers).difference(self.elements)))

    def applicability(self, distance: float, *, strangers: bool = False) -> Applicability:
        """Put a distance in words.

        Parameters
        ----------
        distance
            Mean distance to the nearest known rows, in units of the reach.
        strangers
            Whether the structure has elements that occur in no known row, or is of a kind that no
            known row is: a molecule.

        Returns
        -------
        Applicability
            Inside, at the edge or outside; with strangers always outside.
        """
        if strangers or distance > self.limit:
            return Applicability.OUTSIDE
        return Applicability.INSIDE if distance <= 1.0 else Applicability.EDGE


def points_of(embeddings: NDArray[np.floating], feature_dim: int) -> FloatArray:
    """Take the points that a domain compares from embeddings, shape ``(n_structures, n_features)``.

    They have shape ``(n_structures, 2 * feature_dim)``.
    """
    return last_extremes(embeddings, feature_dim)
