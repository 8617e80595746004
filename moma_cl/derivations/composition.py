"""The composition of a task: the weights of its modules."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.datasets.split import split_of
from moma_cl.derivations.derived import Derived
from moma_cl.derivations.estimate_targets import estimate_targets
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import JudgedRows
from moma_cl.learning.sampling import evenly_spaced
from moma_cl.learning.weights import Weights, solve_weights
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Estimate, Task
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import IntegrityError


def compose(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Find the weights of a task's modules: a `Composition`, of a sample of the rows if asked."""
    inputs, store = derivation.inputs, workspace.store
    task = Task.from_doc(store.record(inputs["task"]))
    estimates = [Estimate.from_doc(store.record(digest)) for digest in inputs["estimates"]]
    rows = workspace.rows(inputs["dataset"])
    split = split_of(rows, task.grouping, recipe.predictor)
    excluded = _excluded(JudgedRows(workspace, task, rows, split), estimates)
    usable = [e for e in estimates if e.excluded is None and e.module not in excluded]
    backbone_objective = None
    if usable:
        training = split.train
        if inputs.get("sampled"):
            training = training[evenly_spaced(len(training), recipe.estimate.sample_rows)]
        targets = estimate_targets(rows.targets[training], task, recipe.estimate)
        columns = np.stack([_predictions(workspace, one) for one in usable], axis=1)
        solution = solve_weights(columns, targets, prune=recipe.weights.prune)
        backbone_objective = _backbone_objective(usable, columns, targets)
    else:  # no module has an estimate: the backbone as it is
        solution = Weights(values=np.ones(1), objective=1.0, duality_gap=0.0)
    modules = [estimate.module for estimate in usable] or [None]
    weights = dict(zip(modules, map(float, solution.values), strict=True))
    chosen = {module: weight for module, weight in weights.items() if module and weight > 0}
    composition = Composition(
        backbone=inputs["backbone"],
        dataset=inputs["dataset"],
        module=task.module.composed,
        modules=tuple(chosen),
        weights=tuple(chosen.values()),
        backbone_weight=weights.get(None, 0.0),
        objective=solution.objective,
        backbone_objective=backbone_objective,
        duality_gap=solution.duality_gap,
        n_candidates=len(usable),
        excluded=dict(sorted(excluded.items())),
    )
    return Derived(record=composition)


def _excluded(judged: JudgedRows, estimates: list[Estimate]) -> dict[str, str]:
    """Say why modules are no candidates, by module: each alone, or beside better ones."""
    alone = {e.module: e.excluded for e in estimates if e.module and e.excluded}
    errors = {e.module: e.mae for e in estimates if e.module and e.mae is not None}
    best_first = sorted(errors, key=errors.__getitem__)
    return {**alone, **judged.exclusions_together(best_first)}


def _backbone_objective(
    usable: list[Estimate], columns: FloatArray, targets: FloatArray
) -> float | None:
    modules = [estimate.module for estimate in usable]
    if None not in modules:
        return None
    alone = columns[:, modules.index(None)] - targets
    return float(np.mean(alone**2) / max(targets.var(), np.finfo(float).tiny))


def _predictions(workspace: Workspace, estimate: Estimate) -> FloatArray:
    if estimate.blob is None:
        raise IntegrityError(f"the estimate of module {estimate.module} has no predictions")
    return np.asarray(workspace.store.blob(estimate.blob).arrays["predictions"], dtype=np.float64)
