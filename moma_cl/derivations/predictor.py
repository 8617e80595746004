"""The predictor of a task: learners that answer together, calibrated, and their record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moma_cl.core.software import made_by
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.join_learners import JoinedLearners, join_learners
from moma_cl.derivations.kernel_features import composed_embeddings
from moma_cl.derivations.keys import Derivation
from moma_cl.predictors.artifact import PredictorArtifact
from moma_cl.predictors.calibration import Answered, Calibrated, calibrate, learned_rows
from moma_cl.predictors.golden import golden_answers
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, Predictor
from moma_cl.workspace.workspace import Workspace


def join_predictor(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Join learners to what answers for a task: a `Predictor`, its blob a `PredictorArtifact`."""
    data = FittingData.of(workspace, derivation, recipe)
    stored = [StoredLearner.load(workspace.store, one) for one in derivation.inputs["learners"]]
    joined = join_learners(data, stored)
    record = _record(joined, derivation)
    composition = Composition.from_doc(workspace.store.record(record.compositions[0]))
    artifact = _artifact(joined, composition)
    artifact = replace(artifact, golden=golden_answers(workspace, record, artifact))
    return Derived(record=record, arrays=artifact.to_arrays())


def _record(joined: JoinedLearners, derivation: Derivation) -> Predictor:
    split = joined.data.split
    return Predictor(
        task=derivation.inputs["task"],
        dataset=derivation.inputs["dataset"],
        compositions=_answering_first(joined, derivation.inputs["compositions"]),
        learners=tuple(learner.digest for learner in joined.answering.learners),
        blob=PENDING_BLOB,
        method=joined.method,
        n_train=len(split.train),
        calibration=split.calibration,
        validation_mae=joined.validation_maes[joined.method],
        validation_maes=joined.validation_maes,
        held_out_mae=joined.held_out_maes.get(joined.method),
        held_out_maes=joined.held_out_maes,
        settings=dict(derivation.settings),
        made_by=dict(made_by(joined.data.workspace.device)),
        multitasks=joined.multitasks,
        fast=derivation.inputs.get("fast"),
        tried=(*derivation.inputs["learners"], *derivation.inputs.get("left", ())),
    )


def _answering_first(joined: JoinedLearners, compositions: Sequence[str]) -> tuple[str, ...]:
    """Put the compositions of backbones first that have learners which answer."""
    store = joined.data.workspace.store
    answering = {learner.record.backbone for learner in joined.answering.learners}
    backbones = {one: Composition.from_doc(store.record(one)).backbone for one in compositions}
    return tuple(sorted(compositions, key=lambda one: backbones[one] not in answering))


def _artifact(joined: JoinedLearners, composition: Composition) -> PredictorArtifact:
    data = joined.data
    targets = data.rows.targets[learned_rows(data.split)]
    return PredictorArtifact(
        normaliser=data.normaliser,
        label_range=(float(targets.min()), float(targets.max())),
        deciding_rows=joined.deciding_rows,
        deciding_answers=joined.answering.validation,
        calibrated=_calibrated(joined, composition),
        cross_validation=joined.cross_validation,
    )


def _calibrated(joined: JoinedLearners, composition: Composition) -> Calibrated:
    data = joined.data
    crystals = data.workspace.crystals(data.rows, learned_rows(data.split))
    answered = Answered(
        embeddings=composed_embeddings(data, composition),
        feature_dim=data.workspace.encoders(composition.backbone).backbone.feature_dim,
        targets=data.targets,
        fingerprints=data.rows.fingerprints,
        elements=tuple(sorted({int(z) for one in crystals for z in one.atomic_numbers})),
        split=data.split,
        validation=joined.answering.validation,
        held_out=joined.answering.held_out,
    )
    return calibrate(answered, data.recipe.predictor)
