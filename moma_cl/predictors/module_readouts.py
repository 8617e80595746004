"""What modules predict of their own properties, as features for another task.

Merging modules keeps what they know of structures, but not what they know of properties. A module
that was trained on many formation energies can predict a crystal's formation energy, and a task of
few rows, of other crystals or by another method, then has only the difference to learn. So every
module has a *readout* from its embeddings to its own property, and a predictor may use the readouts
of the modules in its composition as features, beside the merged embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.backbones.base import Backbone
from moma_cl.datasets.segments import LiveRows
from moma_cl.learning.embedding import Embeddings
from moma_cl.learning.readout import Readout
from moma_cl.learning.standardisation import centre_and_spread
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import Composition, ModuleKind
from moma_cl.workspace.encoders import Encoders

MIN_WEIGHT = 0.05  # of a module whose readout is used: each costs an embedding of every structure
MAX_DEVIATIONS = 4.0  # a readout further off counts as this far: readouts extrapolate badly
BASELINE_RIDGE = 1e-2  # per row, of features of variance one
MAX_RESIDUAL = 1 / 3  # standard deviation; a worse baseline only adds its errors


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModuleReadouts:
    """The readouts of a composition's modules."""

    kind: ModuleKind  # of the modules
    modules: tuple[str, ...]  # digests, ascending
    readouts: tuple[Readout, ...]  # one of each module
    weights: FloatArray  # of each module in the composition, shape (n_modules,)

    @classmethod
    def of(cls, encoders: Encoders, composition: Composition) -> Self:
        """Read the readouts of the modules that have one and weigh enough; there may be none."""
        pairs = sorted(zip(composition.modules, composition.weights, strict=True))
        triples = [
            (digest, weight, readout)
            for digest, weight in pairs
            if weight >= MIN_WEIGHT and (readout := encoders.readout(digest)) is not None
        ]
        return cls(
            kind=composition.module,
            modules=tuple(digest for digest, _, _ in triples),
            readouts=tuple(readout for _, _, readout in triples),
            weights=np.array([weight for _, weight, _ in triples]),
        )

    def of_rows(
        self, encoders: Encoders, rows: LiveRows, settings: EmbeddingSettings
    ) -> FloatArray:
        """Apply every readout to the rows of a dataset, shape ``(n_rows, n_modules)``."""
        embedded = [
            encoders.embeddings(self.kind, encoders.parameters(digest, self.kind), rows, settings)
            for digest in self.modules
        ]
        return self.of_embeddings(embedded) if embedded else np.zeros((len(rows.ids), 0))

    def of_embeddings(self, embedded: Sequence[Embeddings]) -> FloatArray:
        """Apply every readout to embeddings of the same structures by its own module.

        Embeddings have shape ``(n_structures, n_features)`` each, the readouts, dimensionless,
        ``(n_structures, n_modules)``.
        """
        pairs = zip(self.readouts, embedded, strict=True)
        return np.stack([readout.predict(rows) for readout, rows in pairs], axis=1)

    def loaded(self, encoders: Encoders) -> list[Backbone]:
        """Make the encoder of each module."""
        return [
            encoders.encoder(self.kind, encoders.parameters(digest, self.kind))
            for digest in self.modules
        ]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadoutScale:
    """How readouts become features of one task."""

    centre: FloatArray  # of the readouts of the training rows, shape (n_modules,)
    spread: FloatArray  # likewise

    @classmethod
    def fit(cls, readouts: FloatArray) -> Self:
        """Find centre and spread of readouts of training rows, shape ``(n_rows, n_modules)``."""
        if readouts.shape[1] == 0:
            return cls(centre=np.zeros(0), spread=np.ones(0))
        centre, spread = centre_and_spread(readouts)
        return cls(centre=centre, spread=spread)

    def features(self, readouts: FloatArray, weights: FloatArray) -> FloatArray:
        """Standardise readouts, clip them, and make those of heavier modules larger.

        Readouts and features have shape ``(n_rows, n_modules)``, dimensionless; the weights of the
        modules in the composition have shape ``(n_modules,)``.
        """
        standard = (readouts - self.centre) / self.spread
        return np.clip(standard, -MAX_DEVIATIONS, MAX_DEVIATIONS) * np.sqrt(weights)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadoutBaseline:
    """A linear regression of the targets on readout features; fine-tuning learns its residuals."""

    coefficients: FloatArray  # one for each module, then the intercept, shape (n_modules + 1,)
    spread: float  # standard deviation of the residuals on the training rows, of normalised targets

    @classmethod
    def fit(cls, features: FloatArray, targets: FloatArray) -> Self | None:
        """Regress normalised targets of training rows on their readout features.

        Features have shape ``(n_rows, n_modules)``. The regression is none where it leaves too much
        of the targets to be of use.
        """
        n_rows, n_modules = features.shape
        centre, mean = features.mean(axis=0), float(targets.mean())
        rows = features - centre
        gram = rows.T @ rows + BASELINE_RIDGE * n_rows * np.eye(n_modules)
        slope = np.linalg.solve(gram, rows.T @ (targets - mean))
        coefficients = np.append(slope, mean - centre @ slope)
        spread = float((targets - features @ slope).std())
        if not 0.0 < spread <= MAX_RESIDUAL:
            return None
        return cls(coefficients=coefficients, spread=spread)

    def predict(self, features: FloatArray) -> FloatArray:
        """Predict normalised targets, shape ``(n_rows,)``, from readout features alone."""
        return np.asarray(features @ self.coefficients[:-1] + self.coefficients[-1])
