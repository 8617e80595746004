"""Features of a task's rows by its composition: merged embeddings, and readouts of its modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.predictors.module_readouts import ModuleReadouts, ReadoutScale
from moma_cl.records.records import Composition


def composed_embeddings(data: FittingData, composition: Composition) -> FloatArray:
    """Embed all rows of a task by the composed encoder, shape ``(n_rows, n_features)``."""
    encoders = data.workspace.encoders(composition.backbone)
    merged = encoders.merged(composition)
    embeddings = encoders.embeddings(composition.module, merged, data.rows, data.recipe.embedding)
    return embeddings.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadoutFeatures:
    """What the modules of a composition predict of their own properties, for all rows of a task."""

    scale: ReadoutScale  # how readouts became features; of the training rows
    values: FloatArray  # features of all rows, shape (n_rows, n_modules)

    @classmethod
    def of(cls, data: FittingData, composition: Composition) -> Self:
        """Apply the readouts of all modules that have one and weigh enough."""
        encoders = data.workspace.encoders(composition.backbone)
        readouts = ModuleReadouts.of(encoders, composition)
        of_rows = readouts.of_rows(encoders, data.rows, data.recipe.embedding)
        scale = ReadoutScale.fit(of_rows[data.split.train])
        return cls(scale=scale, values=scale.features(of_rows, readouts.weights))
