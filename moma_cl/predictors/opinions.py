"""Opinions: what modules say of their own properties, as features for another task.

Merging modules keeps what they know of structures, but not what they know of answers. A module that
was trained on many formation energies can say what it takes a crystal's formation energy to be, and
a task of few rows, of other crystals or by another method, then has only the difference to learn.
So every module brings a *readout* from its embeddings to its own property, and a predictor may read
the opinions of the modules it is composed of beside the merged embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.backbones.base import Backbone
from moma_cl.datasets.segments import LiveRows
from moma_cl.learning.embedding import Embeddings
from moma_cl.learning.readout import Readout
from moma_cl.learning.standardisation import centre_and_spread
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import Composition, ModuleKind
from moma_cl.workspace.workspace import Workbench

HEARING = 2  # version of the kernel head from which on opinions are heard
MOST_REST = 1 / 3  # spread of what a prior leaves over; a worse one only adds its errors
PRIOR_RIDGE = 1e-2  # per row, of features of variance one
MIN_WEIGHT = 0.05  # of a module to be heard: each costs an embedding of every structure
MOST_DEVIATIONS = 4.0  # an opinion further off than this counts as this far: readouts run away


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Panel:
    """The modules of a composition that are heard.

    Attributes
    ----------
    kind
        Kind of the modules.
    modules
        Their digests, ascending.
    readouts
        The readout of each.
    weights
        The weight of each in the composition, shape ``(n_modules,)``.
    """

    kind: ModuleKind
    modules: tuple[str, ...]
    readouts: tuple[Readout, ...]
    weights: FloatArray

    @classmethod
    def of(cls, bench: Workbench, composition: Composition, *, hears: bool = True) -> Self:
        """Call the modules that have a readout and weigh enough.

        Parameters
        ----------
        bench
            Reads the hub.
        composition
            The composition.
        hears
            Whether to call any.

        Returns
        -------
        Self
            The panel; it may be empty.
        """
        pairs = sorted(zip(composition.modules, composition.weights, strict=True))
        called = [
            (digest, weight, readout)
            for digest, weight in pairs
            if hears and weight >= MIN_WEIGHT and (readout := bench.readout(digest)) is not None
        ]
        return cls(
            kind=composition.module,
            modules=tuple(digest for digest, _, _ in called),
            readouts=tuple(readout for _, _, readout in called),
            weights=np.array([weight for _, weight, _ in called]),
        )

    def of_rows(self, bench: Workbench, rows: LiveRows, settings: EmbeddingSettings) -> FloatArray:
        """Hear the modules on the rows of a dataset.

        Parameters
        ----------
        bench
            Reads the hub, and keeps embeddings.
        rows
            The rows.
        settings
            How rows are embedded.

        Returns
        -------
        FloatArray
            Opinions, shape ``(n_rows, n_modules)``, dimensionless.
        """
        columns = [np.zeros((len(rows.ids), 0))]
        for digest, readout in zip(self.modules, self.readouts, strict=True):
            vector = bench.parameters(digest, self.kind)
            embedded = bench.embeddings(self.kind, vector, rows, settings)
            columns.append(readout.of(embedded)[:, None])
        return np.concatenate(columns, axis=1)

    def encoders(self, bench: Workbench) -> list[Backbone]:
        """Make the encoder of each module.

        Parameters
        ----------
        bench
            Reads the hub.

        Returns
        -------
        list[Backbone]
            One for each module.
        """
        return [
            bench.encoder(self.kind, bench.parameters(digest, self.kind)) for digest in self.modules
        ]

    def of_embeddings(self, embedded: Sequence[Embeddings]) -> FloatArray:
        """Hear the modules on structures.

        Parameters
        ----------
        embedded
            The structures by each of the encoders, shape ``(n_structures, n_features)``.

        Returns
        -------
        FloatArray
            Opinions, shape ``(n_structures, n_modules)``, dimensionless.
        """
        heard = zip(self.readouts, embedded, strict=True)
        return np.stack([readout.of(rows) for readout, rows in heard], axis=1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Hearing:
    """How opinions become features of one task.

    Attributes
    ----------
    centre, spread
        Of the opinions of its training rows, shape ``(n_modules,)``.
    weights
        Of the modules, shape ``(n_modules,)``.
    """

    centre: FloatArray
    spread: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, opinions: FloatArray, weights: FloatArray) -> Self:
        """Take the scale of opinions.

        Parameters
        ----------
        opinions
            Of the training rows, shape ``(n_rows, n_modules)``, dimensionless.
        weights
            Of the modules, shape ``(n_modules,)``.

        Returns
        -------
        Self
            The scale.
        """
        if opinions.shape[1] == 0:
            return cls(centre=np.zeros(0), spread=np.ones(0), weights=weights)
        centre, spread = centre_and_spread(opinions)
        return cls(centre=centre, spread=spread, weights=weights)

    def features(self, opinions: FloatArray) -> FloatArray:
        """Bring opinions to one scale, those of heavier modules larger, and far ones to its edge.

        Parameters
        ----------
        opinions
            Shape ``(n_rows, n_modules)``, dimensionless.

        Returns
        -------
        FloatArray
            Same shape, dimensionless.
        """
        standard = (opinions - self.centre) / self.spread
        return np.clip(standard, -MOST_DEVIATIONS, MOST_DEVIATIONS) * np.sqrt(self.weights)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which it is stored; the weights are the composition's.

        Returns
        -------
        dict[str, NDArray[np.generic]]
            None where nobody is heard.
        """
        if len(self.centre) == 0:
            return {}
        return {"opinion_centre": self.centre, "opinion_spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], weights: FloatArray) -> Self:
        """Read what `to_arrays` gave.

        Parameters
        ----------
        arrays
            Arrays of a blob.
        weights
            Of the modules, shape ``(n_modules,)``.

        Returns
        -------
        Self
            The scale.
        """
        return cls(
            centre=arrays["opinion_centre"].astype(np.float64),
            spread=arrays["opinion_spread"].astype(np.float64),
            weights=weights,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prior:
    """What opinions alone say of a task; gradients then learn the rest.

    Attributes
    ----------
    coefficients
        A coefficient for each module, then the intercept, shape ``(n_modules + 1,)``.
    spread
        Standard deviation of the rest on the training rows, of normalised targets.
    """

    coefficients: FloatArray
    spread: float

    @classmethod
    def fit(cls, features: FloatArray, targets: FloatArray) -> Self | None:
        """Regress the targets on opinions.

        Parameters
        ----------
        features
            Of the training rows, what `Hearing.features` gave, shape ``(n_rows, n_modules)``.
        targets
            Normalised targets, shape ``(n_rows,)``, dimensionless.

        Returns
        -------
        Self | None
            The prior; none where opinions are not nearly the answer.
        """
        n_rows, n_modules = features.shape
        centre, mean = features.mean(axis=0), float(targets.mean())
        rows = features - centre
        gram = rows.T @ rows + PRIOR_RIDGE * n_rows * np.eye(n_modules)
        slope = np.linalg.solve(gram, rows.T @ (targets - mean))
        coefficients = np.append(slope, mean - centre @ slope)
        spread = float((targets - features @ slope).std())
        if not 0.0 < spread <= MOST_REST:
            return None
        return cls(coefficients=coefficients, spread=spread)

    def said(self, features: FloatArray) -> FloatArray:
        """Say what opinions alone make of structures.

        Parameters
        ----------
        features
            Shape ``(n_rows, n_modules)``.

        Returns
        -------
        FloatArray
            Normalised as the task's targets, shape ``(n_rows,)``, dimensionless.
        """
        return np.asarray(features @ self.coefficients[:-1] + self.coefficients[-1])

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays under which it is stored.

        Returns
        -------
        dict[str, NDArray[np.generic]]
            Coefficients and spread.
        """
        return {"prior": self.coefficients, "prior_spread": np.array([self.spread])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self | None:
        """Read what `to_arrays` gave.

        Parameters
        ----------
        arrays
            Arrays of a blob.

        Returns
        -------
        Self | None
            The prior; none where there was none.
        """
        if "prior" not in arrays:
            return None
        return cls(
            coefficients=arrays["prior"].astype(np.float64),
            spread=float(arrays["prior_spread"][0]),
        )
