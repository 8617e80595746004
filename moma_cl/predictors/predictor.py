"""A predictor taken out of the store, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import load_vector
from moma_cl.core.devices import in_turn_off_the_cpu
from moma_cl.core.pyg import Data
from moma_cl.core.threads import fixed_threads, side_by_side
from moma_cl.learning.embedding import Embeddings, embed
from moma_cl.learning.head import Head, load_head_vector
from moma_cl.learning.kernel_head import KernelHead
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.training import predict_graphs
from moma_cl.predictors.artifact import PredictorArtifact
from moma_cl.predictors.difficulty import N_NEIGHBOURS
from moma_cl.predictors.domain import Domain, Neighbours, points_of
from moma_cl.predictors.intervals import cross_validation_interval, within_bounds
from moma_cl.predictors.learner_artifact import CrossValidation, FinetunedEncoder
from moma_cl.predictors.module_readouts import ModuleReadouts, ReadoutBaseline, ReadoutScale
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.properties.table import bounds_in
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import (
    Calibration,
    Composition,
    Learner,
    LearnerMethod,
    ModuleKind,
    Predictor,
    StartKind,
    Task,
)
from moma_cl.workspace.workspace import Readable, Workspace

FEW_GRAPHS = 16
"""Below it the start of threads takes longer than what they compute; the bits are the same."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answers:
    """Predictions for some structures."""

    values: FloatArray  # shape (n_rows,), in the task's unit
    lower: FloatArray  # end of the interval, shape (n_rows,), in the task's unit
    upper: FloatArray  # likewise
    distances: FloatArray  # from the domain, shape (n_rows,); up to 1 is inside
    near: Neighbours  # known rows nearest to each structure


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedReadouts:
    """The modules whose readouts a predictor uses, with their encoders."""

    readouts: ModuleReadouts
    scale: ReadoutScale  # the same for all its learners: they have the training rows in common
    encoders: list[Backbone]

    def features(self, embedded: Sequence[Embeddings]) -> FloatArray:
        """Give readout features, shape ``(n_structures, n_modules)``, from embeddings by module."""
        values = self.readouts.of_embeddings(embedded)
        return self.scale.features(values, self.readouts.weights)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedEncoder:
    """A fine-tuned encoder with its head, ready to answer."""

    encoder: Backbone
    head: Head
    baseline: ReadoutBaseline | None  # it learned the residuals of this; none: the targets

    def predict(self, outputs: FloatArray, features: FloatArray | None) -> FloatArray:
        """Add the baseline to what encoder and head predict, shape ``(n_structures,)``, normalised.

        Readout features, shape ``(n_structures, n_modules)``, are given where readouts are used.
        """
        if self.baseline is None or features is None:
            return outputs
        return outputs * self.baseline.spread + self.baseline.predict(features)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedPredictor:
    """A predictor with the encoders and heads of its learners, ready to answer."""

    record: Predictor
    artifact: PredictorArtifact  # what its blob holds
    recipe: Recipe  # the settings it was fitted with
    composed: Backbone  # the composed encoder, for kernel head and domain
    kernel: KernelHead | None  # none where the kernel learner does not answer
    cross_validation: CrossValidation | None  # of the kernel learner; none where rows were held out
    finetuned: list[LoadedEncoder]  # none where the kernel learner answers alone
    readouts: LoadedReadouts | None  # of the modules whose readouts it uses, if any
    bounds: tuple[float, float]  # least and largest value of the property, in the task's unit

    @property
    def level(self) -> float:
        """Coverage that its recipe asks of intervals."""
        return self.recipe.predictor.interval_level

    @property
    def calibration(self) -> str:
        """Where its intervals come from."""
        return str(self.record.calibration)

    @property
    def normaliser(self) -> Normaliser:
        """Between the task's unit and normalised targets."""
        return self.artifact.normaliser

    @property
    def domain(self) -> Domain:
        """Where its known rows are."""
        return self.artifact.calibrated.domain

    @property
    def residuals(self) -> FloatArray | None:
        """Absolute errors on unseen rows, normalised; none where intervals are the label range."""
        if self.record.calibration == Calibration.HELD_OUT:
            return self.artifact.calibrated.residuals
        if (
            self.record.calibration == Calibration.CROSS_VALIDATION
            and self.cross_validation is not None
        ):
            return self.cross_validation.residuals
        return None

    def answer(self, graphs: Sequence[Data], *, level: float) -> Answers:
        """Predict, in order, with intervals whose coverage is ``level``, between 0 and 1."""
        with fixed_threads(self.recipe.threads):
            return self._answer(graphs, level)

    def _answer(self, graphs: Sequence[Data], level: float) -> Answers:
        embedded, by_module, outputs = self._encoded(graphs)
        features = self.readouts.features(by_module) if self.readouts else None
        kernel = self.kernel
        by_kernel = kernel.predict(embedded.astype(np.float64), features) if kernel else None
        heads = [] if by_kernel is None else [by_kernel[:, 0]]
        if self.finetuned:
            pairs = zip(self.finetuned, outputs, strict=True)
            heads.append(np.mean([one.predict(output, features) for one, output in pairs], axis=0))
        normalised = np.mean(heads, axis=0)
        points = points_of(embedded, self.composed.feature_dim)
        near = self.domain.nearest(points, max(N_NEIGHBOURS, self.domain.neighbours))
        ends = self._interval(normalised, by_kernel, near, level)
        least, largest = self.artifact.label_range
        values, lower, upper = within_bounds(
            (self.normaliser.inverse(normalised), *ends), self.bounds, largest - least
        )
        return Answers(
            values=values,
            lower=lower,
            upper=upper,
            distances=near.distances[:, : self.domain.neighbours].mean(axis=1),
            near=near,
        )

    def _encoded(
        self, graphs: Sequence[Data]
    ) -> tuple[Embeddings, list[Embeddings], list[FloatArray]]:
        """Embed by the composed encoder and by modules; predict by the fine-tuned encoders."""
        encoders = [self.composed, *(self.readouts.encoders if self.readouts else ())]
        calls: list[Callable[[], NDArray[Any]]] = [
            *(partial(embed, encoder, graphs, self.recipe.embedding) for encoder in encoders),
            *(partial(predict_graphs, one.encoder, one.head, graphs) for one in self.finetuned),
        ]
        few = len(graphs) < FEW_GRAPHS
        with in_turn_off_the_cpu(self.composed.device):
            results = [call() for call in calls] if few else side_by_side(calls)
        return results[0], results[1 : len(encoders)], results[len(encoders) :]

    def _interval(
        self,
        normalised: FloatArray,
        by_kernel: FloatArray | None,
        near: Neighbours,
        level: float,
    ) -> tuple[FloatArray, FloatArray]:
        if self.record.calibration == Calibration.HELD_OUT:
            width = self.artifact.calibrated.half_widths(near, level)
            lower, upper = normalised - width, normalised + width
        elif (
            self.record.calibration == Calibration.CROSS_VALIDATION
            and by_kernel is not None
            and self.cross_validation is not None
        ):
            residuals, groups = self.cross_validation.residuals, self.cross_validation.groups
            lower, upper = cross_validation_interval(by_kernel[:, 1:], residuals, groups, level)
        else:
            low, high = self.artifact.label_range
            return np.full(len(normalised), low), np.full(len(normalised), high)
        return self.normaliser.inverse(lower), self.normaliser.inverse(upper)


def load_predictor(workspace: Workspace, digest: str) -> LoadedPredictor:
    """Take a predictor out of the store, by the digest of its record, ready to answer."""
    record = Predictor.from_doc(workspace.store.record(digest))
    return assembled(workspace, record, load_artifact(workspace.store, record))


def load_artifact(store: Readable, record: Predictor) -> PredictorArtifact:
    """Read what a predictor's blob holds."""
    transform = Transform(Task.from_doc(store.record(record.task)).transform)
    return PredictorArtifact.from_arrays(store.blob(record.blob).arrays, transform)


def assembled(
    workspace: Workspace, record: Predictor, artifact: PredictorArtifact
) -> LoadedPredictor:
    """Put a predictor together from its learners, ready to answer.

    Its record needs no blob yet; the artifact is what the blob holds or will hold.
    """
    task = Task.from_doc(workspace.store.record(record.task))
    composition = Composition.from_doc(workspace.store.record(record.composition))
    composed = workspace.merged(composition)
    learners = [StoredLearner.load(workspace.store, digest) for digest in record.learners]
    kernel = next((one.artifact for one in learners if one.artifact.kernel is not None), None)
    return LoadedPredictor(
        record=record,
        artifact=artifact,
        recipe=Recipe.from_doc(record.settings),
        composed=workspace.encoder(composition.module, composed),
        kernel=kernel.kernel if kernel else None,
        cross_validation=kernel.cross_validation if kernel else None,
        finetuned=[
            _loaded_encoder(workspace, composition.module, composed, one, one.artifact.finetuned)
            for one in learners
            if one.artifact.finetuned is not None
        ],
        readouts=_loaded_readouts(workspace, composition, learners),
        bounds=bounds_in(task.unit, task.property, task.target) or (-np.inf, np.inf),
    )


def _loaded_readouts(
    workspace: Workspace, composition: Composition, learners: Sequence[StoredLearner]
) -> LoadedReadouts | None:
    scales = (learner.artifact.readout_scale for learner in learners)
    scale = next((scale for scale in scales if scale is not None), None)
    if scale is None:
        return None
    readouts = ModuleReadouts.of(workspace, composition)
    encoders = readouts.encoders(workspace)
    return LoadedReadouts(readouts=readouts, scale=scale, encoders=encoders)


def _loaded_encoder(
    workspace: Workspace,
    kind: ModuleKind,
    composed: ParameterVector,
    learner: StoredLearner,
    stored: FinetunedEncoder,
) -> LoadedEncoder:
    record = learner.record
    if record.method is LearnerMethod.ADAPTED:
        is_composed = record.start is StartKind.COMPOSITION
        encoder = workspace.adaptable(composed if is_composed else workspace.parameters(None, kind))
        load_vector(encoder, stored.parameters, workspace.manifest(ModuleKind.ADAPTER))
    else:
        encoder = workspace.encoder(kind, stored.parameters)
    return LoadedEncoder(
        encoder=encoder,
        head=_loaded_head(encoder, record, stored.head),
        baseline=learner.artifact.baseline,
    )


def _loaded_head(encoder: Backbone, learner: Learner, vector: ParameterVector) -> Head:
    width = Recipe.from_doc(learner.settings).finetune.head_width
    head = Head(encoder.feature_dim, encoder.n_blocks, width, seed=0)
    load_head_vector(head, vector)
    head.to(encoder.device)
    return head
