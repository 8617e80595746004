"""Features of a task's rows that kernel heads see: embeddings by an encoder, and readouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.learning.embedding import Embeddings
from moma_cl.learning.readout import LinearReadouts
from moma_cl.predictors.module_readouts import ModuleReadouts, ReadoutScale
from moma_cl.records.records import Composition
from moma_cl.workspace.encoders import Encoders


def composed_embeddings(data: FittingData, composition: Composition) -> FloatArray:
    """Embed all rows of a task by the composed encoder, shape ``(n_rows, n_features)``."""
    encoders = data.workspace.encoders(composition.backbone)
    merged = encoders.merged(composition)
    embeddings = encoders.embeddings(composition.module, merged, data.rows, data.recipe.embedding)
    return embeddings.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadoutFeatures:
    """What modules predict of their own properties, for all rows of a task."""

    scale: ReadoutScale  # how readouts became features; of the training rows
    values: FloatArray  # features of all rows, shape (n_rows, n_readouts)

    @classmethod
    def of_composition(cls, data: FittingData, composition: Composition) -> Self:
        """Apply the readouts of all modules of a composition that have one and weigh enough."""
        encoders = data.workspace.encoders(composition.backbone)
        readouts = ModuleReadouts.of(encoders, composition)
        of_rows = readouts.of_rows(encoders, data.rows, data.recipe.embedding)
        return cls._scaled(data, of_rows, readouts.weights)

    @classmethod
    def of_multitask(
        cls, data: FittingData, readouts: LinearReadouts | None, embeddings: Embeddings
    ) -> Self:
        """Apply the readouts of a multitask module, if any, to embeddings by its encoder."""
        none = np.zeros((len(embeddings), 0))
        of_rows = none if readouts is None else readouts.predict(embeddings)
        return cls._scaled(data, of_rows, np.ones(of_rows.shape[1]))

    @classmethod
    def _scaled(cls, data: FittingData, of_rows: FloatArray, weights: FloatArray) -> Self:
        scale = ReadoutScale.fit(of_rows[data.split.train])
        return cls(scale=scale, values=scale.features(of_rows, weights))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KernelFeatures:
    """What a kernel head sees of all rows of a task."""

    embeddings: FloatArray  # shape (n_rows, n_features)
    readouts: ReadoutFeatures

    @classmethod
    def of_composition(cls, data: FittingData, composition: Composition) -> Self:
        """Embed by the composed encoder; its modules read out."""
        return cls(
            embeddings=composed_embeddings(data, composition),
            readouts=ReadoutFeatures.of_composition(data, composition),
        )

    @classmethod
    def of_multitask(cls, data: FittingData, encoders: Encoders, module: str | None) -> Self:
        """Embed by a multitask module, which reads out; without one by the bare backbone."""
        parameters = encoders.parameters(module, data.kind)
        embedded = encoders.embeddings(data.kind, parameters, data.rows, data.recipe.embedding)
        readouts = None if module is None else encoders.linear_readouts(module)
        return cls(
            embeddings=embedded.astype(np.float64),
            readouts=ReadoutFeatures.of_multitask(data, readouts, embedded),
        )
