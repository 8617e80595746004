"""The module of a task: the backbone, specialised."""

from __future__ import annotations

import numpy as np

from moma_cl.datasets.segments import TRAIN, VALIDATION
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.keys import Derivation
from moma_cl.learning.embedding import embed
from moma_cl.learning.head import Head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import NETWORKS, fit_readout
from moma_cl.learning.training import TrainingSet, predict_graphs, train
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Module, Task
from moma_cl.workspace.workspace import Workbench, software


def train_module(bench: Workbench, derivation: Derivation, recipe: Recipe) -> Derived:
    """Specialise the backbone to one task.

    Parameters
    ----------
    bench
        What it reads.
    derivation
        Names hub, task and dataset.
    recipe
        The settings.

    Returns
    -------
    Derived
        A `Module` with its parameters, its readout and the fingerprints of what it was trained on.
    """
    inputs = derivation.inputs
    task = Task.from_doc(bench.store.record(inputs["task"]))
    dataset = bench.dataset(inputs["dataset"])
    rows = bench.rows(inputs["dataset"])
    training, validation = rows.in_fold(TRAIN), rows.in_fold(VALIDATION)
    normaliser = Normaliser.fit(rows.targets[training], Transform(task.transform))
    settings = recipe.module
    encoder = bench.encoder(task.module, bench.parameters(None, task.module))
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    graphs = bench.graphs(rows)
    report = train(
        encoder,
        head,
        TrainingSet(
            graphs=graphs,
            targets=normaliser.forward(rows.targets),
            train=training,
            validation=validation,
        ),
        settings,
        progress=lambda done, total: bench.progress(f"module {task.name}", done, total),
    )
    vector = bench.round_parameters(encoder, task.module, settings.rounded_bits)
    answers = predict_graphs(encoder, head, [graphs[row] for row in validation])
    errors = np.abs(normaliser.inverse(answers) - rows.targets[validation])
    record = Module(
        hub=inputs["hub"],
        module=task.module,
        property=task.property,
        dataset=inputs["dataset"],
        blob=PENDING_BLOB,
        n_train=dataset.n_train,
        n_validation=dataset.n_validation,
        validation_mae=float(errors.mean()),
        unit=task.unit,
        epochs=report.epochs,
        settings=dict(derivation.settings),
        made_by=dict(software()),
        source={},
    )
    known = np.concatenate([training, validation])
    embedded = embed(encoder, [graphs[row] for row in known], recipe.embedding)
    readout = fit_readout(
        embedded,
        normaliser.forward(rows.targets[known]),
        len(training),
        networks=settings.version >= NETWORKS,
    )
    return Derived(
        record=record,
        arrays={
            "parameters": vector,
            "fingerprints": np.sort(rows.fingerprints[known]),
            **readout.to_arrays(),
        },
        base=bench.base(task.module),
    )
