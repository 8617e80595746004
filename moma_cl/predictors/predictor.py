"""A predictor taken out of the store, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from moma_cl.arraytypes import Arrays, FloatArray, ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import load_vector
from moma_cl.core.pyg import Data
from moma_cl.core.threads import side_by_side
from moma_cl.learning.embedding import Embeddings, embed
from moma_cl.learning.head import Head
from moma_cl.learning.kernel_head import KernelHead
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.training import predict_graphs
from moma_cl.predictors.difficulty import N_NEIGHBOURS, Difficulty
from moma_cl.predictors.domain import Domain, Neighbours, points_of
from moma_cl.predictors.intervals import conformal_quantile, cross_validation_interval
from moma_cl.predictors.opinions import Hearing, Panel, Prior
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Calibration, Composition, Method, ModuleKind, Predictor, Task
from moma_cl.workspace.workspace import Workbench, threads
from moma_store.errors import BackboneError

BESIDE = "backbone_"
"""Begins the names of what was fine-tuned beside the composed encoder, from anything else."""
ADAPTERS = "adapters_"
"""Begins the names of adapters and their head; after `BESIDE`, of adapters of the backbone."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answers:
    """Predictions for some structures.

    Attributes
    ----------
    values
        Shape ``(n_rows,)``, in the task's unit.
    lower, upper
        Ends of the interval, shape ``(n_rows,)``, in the task's unit.
    distances
        How far each structure lies outside the domain, shape ``(n_rows,)``; up to 1 is inside.
    near
        The known rows nearest to each structure.
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    distances: FloatArray
    near: Neighbours


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedPanel:
    """The modules whose opinions a predictor hears, ready to speak."""

    panel: Panel
    hearing: Hearing
    encoders: list[Backbone]

    def features(self, embedded: Sequence[Embeddings]) -> FloatArray:
        """Hear the modules on structures.

        Parameters
        ----------
        embedded
            The structures by each of the encoders, shape ``(n_structures, n_features)``.

        Returns
        -------
        FloatArray
            Features, shape ``(n_structures, n_modules)``, dimensionless.
        """
        return self.hearing.features(self.panel.of_embeddings(embedded))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tuned:
    """A fine-tuned encoder with its head, ready to answer.

    Attributes
    ----------
    encoder, head
        Both of them.
    prior
        What opinions alone say, where it learned the rest.
    """

    encoder: Backbone
    head: Head
    prior: Prior | None

    def answer(self, rest: FloatArray, opinions: FloatArray | None) -> FloatArray:
        """Add what opinions say to what it learned.

        Parameters
        ----------
        rest
            What encoder and head make of structures, shape ``(n_structures,)``, dimensionless.
        opinions
            Features, shape ``(n_structures, n_modules)``, where any are heard.

        Returns
        -------
        FloatArray
            Normalised predictions, shape ``(n_structures,)``, dimensionless.
        """
        if self.prior is None or opinions is None:
            return rest
        return rest * self.prior.spread + self.prior.said(opinions)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedPredictor:
    """Encoders and heads of one predictor.

    Attributes
    ----------
    record
        The predictor's record.
    normaliser
        Between the task's unit and what is learned.
    composed
        The composed encoder, for kernel head and domain.
    finetuned
        What answers together; nothing where the kernel head answers alone.
    panel
        The modules whose opinions it hears, where it hears any.
    domain
        The structures it knows.
    kernel
        The kernel head, where the predictor has one.
    arrays
        All arrays of its blob.
    recipe
        The settings it was fitted with.
    """

    record: Predictor
    normaliser: Normaliser
    composed: Backbone
    domain: Domain
    kernel: KernelHead | None
    finetuned: list[Tuned]
    panel: LoadedPanel | None
    arrays: Arrays
    recipe: Recipe

    @property
    def level(self) -> float:
        """Coverage that its recipe asks of intervals."""
        return self.recipe.predictor.interval_level

    def answer(self, graphs: Sequence[Data], *, level: float) -> Answers:
        """Predict.

        Parameters
        ----------
        graphs
            One graph per structure.
        level
            Coverage of the interval, between 0 and 1.

        Returns
        -------
        Answers
            Values, intervals and distances, in order.
        """
        with threads(self.recipe.threads):
            return self._answer(graphs, level)

    def _answer(self, graphs: Sequence[Data], level: float) -> Answers:
        embedded, heard, rests = self._encoded(graphs)
        features = embedded.astype(np.float64)
        opinions = self.panel.features(heard) if self.panel else None
        by_kernel = self.kernel.predict(features, opinions) if self.kernel is not None else None
        heads = [] if by_kernel is None else [by_kernel[:, 0]]
        if self.finetuned:
            tuned = zip(self.finetuned, rests, strict=True)
            heads.append(np.mean([one.answer(rest, opinions) for one, rest in tuned], axis=0))
        normalised = np.mean(heads, axis=0)
        version = self.domain.version
        points = points_of(embedded, self.composed.feature_dim, version=version)
        near = self.domain.nearest(points, max(N_NEIGHBOURS, self.domain.neighbours))
        lower, upper = self._interval(normalised, by_kernel, near, level)
        return Answers(
            values=self.normaliser.inverse(normalised),
            lower=lower,
            upper=upper,
            distances=near.distances[:, : self.domain.neighbours].mean(axis=1),
            near=near,
        )

    def _encoded(
        self, graphs: Sequence[Data]
    ) -> tuple[Embeddings, list[Embeddings], list[FloatArray]]:
        """Embed by the composed encoder and by those that are heard; answer by the fine-tuned."""
        encoders = [self.composed, *(self.panel.encoders if self.panel else ())]
        calls: list[Callable[[], NDArray[Any]]] = [
            *(partial(embed, encoder, graphs, self.recipe.embedding) for encoder in encoders),
            *(partial(predict_graphs, one.encoder, one.head, graphs) for one in self.finetuned),
        ]
        found = side_by_side(calls)
        return found[0], found[1 : len(encoders)], found[len(encoders) :]

    def _interval(
        self,
        normalised: FloatArray,
        by_kernel: FloatArray | None,
        near: Neighbours,
        level: float,
    ) -> tuple[FloatArray, FloatArray]:
        low_label, high_label = self.arrays["label_range"].astype(np.float64).tolist()
        ends = np.full(len(normalised), low_label), np.full(len(normalised), high_label)
        if self.record.calibration == Calibration.HELD_OUT:
            width = self._widths(near, level)
            lower, upper = normalised - width, normalised + width
        elif self.record.calibration == Calibration.CROSS_VALIDATION and by_kernel is not None:
            lower, upper = cross_validation_interval(
                by_kernel[:, 1:],
                self.arrays["cv_residuals"].astype(np.float64),
                self.arrays["cv_groups"].astype(np.int64),
                level,
            )
        else:
            return ends
        return self.normaliser.inverse(lower), self.normaliser.inverse(upper)

    def _widths(self, near: Neighbours, level: float) -> FloatArray | float:
        """Half the width of intervals, of normalised targets."""
        residuals = self.arrays["held_out_residuals"].astype(np.float64)
        difficulty = Difficulty.from_arrays(self.arrays)
        if difficulty is None:
            return conformal_quantile(residuals, level)
        scores = residuals / self.arrays["held_out_difficulty"].astype(np.float64)
        return conformal_quantile(scores, level) * difficulty.of(near)


def load_predictor(bench: Workbench, digest: str) -> LoadedPredictor:
    """Take a predictor out of the store.

    Parameters
    ----------
    bench
        Reads the hub.
    digest
        The predictor's record.

    Returns
    -------
    LoadedPredictor
        Ready to answer.
    """
    record = Predictor.from_doc(bench.store.record(digest))
    return assembled(bench, record, dict(bench.store.blob(record.blob).arrays))


def assembled(bench: Workbench, record: Predictor, arrays: Arrays) -> LoadedPredictor:
    """Put a predictor together.

    Parameters
    ----------
    bench
        Reads the hub.
    record
        The predictor's record.
    arrays
        Arrays of its blob.

    Returns
    -------
    LoadedPredictor
        Ready to answer.
    """
    recipe = Recipe.from_doc(record.settings)
    task = Task.from_doc(bench.store.record(record.task))
    composition = Composition.from_doc(bench.store.record(record.composition))
    kind = composition.module
    vector = bench.merged(composition)
    panel: LoadedPanel | None = None
    if "opinion_centre" in arrays:
        called = Panel.of(bench, composition)
        hearing = Hearing.from_arrays(arrays, called.weights)
        panel = LoadedPanel(panel=called, hearing=hearing, encoders=called.encoders(bench))
    has_kernel = record.method in {Method.KERNEL, Method.MEAN}
    return LoadedPredictor(
        record=record,
        normaliser=Normaliser.from_arrays(arrays, Transform(task.transform)),
        composed=bench.encoder(kind, vector),
        domain=Domain.from_arrays(arrays),
        kernel=KernelHead.from_arrays(arrays, "kernel_") if has_kernel else None,
        finetuned=list(_finetuned(bench, kind, recipe, vector, arrays)),
        panel=panel,
        arrays=arrays,
        recipe=recipe,
    )


def _finetuned(
    bench: Workbench, kind: ModuleKind, recipe: Recipe, composed: ParameterVector, arrays: Arrays
) -> Iterator[Tuned]:
    """Load what was fine-tuned; what a kernel head answers by has none of these arrays."""
    prior = Prior.from_arrays(arrays)
    for start in ("", BESIDE, ADAPTERS, f"{BESIDE}{ADAPTERS}"):
        if f"{start}parameters" not in arrays:
            continue
        parameters = np.asarray(arrays[f"{start}parameters"], dtype=np.float32)
        if start.endswith(ADAPTERS):
            beside = start.startswith(BESIDE)
            frozen = bench.parameters(None, kind) if beside else composed
            encoder = bench.adaptable(frozen)
            load_vector(encoder, parameters, bench.manifest(ModuleKind.ADAPTER))
        else:
            encoder = bench.encoder(kind, parameters)
        head = Head(encoder.feature_dim, encoder.n_blocks, recipe.finetune.head_width, seed=0)
        load_head_vector(head, np.asarray(arrays[f"{start}head"], dtype=np.float32))
        # beside another start, one learned the targets themselves
        yield Tuned(encoder=encoder, head=head, prior=None if start.startswith(BESIDE) else prior)


def head_vector(head: Head) -> NDArray[np.float32]:
    """Flatten a head's parameters in their order.

    Parameters
    ----------
    head
        The head.

    Returns
    -------
    NDArray[np.float32]
        Shape ``(n_parameters,)``.
    """
    return nn.utils.parameters_to_vector(head.parameters()).detach().numpy().copy()


def load_head_vector(head: Head, vector: NDArray[np.float32]) -> None:
    """Fill a head's parameters.

    Parameters
    ----------
    head
        The head.
    vector
        What :func:`head_vector` gave, shape ``(n_parameters,)``.

    Raises
    ------
    BackboneError
        If the vector belongs to a head of another shape.
    """
    size = sum(parameter.numel() for parameter in head.parameters())
    if len(vector) != size:
        raise BackboneError(f"the head has {size:,} parameters, the vector {len(vector):,}")
    nn.utils.vector_to_parameters(torch.from_numpy(vector.copy()), head.parameters())
