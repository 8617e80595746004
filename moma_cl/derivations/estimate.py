"""The estimate of one module for one task: its rows predicted from each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import roles_of
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.estimate_targets import estimate_targets, sampled_rows
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import exclusion
from moma_cl.learning.embedding import embed, last_mean
from moma_cl.learning.leave_one_out import leave_one_out
from moma_cl.recipe import EstimateSettings, Recipe
from moma_cl.records.records import Estimate, Task
from moma_cl.workspace.workspace import Workbench


def estimate(bench: Workbench, derivation: Derivation, recipe: Recipe) -> Derived:
    """Predict a task's rows from each other in one module's embedding space.

    Parameters
    ----------
    bench
        What it reads.
    derivation
        Names module, task and dataset, and whether a sample of rows is enough.
    recipe
        The settings.

    Returns
    -------
    Derived
        An `Estimate`, with a blob of predictions unless the module is excluded.
    """
    inputs = derivation.inputs
    task = Task.from_doc(bench.store.record(inputs["task"]))
    rows = bench.rows(inputs["dataset"])
    roles = roles_of(rows, task.grouping, recipe.predictor)
    known = (
        sampled_rows(roles.train, recipe.estimate.sample_rows) if inputs["sampled"] else roles.train
    )
    common: dict[str, Any] = {"module": inputs["module"], "dataset": inputs["dataset"]}
    version, reason = recipe.estimate.version, None
    if inputs["module"] is not None:
        reason = exclusion(bench, inputs["module"], task, rows, roles, version=version)
    if reason is None and len(known) < 3:
        reason = f"{len(known)} training rows are too few for leave-one-out prediction"
    if reason is not None:
        return Derived(record=Estimate(**common, blob=None, mae=None, excluded=reason))
    embedded = _embedded(bench, derivation, recipe, rows, known)
    features = _features(embedded, bench, recipe.estimate)
    targets = estimate_targets(rows.targets[known], task, recipe.estimate)
    if not np.all(np.isfinite(features)):
        reason = "its embeddings of this task's structures are not finite"
        return Derived(record=Estimate(**common, blob=None, mae=None, excluded=reason))
    predictions = leave_one_out(features, targets, rows.fingerprints[known], recipe.estimate)
    if not np.all(np.isfinite(predictions)):
        reason = "some rows have no neighbour: all others are near-duplicates of them"
        return Derived(record=Estimate(**common, blob=None, mae=None, excluded=reason))
    mae = float(np.abs(predictions - targets).mean())
    record = Estimate(**common, blob=PENDING_BLOB, mae=mae, excluded=None)
    return Derived(record=record, arrays={"predictions": predictions})


def _embedded(
    bench: Workbench,
    derivation: Derivation,
    recipe: Recipe,
    rows: LiveRows,
    known: NDArray[np.int64],
) -> NDArray[np.float32]:
    task = Task.from_doc(bench.store.record(derivation.inputs["task"]))
    kind = task.module.composed
    vector = bench.parameters(derivation.inputs["module"], kind)
    if not derivation.inputs["sampled"]:
        return bench.embeddings(kind, vector, rows, recipe.embedding)[known]
    graphs = bench.graphs(rows)  # screening many modules is worth no cache
    return embed(
        bench.embedder(kind, vector),
        [graphs[row] for row in known],
        recipe.embedding,
    )


def _features(
    embedded: NDArray[np.float32], bench: Workbench, settings: EstimateSettings
) -> FloatArray:
    if settings.readout == "mean":
        return last_mean(embedded, bench.backbone.feature_dim)
    return embedded.astype(np.float64)
