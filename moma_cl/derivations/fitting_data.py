"""What the learners and the predictor of a task have in common: its rows and normalised targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import Split, split_of
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import JudgedRows
from moma_cl.learning.normaliser import Normaliser
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import ModuleKind, Task
from moma_cl.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittingData:
    """Rows and targets of a task."""

    workspace: Workspace
    task: Task  # what is fitted is for it, by this recipe
    recipe: Recipe
    rows: LiveRows  # the live ones of the dataset
    split: Split  # what each row is used for
    normaliser: Normaliser  # between the task's unit and normalised targets
    targets: FloatArray  # normalised, shape (n_rows,)

    @classmethod
    def of(cls, workspace: Workspace, derivation: Derivation, recipe: Recipe) -> FittingData:
        """Read what a derivation is fitted on; the normaliser is of all training rows."""
        task = Task.from_doc(workspace.store.record(derivation.inputs["task"]))
        rows = workspace.rows(derivation.inputs["dataset"])
        split = split_of(rows, task.grouping, recipe.predictor)
        normaliser = Normaliser.fit(rows.targets[split.train], Transform(task.transform))
        return cls(
            workspace=workspace,
            task=task,
            recipe=recipe,
            rows=rows,
            split=split,
            normaliser=normaliser,
            targets=normaliser.forward(rows.targets),
        )

    @property
    def kind(self) -> ModuleKind:
        """The kind of encoders that the task composes and fine-tunes."""
        return self.task.module.composed

    @property
    def judged(self) -> JudgedRows:
        """The rows, and which of them judge."""
        return JudgedRows(self.workspace, self.task, self.rows, self.split)

    def split_as(self, split: Split) -> FittingData:
        """Give the same data with fewer rows that decide and calibrate."""
        return replace(self, split=split)

    def errors(self, normalised: FloatArray, rows: IntArray) -> FloatArray:
        """Measure absolute errors of normalised predictions, in the task's unit."""
        return np.asarray(np.abs(self.normaliser.inverse(normalised) - self.rows.targets[rows]))

    def mae(self, normalised: FloatArray, rows: IntArray) -> float:
        """Measure the mean absolute error of normalised predictions, in the task's unit."""
        return float(self.errors(normalised, rows).mean())
