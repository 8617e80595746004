"""The estimate of one module for one task: its rows predicted from each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import split_of
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.estimate_targets import estimate_targets
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import JudgedRows
from moma_cl.learning.embedding import embed, last_mean
from moma_cl.learning.estimate import leave_one_out_predictions
from moma_cl.learning.sampling import evenly_spaced
from moma_cl.recipe import Recipe
from moma_cl.records.records import Estimate, Task
from moma_cl.workspace.workspace import Workspace


def estimate(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Predict a task's rows from each other in one module's embedding space, or some rows if asked.

    The result is an `Estimate`, with a blob of predictions unless the module is excluded.
    """
    inputs = derivation.inputs
    task = Task.from_doc(workspace.store.record(inputs["task"]))
    rows = workspace.rows(inputs["dataset"])
    split = split_of(rows, task.grouping, recipe.predictor)
    training = split.train
    if inputs["sampled"]:
        training = training[evenly_spaced(len(training), recipe.estimate.sample_rows)]
    common: dict[str, Any] = {name: inputs[name] for name in ("backbone", "module", "dataset")}

    def excluded(reason: str) -> Derived:
        return Derived(record=Estimate(**common, blob=None, mae=None, excluded=reason))

    if inputs["module"] is not None:
        judged = JudgedRows(workspace, task, rows, split)
        reason = judged.exclusion(inputs["module"])
        if reason is not None:
            return excluded(reason)
    if len(training) < 3:
        return excluded(f"{len(training)} training rows are too few for leave-one-out prediction")
    features = _features(workspace, derivation, recipe, rows, training)
    targets = estimate_targets(rows.targets[training], task, recipe.estimate)
    if not np.all(np.isfinite(features)):
        return excluded("its embeddings of this task's structures are not finite")
    groups = rows.fingerprints[training]
    predictions = leave_one_out_predictions(features, targets, groups, recipe.estimate)
    if not np.all(np.isfinite(predictions)):
        return excluded("some rows have no neighbour: all others are near-duplicates of them")
    mae = float(np.abs(predictions - targets).mean())
    record = Estimate(**common, blob=PENDING_BLOB, mae=mae, excluded=None)
    return Derived(record=record, arrays={"predictions": predictions})


def _features(
    workspace: Workspace, derivation: Derivation, recipe: Recipe, rows: LiveRows, training: IntArray
) -> FloatArray:
    """Embed the training rows by the module, or by the backbone."""
    inputs = derivation.inputs
    kind = Task.from_doc(workspace.store.record(inputs["task"])).module.composed
    encoders = workspace.encoders(inputs["backbone"])
    vector = encoders.parameters(inputs["module"], kind)
    if inputs["sampled"]:  # screening many modules is worth no cache
        graphs = encoders.graphs(rows)
        chosen = [graphs[row] for row in training]
        embedded = embed(encoders.embedder(kind, vector), chosen, recipe.embedding)
    else:
        embedded = encoders.embeddings(kind, vector, rows, recipe.embedding)[training]
    if recipe.estimate.readout == "mean":
        return last_mean(embedded, encoders.backbone.feature_dim)
    return embedded.astype(np.float64)
