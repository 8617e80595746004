"""Computing estimates, compositions and modules: records and blobs out of records and blobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.datasets.segments import TRAIN, VALIDATION, LiveRows
from moma_cl.datasets.split import Roles, roles_of
from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.derivations.leakage import exclusion, exclusions_together
from moma_cl.learning.embedding import embed, last_mean
from moma_cl.learning.head import Head
from moma_cl.learning.leave_one_out import leave_one_out, winsorised
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import NETWORKS, fit_readout
from moma_cl.learning.training import TrainingSet, predict_graphs, train
from moma_cl.learning.weights import Weights, solve_weights
from moma_cl.properties.table import Transform
from moma_cl.recipe import EstimateSettings, Recipe
from moma_cl.records.records import Composition, Estimate, Module, Record, Task
from moma_cl.workspace.workspace import Workbench, software, threads
from moma_store.errors import IntegrityError
from moma_store.records import BlobLink

FloatArray = NDArray[np.float64]

PENDING_BLOB = BlobLink(digest="0" * 64, file="0" * 64, n_bytes=0)
"""Stands for the link to a blob that is not written yet; the store would refuse it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What a derivation gave, before it is stored.

    Attributes
    ----------
    record
        The record; `PENDING_BLOB` where there are arrays.
    arrays
        Arrays of its blob.
    base
        The blob from which its parameters differ little.
    """

    record: Record
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    base: BlobLink | None = None


def derive(bench: Workbench, derivation: Derivation) -> Derived:
    """Compute a derivation.

    Parameters
    ----------
    bench
        What it reads.
    derivation
        What to compute.

    Returns
    -------
    Derived
        The result; the same bits for the same derivation under equal software.
    """
    from moma_cl.derivations.predictor import fit_predictor

    recipe = Recipe.from_doc(derivation.settings)
    computations = {
        DerivationKind.ESTIMATE: estimate,
        DerivationKind.COMPOSITION: compose,
        DerivationKind.MODULE: train_module,
        DerivationKind.PREDICTOR: fit_predictor,
    }
    with threads(recipe.threads):
        return computations[derivation.kind](bench, derivation, recipe)


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
    known = _sample(roles.train, recipe.estimate.sample_rows) if inputs["sampled"] else roles.train
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
    targets = _estimate_targets(rows.targets[known], task, recipe.estimate)
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


def compose(bench: Workbench, derivation: Derivation, recipe: Recipe) -> Derived:
    """Find the weights of a task's modules.

    Parameters
    ----------
    bench
        What it reads.
    derivation
        Names the estimates, the backbone's first, the dataset, and whether it is of a sample.
    recipe
        The settings.

    Returns
    -------
    Derived
        A `Composition`.
    """
    inputs = derivation.inputs
    task = Task.from_doc(bench.store.record(inputs["task"]))
    estimates = [Estimate.from_doc(bench.store.record(digest)) for digest in inputs["estimates"]]
    rows = bench.rows(inputs["dataset"])
    roles = roles_of(rows, task.grouping, recipe.predictor)
    excluded = _excluded(bench, estimates, task, rows, roles)
    usable = [e for e in estimates if e.excluded is None and e.module not in excluded]
    backbone_objective = None
    if usable:
        known = roles.train
        if inputs.get("sampled"):
            known = _sample(known, recipe.estimate.sample_rows)
        targets = _estimate_targets(rows.targets[known], task, recipe.estimate)
        columns = np.stack([_predictions(bench, found) for found in usable], axis=1)
        weights = solve_weights(columns, targets, prune=recipe.weights.prune)
        backbone_objective = _backbone_objective(usable, columns, targets)
        values = {e.module: float(w) for e, w in zip(usable, weights.values, strict=True)}
    else:  # nothing is known of any module: the backbone as it is
        weights = Weights(values=np.ones(1), objective=1.0, duality_gap=0.0)
        values = {None: 1.0}
    chosen = {module: weight for module, weight in values.items() if module and weight > 0}
    record = Composition(
        dataset=inputs["dataset"],
        module=task.module.composed,
        modules=tuple(chosen),
        weights=tuple(chosen.values()),
        backbone_weight=values.get(None, 0.0),
        objective=weights.objective,
        backbone_objective=backbone_objective,
        duality_gap=weights.duality_gap,
        n_candidates=len(usable),
        excluded=dict(sorted(excluded.items())),
    )
    return Derived(record=record)


def _excluded(
    bench: Workbench, estimates: list[Estimate], task: Task, rows: LiveRows, roles: Roles
) -> dict[str, str]:
    """Say why modules are no candidates, by module: each alone, or beside better ones."""
    alone = {e.module: e.excluded for e in estimates if e.module and e.excluded}
    errors = {e.module: e.mae for e in estimates if e.module and e.mae is not None}
    best_first = sorted(errors, key=errors.__getitem__)
    return {**alone, **exclusions_together(bench, best_first, task, rows, roles)}


def _backbone_objective(
    usable: list[Estimate], columns: FloatArray, targets: FloatArray
) -> float | None:
    modules = [found.module for found in usable]
    if None not in modules:
        return None
    alone = columns[:, modules.index(None)] - targets
    return float(np.mean(alone**2) / max(targets.var(), np.finfo(float).tiny))


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


def _estimate_targets(targets: FloatArray, task: Task, settings: EstimateSettings) -> FloatArray:
    normalised = Normaliser.fit(targets, Transform(task.transform)).forward(targets)
    return winsorised(normalised, settings.winsorise)


def _predictions(bench: Workbench, found: Estimate) -> FloatArray:
    if found.blob is None:
        raise IntegrityError(f"the estimate of module {found.module} has no predictions")
    return np.asarray(bench.store.blob(found.blob).arrays["predictions"], dtype=np.float64)


def _sample(known: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    if len(known) <= size:
        return known
    return known[np.linspace(0, len(known) - 1, size).round().astype(np.int64)]
