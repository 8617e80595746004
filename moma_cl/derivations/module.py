"""The module of a task: the backbone, specialised."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from moma_cl.backbones.base import Backbone
from moma_cl.core.software import made_by
from moma_cl.datasets.segments import HELD_OUT, TRAIN, VALIDATION, LiveRows
from moma_cl.derivations.derived import PENDING_BLOB, Computed, Derived
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.trainings import Training, train_together
from moma_cl.learning.embedding import embed
from moma_cl.learning.head import Head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import module_readout
from moma_cl.learning.training import TrainingReport, TrainingSet, predict_graphs
from moma_cl.predictors.module_answers import ModuleAnswers, ModuleRows, answer_errors, sample
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Module, Task
from moma_cl.workspace.encoders import Encoders
from moma_cl.workspace.workspace import Workspace


def train_module(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:  # noqa: ARG001  what all computations are given
    """Specialise a backbone to one task.

    The result is a `Module`; its blob has the parameters, the fingerprints of the structures that
    it was trained on, and what it takes to answer: `ModuleAnswers`.
    """
    with closing(train_modules(workspace, [derivation])) as trained:
        return next(trained).result()


def train_modules(workspace: Workspace, derivations: Sequence[Derivation]) -> Generator[Computed]:
    """Specialise several backbones to one task at the same time, as `train_together` does."""
    return train_together(workspace, f"module {derivations[0].task}", derivations, _training)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Start:
    """What becomes a module, and what it is trained on."""

    task: Task
    rows: LiveRows
    normaliser: Normaliser
    encoders: Encoders  # of its backbone
    encoder: Backbone  # what is trained, with the head
    head: Head
    data: TrainingSet


def _training(workspace: Workspace, derivation: Derivation) -> Training:
    inputs, settings = derivation.inputs, Recipe.from_doc(derivation.settings).module
    task = Task.from_doc(workspace.store.record(inputs["task"]))
    rows = workspace.rows(inputs["dataset"])
    training = rows.in_fold(TRAIN)
    normaliser = Normaliser.fit(rows.targets[training], Transform(task.transform))
    encoders = workspace.encoders(inputs["backbone"])
    encoder = encoders.encoder(task.module, encoders.parameters(None, task.module))
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    head.to(encoder.device)
    data = TrainingSet(
        graphs=encoders.graphs(rows),
        targets=normaliser.forward(rows.targets),
        train=training,
        validation=rows.in_fold(VALIDATION),
    )
    start = _Start(
        task=task,
        rows=rows,
        normaliser=normaliser,
        encoders=encoders,
        encoder=encoder,
        head=head,
        data=data,
    )
    finish = partial(_module, workspace, derivation, start)
    return Training(encoder=encoder, head=head, data=data, settings=settings, finish=finish)


def _module(
    workspace: Workspace, derivation: Derivation, start: _Start, report: TrainingReport
) -> Derived:
    """Round the parameters that were trained, and fit what it takes to answer."""
    recipe = Recipe.from_doc(derivation.settings)
    task, rows, data, encoder = start.task, start.rows, start.data, start.encoder
    vector = start.encoders.round_parameters(encoder, task.module, recipe.module.rounded_bits)
    predicted = predict_graphs(encoder, start.head, [data.graphs[row] for row in data.validation])
    errors = np.abs(start.normaliser.inverse(predicted) - rows.targets[data.validation])
    embedded = embed(encoder, data.graphs, recipe.embedding)
    readout = module_readout(
        embedded, data.targets, data.train, data.validation, encoder.feature_dim
    )
    learned = np.concatenate([data.train, data.validation])
    split = sample(data.train, data.validation, rows.in_fold(HELD_OUT))
    answers = ModuleAnswers.fit(
        readout,
        start.normaliser,
        ModuleRows(
            split=split,
            embeddings=embedded,
            feature_dim=encoder.feature_dim,
            targets=data.targets,
            fingerprints=rows.fingerprints,
            learned=workspace.crystals(rows, learned),
            points=workspace.crystals(rows, [*split.train, *split.validation]),
        ),
    )
    record = replace(
        _record(workspace, derivation, task, float(errors.mean()), report.epochs),
        answers=answer_errors(
            task.unit,
            rows.targets[data.train],
            rows.targets[split.held_out],
            start.normaliser.inverse(readout.predict(embedded[split.held_out])),
        ),
    )
    fingerprints = np.sort(rows.fingerprints[learned])
    arrays = {"parameters": vector, "fingerprints": fingerprints, **answers.to_arrays()}
    return Derived(record=record, arrays=arrays, base=start.encoders.base(task.module))


def _record(
    workspace: Workspace, derivation: Derivation, task: Task, validation_mae: float, epochs: int
) -> Module:
    dataset = workspace.dataset(derivation.inputs["dataset"])
    return Module(
        backbone=derivation.inputs["backbone"],
        module=task.module,
        property=task.property,
        dataset=derivation.inputs["dataset"],
        blob=PENDING_BLOB,
        n_train=dataset.n_train,
        n_validation=dataset.n_validation,
        validation_mae=validation_mae,
        unit=task.unit,
        epochs=epochs,
        settings=dict(derivation.settings),
        made_by=dict(made_by(workspace.device)),
        source={},
        target=task.target,
        transform=Transform(task.transform),
    )
