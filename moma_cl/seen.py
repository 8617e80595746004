"""What modules have seen of a task already, and why that must not judge.

A module that was trained on the formation energy of a crystal says more of it than of one that it
has not seen. That is no reason to do without the module, but one not to judge by that crystal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moma_cl.datasets import LiveRows
from moma_cl.properties import same_or_determines
from moma_cl.records import Calibration, Composition, Module, ModuleKind, Task
from moma_cl.roles import Roles
from moma_cl.structures.fingerprints import known_in
from moma_cl.workbench import Workbench

TOLERANT = 2  # version of estimates from which on a module may have seen some rows that judge
UNSEEN_ONLY = 3  # version of predictors from which on only the others judge
MOST_SEEN = 0.05  # of the rows that judge: a common crystal must not cost a task its best module
MIN_UNSEEN = 30  # rows of each fold that must be left to judge where more were seen


def exclusion(
    bench: Workbench,
    module_digest: str,
    task: Task,
    rows: LiveRows,
    roles: Roles,
    *,
    version: int,
) -> str | None:
    """Say why a module must not be a candidate: it has seen answers that the task is judged by.

    Parameters
    ----------
    bench
        Reads the hub.
    module_digest
        The module.
    task
        The task.
    rows
        Its rows.
    roles
        What each row is used for.
    version
        Of estimates; in the first a single row that judges is too many.

    Returns
    -------
    str | None
        The reason; none where it may be a candidate.
    """
    module = Module.from_doc(bench.store.record(module_digest))
    if not same_or_determines(module.property, task.property):
        return None
    fingerprints = _fingerprints(bench, module)
    if len(fingerprints) == 0:
        return (
            f"its property {module.property} is or determines {task.property}, and nobody knows "
            "on which structures it was trained"
        )
    seen = known_in(rows.fingerprints, fingerprints)
    # in a cross-validation every row judges in its turn
    by_folds = roles.calibration == Calibration.HELD_OUT
    folds = [roles.validation, roles.held_out] if by_folds else [np.arange(len(seen))]
    n_seen, n_judged = sum(int(seen[fold].sum()) for fold in folds), sum(map(len, folds))
    if n_seen == 0:
        return None
    if version >= TOLERANT:
        enough = by_folds and min(int((~seen[fold]).sum()) for fold in folds) >= MIN_UNSEEN
        if enough or n_seen <= MOST_SEEN * n_judged:
            return None
    return (
        f"its property {module.property} is or determines {task.property}, and it was trained on "
        f"{n_seen} of {n_judged} structures by which this task is judged"
    )


def judged_by_unseen(
    bench: Workbench, composition: Composition, task: Task, rows: LiveRows, roles: Roles
) -> Roles:
    """Leave to the deciding and calibrating folds only what no module of a composition has seen.

    Parameters
    ----------
    bench
        Reads the hub.
    composition
        The composition.
    task
        The task.
    rows
        Its rows.
    roles
        What each row is used for.

    Returns
    -------
    Roles
        The roles; rows that were seen have none.
    """
    for digest in composition.modules:
        roles = _without_seen(bench, digest, task, rows, roles)
    return roles


def unseen_beside(
    bench: Workbench, multitask: str | None, task: Task, rows: LiveRows, roles: Roles
) -> tuple[str | None, Roles]:
    """Leave to the deciding and calibrating folds only what a multitask module has not seen.

    Parameters
    ----------
    bench
        Reads the hub.
    multitask
        The module that would be fine-tuned beside the composed encoder.
    task
        The task.
    rows
        Its rows.
    roles
        What each row is used for.

    Returns
    -------
    multitask
        The module; none where too few rows would be left to judge it.
    roles
        The roles; rows that it has seen have none.
    """
    if multitask is None:
        return None, roles
    left = _without_seen(bench, multitask, task, rows, roles)
    for before, after in ((roles.validation, left.validation), (roles.held_out, left.held_out)):
        if len(after) < min(len(before), MIN_UNSEEN):
            return None, roles
    return multitask, left


def _without_seen(bench: Workbench, digest: str, task: Task, rows: LiveRows, roles: Roles) -> Roles:
    module = Module.from_doc(bench.store.record(digest))
    known = any(same_or_determines(name, task.property) for name in properties_of(module))
    if not known or roles.calibration != Calibration.HELD_OUT:
        return roles
    seen = known_in(rows.fingerprints, _fingerprints(bench, module))
    validation, held_out = (fold[~seen[fold]] for fold in (roles.validation, roles.held_out))
    return replace(roles, validation=validation, held_out=held_out)


def properties_of(module: Module) -> tuple[str, ...]:
    """Name what a module was trained to predict.

    Parameters
    ----------
    module
        The module.

    Returns
    -------
    tuple[str, ...]
        Canonical names of properties: one, or those of a multitask module.
    """
    if module.module == ModuleKind.MULTITASK:
        return tuple(module.source["properties"])
    return (module.property,)


def _fingerprints(bench: Workbench, module: Module) -> NDArray[np.uint64]:
    return bench.store.blob(module.blob, ["fingerprints"]).arrays["fingerprints"].astype(np.uint64)
