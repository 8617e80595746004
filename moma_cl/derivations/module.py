"""The module of a task: the backbone, specialised."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from moma_cl.core.software import made_by
from moma_cl.datasets.segments import HELD_OUT, TRAIN, VALIDATION
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.keys import Derivation
from moma_cl.learning.embedding import embed
from moma_cl.learning.head import Head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import module_readout
from moma_cl.learning.training import TrainingSet, predict_graphs, train
from moma_cl.predictors.module_answers import ModuleAnswers, ModuleRows, answer_errors, sample
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Module, Task
from moma_cl.workspace.workspace import Workspace


def train_module(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Specialise the backbone to one task.

    The result is a `Module`; its blob has the parameters, the fingerprints of the structures that
    it was trained on, and what it takes to answer: `ModuleAnswers`.
    """
    inputs, settings = derivation.inputs, recipe.module
    task = Task.from_doc(workspace.store.record(inputs["task"]))
    rows = workspace.rows(inputs["dataset"])
    training, validation = rows.in_fold(TRAIN), rows.in_fold(VALIDATION)
    normaliser = Normaliser.fit(rows.targets[training], Transform(task.transform))
    targets = normaliser.forward(rows.targets)
    encoders = workspace.encoders(inputs["backbone"])
    encoder = encoders.encoder(task.module, encoders.parameters(None, task.module))
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    head.to(encoder.device)
    graphs = encoders.graphs(rows)
    data = TrainingSet(graphs=graphs, targets=targets, train=training, validation=validation)
    progress = partial(workspace.progress, f"module {task.name}")
    report = train(encoder, head, data, settings, progress=progress)
    vector = encoders.round_parameters(encoder, task.module, settings.rounded_bits)
    predicted = predict_graphs(encoder, head, [graphs[row] for row in validation])
    errors = np.abs(normaliser.inverse(predicted) - rows.targets[validation])
    learned = np.concatenate([training, validation])
    embedded = embed(encoder, graphs, recipe.embedding)
    readout = module_readout(embedded, targets, training, validation, encoder.feature_dim)
    split = sample(training, validation, rows.in_fold(HELD_OUT))
    answers = ModuleAnswers.fit(
        readout,
        normaliser,
        ModuleRows(
            split=split,
            embeddings=embedded,
            feature_dim=encoder.feature_dim,
            targets=targets,
            fingerprints=rows.fingerprints,
            learned=workspace.crystals(rows, learned),
            points=workspace.crystals(rows, [*split.train, *split.validation]),
        ),
    )
    record = replace(
        _record(workspace, derivation, task, float(errors.mean()), report.epochs),
        answers=answer_errors(
            task.unit,
            rows.targets[training],
            rows.targets[split.held_out],
            normaliser.inverse(readout.predict(embedded[split.held_out])),
        ),
    )
    fingerprints = np.sort(rows.fingerprints[learned])
    arrays = {"parameters": vector, "fingerprints": fingerprints, **answers.to_arrays()}
    return Derived(record=record, arrays=arrays, base=encoders.base(task.module))


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
