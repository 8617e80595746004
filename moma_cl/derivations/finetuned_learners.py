"""The fine-tuned learners: an encoder and a head trained by gradients, several at the same time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from moma_cl.arraytypes import IntArray
from moma_cl.derivations.derived import Computed, Derived
from moma_cl.derivations.finetuning_start import FinetuningStart, finetuning_start
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.learner_record import derived_learner
from moma_cl.derivations.trainings import Training, train_together
from moma_cl.learning.head import head_vector
from moma_cl.learning.training import TrainingReport, TrainingSet, predict_graphs
from moma_cl.predictors.learner_artifact import FinetunedEncoder, LearnerArtifact, RowAnswers
from moma_cl.workspace.workspace import Workspace


def fit_finetuned_learners(
    workspace: Workspace, derivations: Sequence[Derivation]
) -> Generator[Computed]:
    """Fit learners of one task at the same time, as `train_together` does."""
    return train_together(workspace, f"learners {derivations[0].task}", derivations, _training)


def _training(workspace: Workspace, derivation: Derivation) -> Training:
    start = finetuning_start(workspace, derivation)
    data, baseline = start.data, start.baseline
    targets = data.targets
    if baseline is not None:
        targets = (targets - baseline.predictions) / baseline.regression.spread
    return Training(
        encoder=start.encoder,
        head=start.head,
        data=TrainingSet(
            graphs=start.encoders.graphs(data.rows),
            targets=targets,
            train=data.split.train,
            validation=data.split.validation,
        ),
        settings=data.recipe.finetune,
        finish=partial(_fitted, start, derivation),
    )


def _fitted(start: FinetuningStart, derivation: Derivation, report: TrainingReport) -> Derived:
    """Round the parameters of a start that was trained, then predict."""
    del report  # what a learner is worth, its answers tell
    encoder, head, data, baseline = start.encoder, start.head, start.data, start.baseline
    bits = data.recipe.finetune.rounded_bits
    parameters = start.encoders.round_parameters(encoder, start.trained, bits)
    graphs = start.encoders.graphs(data.rows)

    def answers(rows: IntArray) -> RowAnswers:
        predicted = predict_graphs(encoder, head, [graphs[row] for row in rows])
        if baseline is not None:
            predicted = predicted * baseline.regression.spread + baseline.predictions[rows]
        return RowAnswers(rows=rows, answers=predicted)

    artifact = LearnerArtifact(
        validation=answers(data.split.validation),
        held_out=answers(data.split.held_out),
        finetuned=FinetunedEncoder(parameters=parameters, head=head_vector(head)),
        baseline=baseline.regression if baseline else None,
        readout_scale=baseline.scale if baseline else None,
    )
    return derived_learner(
        data,
        derivation,
        artifact,
        start=start.kind,
        multitask=start.multitask,
        base=start.encoders.base(start.trained),
    )
