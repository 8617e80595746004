"""The predictor of a task: learners that answer together, calibrated, and their record."""

from __future__ import annotations

from dataclasses import replace

from moma_cl.core.software import made_by
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.fitting_data import FittingData, fitting_data
from moma_cl.derivations.join_learners import (
    JoinedLearners,
    cross_validated_learner,
    join_learners,
)
from moma_cl.derivations.keys import Derivation
from moma_cl.predictors.artifact import EncoderSlot, PredictorArtifact
from moma_cl.predictors.calibration import Answered, Calibrated, calibrate, learned_rows
from moma_cl.predictors.golden import golden_answers
from moma_cl.recipe import Recipe
from moma_cl.records.records import Calibration, Method, Predictor
from moma_cl.workspace.workspace import Workspace


def fit_predictor(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Fit what answers for a task: a `Predictor`, its blob a `PredictorArtifact`."""
    data = fitting_data(workspace, derivation, recipe)
    if data.split.calibration == Calibration.HELD_OUT:
        joined = join_learners(data, finetune=Method.FINETUNED in derivation.inputs["heads"])
    else:
        joined = cross_validated_learner(data)
    record = _record(data, derivation, joined)
    artifact = _artifact(data, joined)
    artifact = replace(artifact, golden=golden_answers(workspace, record, artifact))
    near_base = EncoderSlot.FIRST in joined.learner.parts.finetuned
    base = workspace.base(data.composition.module) if near_base else None
    return Derived(record=record, arrays=artifact.to_arrays(), base=base)


def _record(data: FittingData, derivation: Derivation, joined: JoinedLearners) -> Predictor:
    return Predictor(
        task=derivation.inputs["task"],
        dataset=derivation.inputs["dataset"],
        composition=derivation.inputs["composition"],
        blob=PENDING_BLOB,
        method=joined.method,
        n_train=len(data.split.train),
        calibration=data.split.calibration,
        validation_mae=joined.validation_maes[joined.method],
        validation_maes=joined.validation_maes,
        held_out_mae=joined.held_out_maes.get(joined.method),
        held_out_maes=joined.held_out_maes,
        settings=dict(derivation.settings),
        made_by=dict(made_by(data.workspace.device)),
        multitask=data.multitask,
    )


def _artifact(data: FittingData, joined: JoinedLearners) -> PredictorArtifact:
    learner, targets = joined.learner, data.rows.targets[learned_rows(data.split)]
    return PredictorArtifact(
        normaliser=data.normaliser,
        label_range=(float(targets.min()), float(targets.max())),
        deciding_rows=joined.deciding_rows,
        deciding_answers=learner.validation,
        learners=learner.parts,
        readout_scale=data.readout_scale if learner.parts.uses_readouts else None,
        calibrated=_calibrated(data, joined),
        cross_validation=joined.cross_validation,
    )


def _calibrated(data: FittingData, joined: JoinedLearners) -> Calibrated:
    crystals = data.workspace.crystals(data.rows, learned_rows(data.split))
    answered = Answered(
        embeddings=data.embeddings,
        feature_dim=data.workspace.backbone.feature_dim,
        targets=data.targets,
        fingerprints=data.rows.fingerprints,
        elements=tuple(sorted({int(z) for one in crystals for z in one.atomic_numbers})),
        split=data.split,
        validation=joined.learner.validation,
        held_out=joined.learner.held_out,
    )
    return calibrate(answered, data.recipe.predictor)
