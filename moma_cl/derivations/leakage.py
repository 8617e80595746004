"""Which rows of a task modules were trained on already: those rows must not judge the modules.

A module that was trained on the formation energy of a crystal predicts it better than that of a
crystal it has not seen. That is no reason to do without the module, but one not to judge it by that
crystal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import IntArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import Split
from moma_cl.properties.table import same_or_determines
from moma_cl.records.records import Calibration, Composition, Module, ModuleKind, Predictor, Task
from moma_cl.structures.fingerprints import known_in
from moma_cl.workspace.workspace import Workspace

MOST_SEEN = 0.05  # of the rows that judge: a common crystal must not cost a task its best module
MIN_UNSEEN = 30  # rows of each fold that must be left to judge where more were seen


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRows:
    """The rows of a task, and which of them judge the modules it may use."""

    workspace: Workspace
    task: Task
    rows: LiveRows  # live ones of the task
    split: Split  # what each row is used for

    def exclusion(self, module_digest: str) -> str | None:
        """Say why a module must not be a candidate: it was trained on too many rows that judge.

        None where it may be one.
        """
        module = _module(self.workspace, module_digest)
        if not same_or_determines(module.property, self.task.property):
            return None
        related = f"its property {module.property} is or determines {self.task.property}"
        fingerprints = _fingerprints(self.workspace, module)
        if len(fingerprints) == 0:
            return f"{related}, and nobody knows on which structures it was trained"
        folds = self._judging_folds()
        seen = known_in(self.rows.fingerprints, fingerprints)
        n_seen, n_judged = sum(int(seen[fold].sum()) for fold in folds), sum(map(len, folds))
        if n_seen == 0 or self._enough_unseen(seen):
            return None
        return (
            f"{related}, and it was trained on {n_seen} of {n_judged} structures by which this "
            "task is judged"
        )

    def exclusions_together(self, modules: Sequence[str]) -> dict[str, str]:
        """Say which candidates, given the best first, must not be used beside better ones, and why.

        Each alone may leave enough rows unseen to judge by, and all of them together too few. Those
        that `exclusion` excludes must not be among them.
        """
        excluded = {}
        before = np.zeros(len(self.rows.fingerprints), np.bool_)
        for digest in modules:
            together = before | seen_by(self.workspace, [digest], self.task, self.rows)
            if np.array_equal(together, before) or self._enough_unseen(together):
                before = together
            else:
                excluded[digest] = (
                    "beside the candidates that err less it would leave too few structures by "
                    "which this task is judged and on which none of them was trained"
                )
        return excluded

    def unseen_by(self, modules: Sequence[str]) -> JudgedRows:
        """Leave in the folds that decide and calibrate only rows that no module was trained on."""
        if self.split.calibration != Calibration.HELD_OUT:
            return self
        seen = seen_by(self.workspace, modules, self.task, self.rows)
        folds = self.split.validation, self.split.held_out
        validation, held_out = (fold[~seen[fold]] for fold in folds)
        return replace(self, split=replace(self.split, validation=validation, held_out=held_out))

    def unseen_by_multitask(self, multitask: str | None) -> tuple[str | None, JudgedRows]:
        """Leave in the same folds only rows that a multitask module was not trained on.

        The module is none, and the rows as before, where too few rows would be left to judge it, or
        nobody knows what it was trained on.
        """
        if multitask is None or not _tells_what_it_saw(
            self.workspace, _module(self.workspace, multitask)
        ):
            return None, self
        if self.split.calibration != Calibration.HELD_OUT:  # every row judges, in its turn
            seen = seen_by(self.workspace, [multitask], self.task, self.rows)
            return (multitask if self._enough_unseen(seen) else None), self
        left = self.unseen_by([multitask])
        return (multitask, left) if enough_left(self.split, left.split) else (None, self)

    def _judging_folds(self) -> list[IntArray]:
        """Give the folds that judge; in a cross-validation every row does in its turn."""
        split = self.split
        if split.calibration == Calibration.HELD_OUT:
            return [split.validation, split.held_out]
        return [np.concatenate([split.train, split.held_out])]

    def _enough_unseen(self, seen: NDArray[np.bool_]) -> bool:
        folds = self._judging_folds()
        by_folds = self.split.calibration == Calibration.HELD_OUT
        if by_folds and min(int((~seen[fold]).sum()) for fold in folds) >= MIN_UNSEEN:
            return True
        return sum(int(seen[fold].sum()) for fold in folds) <= MOST_SEEN * sum(map(len, folds))


def enough_left(before: Split, after: Split) -> bool:
    """Say whether enough rows decide and calibrate after some of them were left out."""
    folds = ((before.validation, after.validation), (before.held_out, after.held_out))
    return all(len(left) >= min(len(every), MIN_UNSEEN) for every, left in folds)


def seen_by(
    workspace: Workspace, modules: Iterable[str], task: Task, rows: LiveRows
) -> NDArray[np.bool_]:
    """Find the rows that any of the modules was trained on, shape ``(n_rows,)``.

    A module has seen a row if it was trained on the structure with a property that is or determines
    the task's.
    """
    seen = np.zeros(len(rows.fingerprints), np.bool_)
    for module in (_module(workspace, digest) for digest in modules):
        if any(same_or_determines(name, task.property) for name in properties_of(module)):
            seen |= known_in(rows.fingerprints, _fingerprints(workspace, module))
    return seen


def modules_behind(workspace: Workspace, predictor: Predictor) -> list[str]:
    """List the modules that a predictor was made from, by digest.

    They are those composed, and those that were fine-tuned beside them.
    """
    return modules_in(workspace, predictor.compositions, predictor.multitasks)


def modules_in(
    workspace: Workspace, compositions: Iterable[str], multitasks: Iterable[str]
) -> list[str]:
    """List the modules of compositions, and multitask modules, by digest."""
    composed = (Composition.from_doc(workspace.store.record(one)).modules for one in compositions)
    return [*chain.from_iterable(composed), *multitasks]


def properties_of(module: Module) -> tuple[str, ...]:
    """List the canonical names of properties a module was trained on: several if multitask."""
    if module.module == ModuleKind.MULTITASK:
        return tuple(module.source.get("properties", ()))
    return (module.property,)


def _module(workspace: Workspace, digest: str) -> Module:
    return Module.from_doc(workspace.store.record(digest))


def _tells_what_it_saw(workspace: Workspace, module: Module) -> bool:
    return len(properties_of(module)) > 0 and len(_fingerprints(workspace, module)) > 0


def _fingerprints(workspace: Workspace, module: Module) -> NDArray[np.uint64]:
    return (
        workspace.store.blob(module.blob, ["fingerprints"]).arrays["fingerprints"].astype(np.uint64)
    )
