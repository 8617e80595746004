"""What modules have seen of a task already, and why that must not judge.

A module that was trained on the formation energy of a crystal says more of it than of one that it
has not seen. That is no reason to do without the module, but one not to judge by that crystal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import Roles
from moma_cl.properties.table import same_or_determines
from moma_cl.records.records import Calibration, Composition, Module, ModuleKind, Predictor, Task
from moma_cl.structures.fingerprints import known_in
from moma_cl.workspace.workspace import Workbench

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
    module = _module(bench, module_digest)
    if not same_or_determines(module.property, task.property):
        return None
    fingerprints = _fingerprints(bench, module)
    if len(fingerprints) == 0:
        return (
            f"its property {module.property} is or determines {task.property}, and nobody knows "
            "on which structures it was trained"
        )
    folds = _judging(roles)
    seen = known_in(rows.fingerprints, fingerprints)
    n_seen, n_judged = sum(int(seen[fold].sum()) for fold in folds), sum(map(len, folds))
    if n_seen == 0 or (version >= TOLERANT and _enough_judge(seen, roles)):
        return None
    return (
        f"its property {module.property} is or determines {task.property}, and it was trained on "
        f"{n_seen} of {n_judged} structures by which this task is judged"
    )


def exclusions_together(
    bench: Workbench, modules: Sequence[str], task: Task, rows: LiveRows, roles: Roles
) -> dict[str, str]:
    """Say which of some candidates must not stand beside those before them.

    Each alone may leave rows enough to judge by, and all of them none.

    Parameters
    ----------
    bench
        Reads the hub.
    modules
        Candidates that `exclusion` does not exclude, the best first.
    task
        The task.
    rows
        Its rows.
    roles
        What each row is used for.

    Returns
    -------
    dict[str, str]
        The reason, by module; those that are not named leave rows enough together.
    """
    excluded = {}
    before = np.zeros(len(rows.fingerprints), np.bool_)
    for digest in modules:
        together = before | seen_by(bench, [digest], task, rows)
        if np.array_equal(together, before) or _enough_judge(together, roles):
            before = together
        else:
            excluded[digest] = (
                "beside the candidates that err less it would leave too few structures by which "
                "this task is judged and on which none of them was trained"
            )
    return excluded


def _judging(roles: Roles) -> list[NDArray[np.int64]]:
    """Give the folds that judge; in a cross-validation every row does in its turn."""
    if roles.calibration == Calibration.HELD_OUT:
        return [roles.validation, roles.held_out]
    return [np.concatenate([roles.train, roles.held_out])]


def _enough_judge(seen: NDArray[np.bool_], roles: Roles) -> bool:
    folds = _judging(roles)
    by_folds = roles.calibration == Calibration.HELD_OUT
    if by_folds and min(int((~seen[fold]).sum()) for fold in folds) >= MIN_UNSEEN:
        return True
    return sum(int(seen[fold].sum()) for fold in folds) <= MOST_SEEN * sum(map(len, folds))


def judged_by_unseen(
    bench: Workbench, modules: Sequence[str], task: Task, rows: LiveRows, roles: Roles
) -> Roles:
    """Leave to the deciding and calibrating folds only what none of some modules has seen.

    Parameters
    ----------
    bench
        Reads the hub.
    modules
        Digests.
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
    if roles.calibration != Calibration.HELD_OUT:
        return roles
    seen = seen_by(bench, modules, task, rows)
    validation, held_out = (fold[~seen[fold]] for fold in (roles.validation, roles.held_out))
    return replace(roles, validation=validation, held_out=held_out)


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
        The module; none where too few rows would be left to judge it, or nobody knows what it has
        seen.
    roles
        The roles; rows that it has seen have none.
    """
    if multitask is None or not _tells_what_it_saw(bench, _module(bench, multitask)):
        return None, roles
    left = judged_by_unseen(bench, [multitask], task, rows, roles)
    for before, after in ((roles.validation, left.validation), (roles.held_out, left.held_out)):
        if len(after) < min(len(before), MIN_UNSEEN):
            return None, roles
    return multitask, left


def seen_by(
    bench: Workbench, modules: Iterable[str], task: Task, rows: LiveRows
) -> NDArray[np.bool_]:
    """Find the rows whose property modules were trained on.

    Parameters
    ----------
    bench
        Reads the hub.
    modules
        Digests.
    task
        The task.
    rows
        Its rows.

    Returns
    -------
    NDArray[np.bool_]
        Whether any of the modules has seen the structure with a property that is or determines the
        task's, shape ``(n_rows,)``.
    """
    seen = np.zeros(len(rows.fingerprints), np.bool_)
    for module in (_module(bench, digest) for digest in modules):
        if any(same_or_determines(name, task.property) for name in properties_of(module)):
            seen |= known_in(rows.fingerprints, _fingerprints(bench, module))
    return seen


def behind(bench: Workbench, predictor: Predictor) -> list[str]:
    """List the modules that a predictor was made from.

    Parameters
    ----------
    bench
        Reads the hub.
    predictor
        The predictor.

    Returns
    -------
    list[str]
        Digests: those composed, and one that was fine-tuned beside them.
    """
    composed = Composition.from_doc(bench.store.record(predictor.composition)).modules
    return [*composed, *filter(None, [predictor.multitask])]


def _module(bench: Workbench, digest: str) -> Module:
    return Module.from_doc(bench.store.record(digest))


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
        return tuple(module.source.get("properties", ()))
    return (module.property,)


def _tells_what_it_saw(bench: Workbench, module: Module) -> bool:
    return len(properties_of(module)) > 0 and len(_fingerprints(bench, module)) > 0


def _fingerprints(bench: Workbench, module: Module) -> NDArray[np.uint64]:
    return bench.store.blob(module.blob, ["fingerprints"]).arrays["fingerprints"].astype(np.uint64)
