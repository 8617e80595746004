"""The composition of a task: the weights of its modules."""

from __future__ import annotations

import numpy as np

from moma_cl.arraytypes import FloatArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import Roles, roles_of
from moma_cl.derivations.derived import Derived
from moma_cl.derivations.estimate_targets import estimate_targets, sampled_rows
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import exclusions_together
from moma_cl.learning.weights import Weights, solve_weights
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Estimate, Task
from moma_cl.workspace.workspace import Workbench
from moma_store.errors import IntegrityError


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
            known = sampled_rows(known, recipe.estimate.sample_rows)
        targets = estimate_targets(rows.targets[known], task, recipe.estimate)
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


def _predictions(bench: Workbench, found: Estimate) -> FloatArray:
    if found.blob is None:
        raise IntegrityError(f"the estimate of module {found.module} has no predictions")
    return np.asarray(bench.store.blob(found.blob).arrays["predictions"], dtype=np.float64)
