"""A module taken out of a store, ready to answer by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moma_cl.backbones.base import Backbone
from moma_cl.core.threads import fixed_threads
from moma_cl.learning.embedding import embed
from moma_cl.predictors.difficulty import N_NEIGHBOURS
from moma_cl.predictors.domain import Domain, points_of
from moma_cl.predictors.module_answers import ModuleAnswers
from moma_cl.predictors.predictor import Answers, BackboneGraphs
from moma_cl.properties.table import bounds_in
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import without_logarithm
from moma_cl.recipe import Recipe
from moma_cl.records.records import Module
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import InvalidInputError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModule:
    """A module with its encoder, ready to answer.

    A module that learned the logarithms of values answers with the values.
    """

    encoder: Backbone
    answers: ModuleAnswers  # how it answers, into `unit`
    unit: str  # of its answers: that of the values where it learned their logarithms
    bounds: tuple[float, float]  # least and largest value of the property, in the unit
    recipe: Recipe  # how structures are embedded, and the level of intervals

    @classmethod
    def load(cls, workspace: Workspace, digest: str) -> Self:
        """Take a module out of the store, by the digest of its record; it must have a readout."""
        record = Module.from_doc(workspace.store.record(digest))
        unit = without_logarithm(record.unit)
        transform = record.transform if unit == record.unit else Transform.LOG10
        arrays = workspace.store.blob(record.blob).arrays
        answers = ModuleAnswers.from_arrays(arrays, transform)
        if answers is None:
            raise InvalidInputError(
                f"module {digest[:12]} cannot answer: it has no readout of {record.property!r}"
            )
        encoders = workspace.encoders(record.backbone)
        return cls(
            encoder=encoders.encoder(record.module, encoders.parameters(digest, record.module)),
            answers=answers,
            unit=unit,
            bounds=bounds_in(unit, record.property) or (-np.inf, np.inf),
            recipe=Recipe(),
        )

    @property
    def backbones(self) -> tuple[type[Backbone], ...]:
        """The backbone whose graphs it needs."""
        return (type(self.encoder),)

    @property
    def level(self) -> float:
        """Coverage of intervals where no other is asked for."""
        return self.recipe.predictor.interval_level

    @property
    def domain(self) -> Domain:
        """Where a sample of the rows is that it learned from."""
        return self.answers.calibrated.domain

    @property
    def calibration(self) -> str:
        """Where its intervals come from."""
        return str(self.answers.calibration)

    def answer(self, graphs: BackboneGraphs, *, level: float) -> Answers:
        """Predict, in order, with intervals whose coverage is ``level``, between 0 and 1."""
        own = graphs[self.encoder.name]
        with fixed_threads(self.recipe.threads):
            embedded = embed(self.encoder, own, self.recipe.embedding)
        calibrated, normaliser = self.answers.calibrated, self.answers.normaliser
        normalised = self.answers.readout.predict(embedded)
        points = points_of(embedded, self.encoder.feature_dim)
        near = self.domain.nearest(points, max(N_NEIGHBOURS, self.domain.neighbours))
        least, largest = self.answers.label_range
        if len(calibrated.residuals):
            width = calibrated.half_widths(near, level)
            ends = normaliser.inverse(normalised - width), normaliser.inverse(normalised + width)
        else:
            ends = np.full(len(own), least), np.full(len(own), largest)
        answers = (normaliser.inverse(normalised), *ends)
        return Answers.within(answers, self.bounds, (least, largest), near, self.domain)
