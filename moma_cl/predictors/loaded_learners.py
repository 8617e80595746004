"""The learners of one backbone taken out of the store, ready to answer together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import load_vector
from moma_cl.core.pyg import Data
from moma_cl.learning.embedding import Embeddings, embed
from moma_cl.learning.head import Head, load_head_vector
from moma_cl.learning.kernel_head import KernelHead
from moma_cl.learning.readout import LinearReadouts
from moma_cl.learning.training import predict_graphs
from moma_cl.predictors.learner_artifact import FinetunedEncoder
from moma_cl.predictors.module_readouts import ModuleReadouts, ReadoutBaseline, ReadoutScale
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import EmbeddingSettings, Recipe
from moma_cl.records.records import Composition, LearnerMethod, ModuleKind, StartKind
from moma_cl.workspace.encoders import Encoders

_SAME = (1.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedReadouts:
    """The modules whose readouts learners use, with their encoders."""

    readouts: ModuleReadouts
    encoders: list[Backbone]

    @classmethod
    def of(
        cls, encoders: Encoders, composition: Composition, learners: Sequence[StoredLearner]
    ) -> Self | None:
        """Load the modules of a composition; none where no learner uses their readouts."""
        composed = (one for one in learners if one.record.start is StartKind.COMPOSITION)
        if all(learner.artifact.readout_scale is None for learner in composed):
            return None
        readouts = ModuleReadouts.of(encoders, composition)
        return cls(readouts=readouts, encoders=readouts.loaded(encoders))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Readings:
    """What the modules of a composition predict of their own properties for some structures."""

    values: FloatArray  # shape (n_structures, n_modules)
    weights: FloatArray  # of the modules in the composition, shape (n_modules,)

    def features(self, scale: ReadoutScale | None) -> FloatArray | None:
        """Give the features of one learner, shape ``(n_structures, n_modules)``.

        Each learner has a scale of its own: that of the rows it was trained on.
        """
        return None if scale is None else scale.features(self.values, self.weights)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedKernel:
    """A kernel head with the encoder whose embeddings it sees."""

    head: KernelHead
    encoder: Backbone | None  # none where it is the composed one
    readouts: LinearReadouts | None  # of that encoder; none where modules of a composition read out
    scale: ReadoutScale | None  # of the readouts that it uses

    @classmethod
    def of(
        cls, encoders: Encoders, composition: Composition, learner: StoredLearner, head: KernelHead
    ) -> Self:
        """Load a kernel learner: on the composition, on a multitask module or on the backbone."""
        module, kind = learner.record.multitask, composition.module
        on_composition = learner.record.start is StartKind.COMPOSITION
        parameters = None if on_composition else encoders.parameters(module, kind)
        return cls(
            head=head,
            encoder=None if parameters is None else encoders.encoder(kind, parameters),
            readouts=None if module is None else encoders.linear_readouts(module),
            scale=learner.artifact.readout_scale,
        )

    def predict(self, embeddings: Embeddings, readings: Readings | None) -> FloatArray:
        """Predict with every regression, shape ``(n_structures, n_columns)``, normalised.

        Readings are those of the composition's modules.
        """
        if self.readouts is not None:
            values = self.readouts.predict(embeddings)
            readings = Readings(values=values, weights=np.ones(values.shape[1]))
        features = None if readings is None else readings.features(self.scale)
        return self.head.predict(embeddings.astype(np.float64), features)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedEncoder:
    """A fine-tuned encoder with its head, ready to answer."""

    encoder: Backbone
    head: Head
    baseline: ReadoutBaseline | None  # it learned the residuals of this; none: the targets
    scale: ReadoutScale | None  # of the readouts that the baseline uses
    rescaling: tuple[float, float]  # slope and intercept, to the normaliser of now

    def predict(self, outputs: FloatArray, readings: Readings | None) -> FloatArray:
        """Add the baseline to what encoder and head predict, shape ``(n_structures,)``, normalised.

        Readings are given where any learner uses readouts.
        """
        slope, intercept = self.rescaling
        features = None if readings is None else readings.features(self.scale)
        if self.baseline is not None and features is not None:
            outputs = outputs * self.baseline.spread + self.baseline.predict(features)
        return slope * outputs + intercept if self.rescaling != _SAME else outputs


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoded:
    """What the learners of one backbone answer for some structures."""

    embeddings: Embeddings  # by the composed encoder; of no structures where it was not asked
    by_kernel: list[FloatArray]  # of each kernel head, shape (n_structures, n_columns), normalised
    by_finetuned: list[FloatArray]  # of each fine-tuned learner, shape (n_structures,), normalised


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedLearners:
    """The learners of one backbone that answer together."""

    backbone: type[Backbone]
    composed: Backbone | None  # for a kernel head or the domain; none where neither needs it
    kernels: list[LoadedKernel]
    finetuned: list[LoadedEncoder]
    readouts: LoadedReadouts | None  # of the modules whose readouts they use, if any

    @classmethod
    def of(
        cls,
        encoders: Encoders,
        composition: Composition,
        learners: Sequence[StoredLearner],
        *,
        domain: bool,
    ) -> Self:
        """Load learners of one composition; with its encoder also where that gives the domain."""
        merged = encoders.merged(composition)
        kernels = [
            LoadedKernel.of(encoders, composition, one, one.artifact.kernel)
            for one in learners
            if one.artifact.kernel is not None
        ]
        needed = domain or any(one.encoder is None for one in kernels)
        return cls(
            backbone=encoders.backbone,
            composed=encoders.encoder(composition.module, merged) if needed else None,
            kernels=kernels,
            finetuned=[
                _loaded_encoder(encoders, composition.module, merged, one, one.artifact.finetuned)
                for one in learners
                if one.artifact.finetuned is not None
            ],
            readouts=LoadedReadouts.of(encoders, composition, learners),
        )

    def calls(
        self, graphs: Sequence[Data], settings: EmbeddingSettings
    ) -> list[Callable[[], NDArray[Any]]]:
        """List what encoders have to compute for some structures; `encoded` takes the results."""
        embedders = [] if self.composed is None else [self.composed]
        embedders += self.readouts.encoders if self.readouts else []
        embedders += [one.encoder for one in self.kernels if one.encoder is not None]
        return [
            *(partial(embed, encoder, graphs, settings) for encoder in embedders),
            *(partial(predict_graphs, one.encoder, one.head, graphs) for one in self.finetuned),
        ]

    def encoded(self, results: Sequence[NDArray[Any]]) -> Encoded:
        """Give answers from what the encoders computed, in the order of `calls`."""
        left = list(results)
        embeddings = left.pop(0) if self.composed is not None else np.zeros((0, 0), np.float32)
        readings = None
        if self.readouts is not None:
            count, readouts = len(self.readouts.encoders), self.readouts.readouts
            values, left = readouts.of_embeddings(left[:count]), left[count:]
            readings = Readings(values=values, weights=readouts.weights)
        by_kernel = [
            one.predict(embeddings if one.encoder is None else left.pop(0), readings)
            for one in self.kernels
        ]
        pairs = zip(self.finetuned, left, strict=True)
        return Encoded(
            embeddings=embeddings,
            by_kernel=by_kernel,
            by_finetuned=[one.predict(output, readings) for one, output in pairs],
        )


def _loaded_encoder(
    encoders: Encoders,
    kind: ModuleKind,
    merged: ParameterVector,
    learner: StoredLearner,
    stored: FinetunedEncoder,
) -> LoadedEncoder:
    record = learner.record
    if record.method is LearnerMethod.ADAPTED:
        is_composed = record.start is StartKind.COMPOSITION
        encoder = encoders.adaptable(merged if is_composed else encoders.parameters(None, kind))
        load_vector(encoder, stored.parameters, encoders.manifest(ModuleKind.ADAPTER))
    else:
        encoder = encoders.encoder(kind, stored.parameters)
    width = Recipe.from_doc(record.settings).finetune.head_width
    head = Head(encoder.feature_dim, encoder.n_blocks, width, seed=0)
    load_head_vector(head, stored.head)
    head.to(encoder.device)
    artifact = learner.artifact
    return LoadedEncoder(
        encoder=encoder,
        head=head,
        baseline=artifact.baseline,
        scale=artifact.readout_scale,
        rescaling=artifact.rescaling or _SAME,
    )
