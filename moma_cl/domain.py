"""The domain of a predictor: how far a structure lies from those it has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from moma_cl.standardisation import centre_and_spread

FloatArray = NDArray[np.float64]

INSIDE_QUANTILE = 0.95  # of the known rows' own distances to each other
EDGE_FACTOR = 1.5  # beyond this multiple of that quantile a structure is outside


class Applicability(StrEnum):
    """Whether a structure is like those a predictor knows."""

    INSIDE = "inside"
    EDGE = "edge"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Domain:
    """The known structures as points in the embedding of the composed encoder.

    Attributes
    ----------
    centre, spread
        Standardisation of the embeddings, shape ``(n_features,)``.
    known
        Standardised embeddings of the rows learned from, shape ``(n_known, n_features)``.
    reach
        The distance to its neighbours within which 95 % of the known rows lie.
    neighbours
        How many neighbours the distance is averaged over.
    """

    centre: FloatArray
    spread: FloatArray
    known: FloatArray
    reach: float
    neighbours: int

    @classmethod
    def fit(cls, embeddings: FloatArray, neighbours: int) -> Domain:
        """Learn how far known structures lie from each other.

        Parameters
        ----------
        embeddings
            Embeddings of the rows learned from, shape ``(n_known, n_features)``.
        neighbours
            How many neighbours to average over; fewer where there are fewer rows.

        Returns
        -------
        Domain
            The domain.
        """
        centre, spread = centre_and_spread(embeddings)
        # rounded as it is stored, so that a reloaded domain answers with the same bits
        known = ((embeddings - centre) / spread).astype(np.float32).astype(np.float64)
        neighbours = max(1, min(neighbours, len(known) - 1))
        domain = cls(centre=centre, spread=spread, known=known, reach=1.0, neighbours=neighbours)
        own = domain._mean_distance(known, skip=1)
        reach = float(np.quantile(own, INSIDE_QUANTILE)) if len(known) > 1 else 0.0
        return cls(
            centre=centre, spread=spread, known=known, reach=reach or 1.0, neighbours=neighbours
        )

    def distances(self, embeddings: FloatArray) -> FloatArray:
        """Measure how far structures lie outside.

        Parameters
        ----------
        embeddings
            One row each, shape ``(n_rows, n_features)``.

        Returns
        -------
        FloatArray
            Mean distance to the nearest known rows over the reach, shape ``(n_rows,)``: up to 1
            is where 95 % of the known rows lie.
        """
        return self._mean_distance((embeddings - self.centre) / self.spread, skip=0) / self.reach

    def _mean_distance(self, rows: FloatArray, *, skip: int) -> FloatArray:
        from scipy.spatial import cKDTree

        # a tree in so many dimensions is no faster than brute force, but needs no blocks
        distance, _ = cKDTree(self.known).query(rows, k=self.neighbours + skip)
        return np.asarray(np.atleast_2d(distance.reshape(len(rows), -1))[:, skip:].mean(axis=1))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which the domain is stored.

        Returns
        -------
        dict[str, NDArray[np.generic]]
            Arrays by name.
        """
        return {
            "domain_centre": self.centre,
            "domain_spread": self.spread,
            "domain_known": self.known.astype(np.float32),
            "domain_reach": np.array([self.reach, float(self.neighbours)]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Domain:
        """Read what :meth:`to_arrays` gave.

        Parameters
        ----------
        arrays
            Arrays of a blob.

        Returns
        -------
        Domain
            The domain.
        """
        reach, neighbours = arrays["domain_reach"].astype(np.float64).tolist()
        return cls(
            centre=arrays["domain_centre"].astype(np.float64),
            spread=arrays["domain_spread"].astype(np.float64),
            known=arrays["domain_known"].astype(np.float64),
            reach=reach,
            neighbours=int(neighbours),
        )


def applicability(distance: float) -> Applicability:
    """Put a distance in words.

    Parameters
    ----------
    distance
        As :meth:`Domain.distances` gives it.

    Returns
    -------
    Applicability
        Inside, at the edge or outside.
    """
    if distance <= 1.0:
        return Applicability.INSIDE
    return Applicability.EDGE if distance <= EDGE_FACTOR else Applicability.OUTSIDE
