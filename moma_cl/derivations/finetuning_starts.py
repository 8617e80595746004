"""What the fine-tuned learners of a predictor start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moma_cl.backbones.base import Backbone
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.learning.head import Head
from moma_cl.predictors.artifact import EncoderSlot
from moma_cl.predictors.module_readouts import ReadoutBaseline
from moma_cl.records.records import ModuleKind

# names of starts, in a predictor's errors
FROM_COMPOSITION = "finetuned from composition"
FROM_BACKBONE = "finetuned from backbone"
FROM_MULTITASK = "finetuned from multitask"  # in its place, where the hub has such a module
ADAPTED_COMPOSITION = "adapted composition"
ADAPTED_BACKBONE = "adapted backbone"


@dataclass(slots=True, kw_only=True)
class Start:
    """An encoder and a fresh head, which fine-tuning trains in place."""

    name: str  # of the start
    encoder: Backbone  # what is trained, with the head
    head: Head
    slot: EncoderSlot  # where the encoder is stored
    baseline: ReadoutBaseline | None  # residuals of it are learned; none: the targets themselves


def finetuning_starts(data: FittingData, baseline: ReadoutBaseline | None) -> Iterator[Start]:
    """Make the starts of a predictor's fine-tuned learners.

    They are the composition and, beside it, a multitask module or the backbone, then adapters of
    the composition and of the backbone. Gradients can make more of a start than its frozen features
    promise, or less: the weights tell which modules are of use to a task, not whether any is a
    better start than the backbone. Adapters change less of the encoder.
    """
    workspace, composition = data.workspace, data.composition
    kind = composition.module
    composed = bool(composition.modules)
    if composed:
        encoder = workspace.encoder(kind, data.composed)
        yield _start(data, FROM_COMPOSITION, encoder, EncoderSlot.FIRST, baseline)
    name = FROM_MULTITASK if data.multitask else FROM_BACKBONE
    encoder = workspace.encoder(kind, workspace.parameters(data.multitask, kind))
    yield _start(data, name, encoder, EncoderSlot.FIRST)
    if kind != ModuleKind.FULL or not data.recipe.predictor.adapters:
        return
    if composed:
        encoder = workspace.adaptable(data.composed)
        yield _start(data, ADAPTED_COMPOSITION, encoder, EncoderSlot.ADAPTERS, baseline)
    encoder = workspace.adaptable(workspace.parameters(None, kind))
    yield _start(data, ADAPTED_BACKBONE, encoder, EncoderSlot.BACKBONE_ADAPTERS)


def _start(
    data: FittingData,
    name: str,
    encoder: Backbone,
    slot: EncoderSlot,
    baseline: ReadoutBaseline | None = None,
) -> Start:
    settings = data.recipe.finetune
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    head.to(encoder.device)
    return Start(name=name, encoder=encoder, head=head, slot=slot, baseline=baseline)
