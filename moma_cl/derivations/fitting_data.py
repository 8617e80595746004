"""What all learners of one predictor are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray, ParameterVector
from moma_cl.core.pyg import Data
from moma_cl.datasets.segments import LiveRows
from moma_cl.datasets.split import Split, split_of
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import JudgedRows
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.module_readouts import ModuleReadouts, ReadoutScale
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Task
from moma_cl.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittingData:
    """Rows, features and targets of a task."""

    workspace: Workspace
    task: Task  # what the predictor is of, like recipe and composition
    recipe: Recipe
    composition: Composition
    multitask: str | None  # the multitask module to fine-tune beside the composition
    rows: LiveRows  # the live ones of the dataset
    split: Split  # what each row is used for
    normaliser: Normaliser  # between the task's unit and normalised targets
    composed: ParameterVector  # parameters of the composed encoder, shape (n_parameters,)
    embeddings: FloatArray  # of all rows by the composed encoder, shape (n_rows, n_features)
    readout_scale: ReadoutScale  # how readouts of the composition's modules became features
    readout_features: FloatArray  # these features of all rows, shape (n_rows, n_modules)
    targets: FloatArray  # normalised, shape (n_rows,)

    def graphs_of(self, rows: IntArray) -> list[Data]:
        """Give the graphs of some rows, in their order."""
        graphs = self.workspace.graphs(self.rows)
        return [graphs[row] for row in rows]

    def errors(self, normalised: FloatArray, rows: IntArray) -> FloatArray:
        """Measure absolute errors of normalised predictions, in the task's unit."""
        return np.asarray(np.abs(self.normaliser.inverse(normalised) - self.rows.targets[rows]))

    def mae(self, normalised: FloatArray, rows: IntArray) -> float:
        """Measure the mean absolute error of normalised predictions, in the task's unit."""
        return float(self.errors(normalised, rows).mean())


def fitting_data(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> FittingData:
    """Read and prepare what the learners of a predictor are fitted on."""
    inputs = derivation.inputs
    task = Task.from_doc(workspace.store.record(inputs["task"]))
    composition = Composition.from_doc(workspace.store.record(inputs["composition"]))
    rows = workspace.rows(inputs["dataset"])
    judged = JudgedRows(workspace, task, rows, split_of(rows, task.grouping, recipe.predictor))
    judged = judged.unseen_by(composition.modules)
    multitask, judged = judged.unseen_beside(inputs.get("multitask"))
    training = judged.split.train
    normaliser = Normaliser.fit(rows.targets[training], Transform(task.transform))
    composed = workspace.merged(composition)
    embeddings = workspace.embeddings(composition.module, composed, rows, recipe.embedding)
    readouts = ModuleReadouts.of(workspace, composition)
    values = readouts.of_rows(workspace, rows, recipe.embedding)
    scale = ReadoutScale.fit(values[training])
    return FittingData(
        workspace=workspace,
        task=task,
        recipe=recipe,
        composition=composition,
        multitask=multitask,
        rows=rows,
        split=judged.split,
        normaliser=normaliser,
        composed=composed,
        embeddings=embeddings.astype(np.float64),
        readout_scale=scale,
        readout_features=scale.features(values, readouts.weights),
        targets=normaliser.forward(rows.targets),
    )
