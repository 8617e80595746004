"""What a fine-tuned learner starts from: an encoder, a fresh head, and the rows that judge it.

Gradients can make more of a start than its frozen features promise, or less: the weights tell which
modules are of use to a task, not whether any is a better start than the backbone. So a task has
learners from its composition and, beside it, from a multitask module or the backbone, then adapters
of the composition and of the backbone, which change less of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from moma_cl.arraytypes import FloatArray, ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.kernel_features import ReadoutFeatures
from moma_cl.derivations.keys import Derivation
from moma_cl.learning.head import Head
from moma_cl.predictors.module_readouts import ReadoutBaseline, ReadoutScale
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, LearnerMethod, ModuleKind, StartKind
from moma_cl.workspace.encoders import Encoders
from moma_cl.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Baseline:
    """What readouts of modules predict alone; fine-tuning learns its residuals."""

    regression: ReadoutBaseline
    scale: ReadoutScale  # how the readouts became features
    predictions: FloatArray  # of all rows, normalised, shape (n_rows,)

    @classmethod
    def fit(cls, data: FittingData, composition: Composition) -> Baseline | None:
        """Regress the training rows on readouts; none where that leaves too much of them."""
        readouts, training = ReadoutFeatures.of_composition(data, composition), data.split.train
        regression = ReadoutBaseline.fit(readouts.values[training], data.targets[training])
        if regression is None:
            return None
        predictions = regression.predict(readouts.values)
        return cls(regression=regression, scale=readouts.scale, predictions=predictions)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FinetuningStart:
    """An encoder and a fresh head, which fine-tuning trains in place."""

    data: FittingData  # of its split, the start has seen none of the rows that judge
    encoders: Encoders  # of its backbone
    method: LearnerMethod
    kind: StartKind
    multitask: str | None  # the module that it starts from, if it is one
    encoder: Backbone  # what is trained, with the head
    head: Head
    trained: ModuleKind  # what of the encoder is
    baseline: Baseline | None = None  # residuals of it are learned; none: the targets themselves


def finetuning_start(workspace: Workspace, derivation: Derivation) -> FinetuningStart:
    """Make what a fine-tuned learner starts from.

    The backbone stands in for a multitask module that has seen too many of the rows that judge.
    """
    inputs, recipe = derivation.inputs, Recipe.from_doc(derivation.settings)
    data = FittingData.of(workspace, derivation, recipe)
    encoders = workspace.encoders(inputs["backbone"])
    method, kind = LearnerMethod(inputs["method"]), StartKind(inputs["start"])
    parameters, baseline, multitask = encoders.parameters(None, data.kind), None, None
    if kind is StartKind.COMPOSITION:
        composition = Composition.from_doc(workspace.store.record(inputs["composition"]))
        data = data.split_as(data.judged.unseen_by(composition.modules).split)
        parameters = encoders.merged(composition)
        baseline = Baseline.fit(data, composition) if inputs["readouts"] else None
    elif kind is StartKind.MULTITASK:
        multitask, judged = data.judged.unseen_by_multitask(inputs["multitask"])
        if multitask is None:
            kind = StartKind.BACKBONE
        else:
            data = data.split_as(judged.split)
            parameters = encoders.parameters(multitask, data.kind)
    start = _started(data, encoders, method, kind, parameters)
    return replace(start, multitask=multitask, baseline=baseline)


def _started(
    data: FittingData,
    encoders: Encoders,
    method: LearnerMethod,
    kind: StartKind,
    parameters: ParameterVector,
) -> FinetuningStart:
    adapted, settings = method is LearnerMethod.ADAPTED, data.recipe.finetune
    encoder = encoders.adaptable(parameters) if adapted else encoders.encoder(data.kind, parameters)
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    head.to(encoder.device)
    return FinetuningStart(
        data=data,
        encoders=encoders,
        method=method,
        kind=kind,
        multitask=None,
        encoder=encoder,
        head=head,
        trained=ModuleKind.ADAPTER if adapted else data.kind,
    )
