"""A fine-tuned learner carried over to a dataset that has grown a little since it was trained.

Encoder and head stay as they are. What is new are the answers to the rows that judge, among them
those that came since: no row of these folds was ever trained on. To train again with a few more
rows costs as much as the first time, and changes little.
"""

from __future__ import annotations

from dataclasses import replace

from moma_cl.arraytypes import IntArray
from moma_cl.core.software import made_by
from moma_cl.datasets.split import split_of
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import modules_in
from moma_cl.learning.normaliser import Normaliser
from moma_cl.predictors.learner_artifact import LearnerArtifact, RowAnswers
from moma_cl.predictors.loaded_learners import LoadedLearners
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Learner
from moma_cl.workspace.workspace import Workspace


def carry_learner(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Let a learner answer the rows that judge it now: a `Learner` with the same encoder."""
    data = FittingData.of(workspace, derivation, recipe)
    stored = StoredLearner.load(workspace.store, derivation.inputs["learner"])
    composition = Composition.from_doc(workspace.store.record(derivation.inputs["composition"]))
    started = (filter(None, [one]) for one in (stored.record.composition, stored.record.multitask))
    data = data.split_as(data.judged.unseen_by(modules_in(workspace, *started)).split)
    encoders = workspace.encoders(stored.record.backbone)
    loaded = LoadedLearners.of(encoders, composition, [stored], domain=False)
    graphs = encoders.graphs(data.rows)
    slope, intercept = _rescaling(data, stored.record)

    def answers(rows: IntArray) -> RowAnswers:
        calls = loaded.calls([graphs[row] for row in rows], data.recipe.embedding)
        (answered,) = loaded.encoded([call() for call in calls]).by_finetuned
        return RowAnswers(rows=rows, answers=slope * answered + intercept)

    artifact = LearnerArtifact(
        validation=answers(data.split.validation),
        held_out=answers(data.split.held_out),
        rescaling=(slope, intercept),
    )
    return Derived(record=_record(data, derivation, stored, artifact), arrays=artifact.to_arrays())


def _rescaling(data: FittingData, record: Learner) -> tuple[float, float]:
    """Give slope and intercept from the normaliser it was trained with to that of the rows now."""
    rows = data.workspace.rows(record.dataset)
    training = split_of(rows, data.task.grouping, data.recipe.predictor).train
    then, now = Normaliser.fit(rows.targets[training], data.normaliser.transform), data.normaliser
    return then.deviation / now.deviation, (then.mean - now.mean) / now.deviation


def _record(
    data: FittingData, derivation: Derivation, stored: StoredLearner, artifact: LearnerArtifact
) -> Learner:
    validation, held_out = artifact.validation, artifact.held_out
    return replace(
        stored.record,
        dataset=derivation.inputs["dataset"],
        blob=PENDING_BLOB,
        validation_mae=data.mae(validation.answers, validation.rows),
        held_out_mae=data.mae(held_out.answers, held_out.rows) if len(held_out.rows) else None,
        made_by=dict(made_by(data.workspace.device)),
        origin=stored.digest,
    )
