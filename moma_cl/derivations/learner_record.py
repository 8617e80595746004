"""The record of a learner that was fitted, and what is stored of it."""

from __future__ import annotations

from moma_cl.core.software import made_by
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.keys import Derivation
from moma_cl.predictors.learner_artifact import LearnerArtifact
from moma_cl.records.records import Learner, LearnerMethod, StartKind
from moma_store.records import BlobLink


def derived_learner(
    data: FittingData,
    derivation: Derivation,
    artifact: LearnerArtifact,
    *,
    start: StartKind,
    multitask: str | None = None,
    base: BlobLink | None = None,
) -> Derived:
    """Give a `Learner` and the arrays of its `LearnerArtifact`.

    Its start may be another than the derivation asked for.
    """
    validation, held_out = artifact.validation, artifact.held_out
    record = Learner(
        backbone=derivation.inputs["backbone"],
        task=derivation.inputs["task"],
        dataset=derivation.inputs["dataset"],
        method=LearnerMethod(derivation.inputs["method"]),
        start=start,
        composition=derivation.inputs.get("composition"),
        multitask=multitask,
        blob=PENDING_BLOB,
        readouts=artifact.readout_scale is not None,
        n_train=len(data.split.train),
        validation_mae=data.mae(validation.answers, validation.rows),
        held_out_mae=data.mae(held_out.answers, held_out.rows) if len(held_out.rows) else None,
        settings=dict(derivation.settings),
        made_by=dict(made_by(data.workspace.device)),
    )
    return Derived(record=record, arrays=artifact.to_arrays(), base=base)
