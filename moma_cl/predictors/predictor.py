"""A predictor taken out of the store, ready to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import torch

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.backbones.base import Backbone
from moma_cl.core.devices import in_turn_off_the_cpu
from moma_cl.core.pyg import Data
from moma_cl.core.threads import fixed_threads, side_by_side
from moma_cl.datasets.segments import LiveRows
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.artifact import PredictorArtifact
from moma_cl.predictors.difficulty import N_NEIGHBOURS
from moma_cl.predictors.domain import Domain, Neighbours, points_of
from moma_cl.predictors.intervals import cross_validation_interval, within_bounds
from moma_cl.predictors.loaded_learners import Encoded, LoadedLearners
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.properties.table import bounds_in
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Calibration, Composition, Learner, Predictor, Task
from moma_cl.workspace.readable import Readable
from moma_cl.workspace.workspace import Workspace

BackboneGraphs = Mapping[str, Sequence[Data]]
"""Graphs of the same structures, in order, by the name of the backbone that they are for."""

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

    @classmethod
    def within(
        cls,
        answers: tuple[FloatArray, FloatArray, FloatArray],
        bounds: tuple[float, float],
        label_range: tuple[float, float],
        near: Neighbours,
        domain: Domain,
    ) -> Self:
        """Keep values, lower and upper ends inside the bounds of a property, as `within_bounds`."""
        least, largest = label_range
        values, lower, upper = within_bounds(answers, bounds, largest - least)
        distances = near.distances[:, : domain.neighbours].mean(axis=1)
        return cls(values=values, lower=lower, upper=upper, distances=distances, near=near)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedPredictor:
    """A predictor with the encoders and heads of its learners, ready to answer."""

    record: Predictor
    artifact: PredictorArtifact  # what its blob holds
    recipe: Recipe  # the settings it was fitted with
    learners: list[LoadedLearners]  # of each backbone; the first one's composition is the domain's
    device: torch.device  # of the encoders
    bounds: tuple[float, float]  # least and largest value of the property, in the task's unit

    @property
    def backbones(self) -> tuple[type[Backbone], ...]:
        """The backbones whose graphs it needs."""
        return tuple(one.backbone for one in self.learners)

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
        cross_validation = self.artifact.cross_validation
        if self.record.calibration == Calibration.CROSS_VALIDATION and cross_validation is not None:
            return cross_validation.residuals
        return None

    def answer(self, graphs: BackboneGraphs, *, level: float) -> Answers:
        """Predict, in order, with intervals whose coverage is ``level``, between 0 and 1."""
        with fixed_threads(self.recipe.threads):
            return self._answer(graphs, level)

    def _answer(self, graphs: BackboneGraphs, level: float) -> Answers:
        encoded = self._encoded(graphs)
        kernels = [answers for one in encoded for answers in one.by_kernel]
        by_kernel = np.mean(kernels, axis=0) if kernels else None
        finetuned = [answers for one in encoded for answers in one.by_finetuned]
        heads = [] if by_kernel is None else [by_kernel[:, 0]]
        if finetuned:
            heads.append(np.mean(finetuned, axis=0))
        normalised = np.mean(heads, axis=0)
        points = points_of(encoded[0].embeddings, self.backbones[0].feature_dim)
        near = self.domain.nearest(points, max(N_NEIGHBOURS, self.domain.neighbours))
        ends = self._interval(normalised, by_kernel, near, level)
        answers = (self.normaliser.inverse(normalised), *ends)
        return Answers.within(answers, self.bounds, self.artifact.label_range, near, self.domain)

    def _encoded(self, graphs: BackboneGraphs) -> list[Encoded]:
        """Let the encoders of all backbones compute, as many at once as there are cores."""
        settings = self.recipe.embedding
        calls = [one.calls(graphs[one.backbone.name], settings) for one in self.learners]
        every = [call for some in calls for call in some]
        few = len(graphs[self.backbones[0].name]) < FEW_GRAPHS
        with in_turn_off_the_cpu(self.device):
            results = iter([call() for call in every] if few else side_by_side(every))
        return [
            one.encoded(list(islice(results, len(some))))
            for one, some in zip(self.learners, calls, strict=True)
        ]

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
            and self.artifact.cross_validation is not None
        ):
            errors = self.artifact.cross_validation
            lower, upper = cross_validation_interval(
                by_kernel[:, 1:], errors.residuals, errors.groups, level
            )
        else:
            low, high = self.artifact.label_range
            return np.full(len(normalised), low), np.full(len(normalised), high)
        return self.normaliser.inverse(lower), self.normaliser.inverse(upper)


def load_predictor(workspace: Workspace, digest: str) -> LoadedPredictor:
    """Take a predictor out of the store, by the digest of its record, ready to answer."""
    record = Predictor.from_doc(workspace.store.record(digest))
    return assembled(workspace, record, load_artifact(workspace.store, record))


def graphs_for(
    workspace: Workspace, record: Predictor, rows: LiveRows, chosen: IntArray
) -> BackboneGraphs:
    """Give the graphs of some rows for all backbones of a predictor."""
    store = workspace.store
    backbones = {Learner.from_doc(store.record(one)).backbone for one in record.learners}
    given = {}
    for encoders in map(workspace.encoders, sorted(backbones)):
        graphs = encoders.graphs(rows)
        given[encoders.record.name] = [graphs[row] for row in chosen]
    return given


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
    store = workspace.store
    task = Task.from_doc(store.record(record.task))
    stored = [StoredLearner.load(store, digest) for digest in record.learners]
    learners = []
    for number, digest in enumerate(record.compositions):
        composition = Composition.from_doc(store.record(digest))
        own = [one for one in stored if one.record.backbone == composition.backbone]
        if own:
            encoders = workspace.encoders(composition.backbone)
            learners.append(LoadedLearners.of(encoders, composition, own, domain=number == 0))
    return LoadedPredictor(
        record=record,
        artifact=artifact,
        recipe=Recipe.from_doc(record.settings),
        learners=learners,
        device=workspace.device,
        bounds=bounds_in(task.unit, task.property, task.target) or (-np.inf, np.inf),
    )
