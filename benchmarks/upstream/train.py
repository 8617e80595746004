"""Train one upstream module, as a hub trains a task's own, and store it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.upstream.answers import GRAPHS, folds_of, trained_answers
from benchmarks.upstream.rows import Materials, UpstreamRows, upstream_rows
from benchmarks.upstream.tasks import UpstreamTask
from benchmarks.upstream.upstream_hub import put_module, the_encoders
from moma_cl.core.software import software
from moma_cl.derivations.derived import PENDING_BLOB
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.head import Head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.training import TrainingSet, predict_graphs, train
from moma_cl.progress import quiet
from moma_cl.properties.table import canonical_property
from moma_cl.properties.units import canonical_unit
from moma_cl.recipe import TrainingSettings
from moma_cl.records.records import Module, ModuleKind
from moma_cl.workspace.encoders import Encoders
from moma_cl.workspace.workspace import Workspace
from moma_store.records import digest
from moma_store.store import Store

SETTINGS = TrainingSettings(
    batch_size=32,
    encoder_learning_rate=5e-4,
    patience=100,
    max_steps=1_000_000,
    # a third fewer bytes than 8 in the package; held-out errors change by less than 0.3 %
    rounded_bits=14,
)


def train_upstream(hub: Path, task: UpstreamTask, kind: ModuleKind, materials: Materials) -> Module:
    """Train a module and put it into a hub.

    Parameters
    ----------
    hub
        The hub that the modules are shipped from.
    task
        What to train on.
    kind
        Full or adapter.
    materials
        What it must not see.

    Returns
    -------
    Module
        The record, with the held-out error in its ``source``.
    """
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        encoders = the_encoders(workspace)
        rows = upstream_rows(task, encoders.backbone.elements, materials)
        record, arrays = _trained(encoders, task, kind, rows)
    return put_module(hub, task.name, record, arrays, encoders)


def _trained(
    encoders: Encoders, task: UpstreamTask, kind: ModuleKind, rows: UpstreamRows
) -> tuple[Module, dict[str, NDArray[Any]]]:
    settings = replace(SETTINGS, epochs=task.epochs)
    training, validation, held_out = folds_of(rows)
    normaliser = Normaliser.fit(rows.values[training], task.transform)
    encoder = encoders.encoder(kind, encoders.parameters(None, kind))
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    with ByteCache(GRAPHS) as cache:
        graphs = graphs_of(rows.crystals, encoders.backbone, cache)
    targets = normaliser.forward(rows.values)
    data = TrainingSet(graphs=graphs, targets=targets, train=training, validation=validation)
    report = train(encoder, head, data, settings, progress=counting(task.name))
    vector = encoders.round_parameters(encoder, kind, settings.rounded_bits)

    def mae(chosen: NDArray[np.int64]) -> float:
        answers = normaliser.inverse(predict_graphs(encoder, head, [graphs[i] for i in chosen]))
        return float(np.abs(answers - rows.values[chosen]).mean())

    known = np.concatenate([training, validation])
    answers, errors = trained_answers(task, rows, encoder, graphs)
    record = Module(
        backbone=digest(encoders.record.to_doc()),
        module=kind,
        property=canonical_property(task.column),
        dataset=None,
        blob=PENDING_BLOB,
        n_train=len(training),
        n_validation=len(validation),
        validation_mae=mae(validation),
        unit=canonical_unit(task.unit),
        epochs=report.epochs,
        settings={"module": asdict(settings), "threads": 1},
        made_by=dict(software()),
        source=_source(task, rows, mae(held_out)),
        answers=errors,
        target=task.column,
        transform=task.transform,
    )
    return record, {
        "parameters": vector,
        "fingerprints": np.sort(rows.fingerprints[known]),
        **answers.to_arrays(),
    }


def _source(task: UpstreamTask, rows: UpstreamRows, held_out_mae: float) -> dict[str, Any]:
    """Say what data a module comes from, and how it errs beside always answering the median."""
    training, _, held_out = folds_of(rows)
    centre = np.median(rows.values[training])
    return {
        "data": list(task.sources),
        "column": task.column,
        "left_out": rows.n_left_out,
        "held_out_mae": held_out_mae,
        "n_held_out": len(held_out),
        "held_out_mae_of_median": float(np.abs(rows.values[held_out] - centre).mean()),
    }


def counting(name: str) -> Callable[[int, int], None]:
    """Print every hundredth step of a training."""

    def tell(done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"  {name}: step {done} of {total}", flush=True)

    return tell
