"""A learner: one way to answer for a task, fitted, with its answers to rows it has not seen."""

from __future__ import annotations

from contextlib import closing

from moma_cl.derivations.carried_learner import carry_learner
from moma_cl.derivations.derived import Derived
from moma_cl.derivations.finetuned_learners import fit_finetuned_learners
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.kernel_learner import fit_kernel_learner
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.learner_record import derived_learner
from moma_cl.recipe import Recipe
from moma_cl.records.records import Composition, LearnerMethod, StartKind
from moma_cl.workspace.workspace import Workspace


def fit_learner(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    """Fit a learner: a `Learner`, its blob a `LearnerArtifact`."""
    if "learner" in derivation.inputs:
        return carry_learner(workspace, derivation, recipe)
    if derivation.inputs["method"] == LearnerMethod.KERNEL:
        return _kernel_learner(workspace, derivation, recipe)
    with closing(fit_finetuned_learners(workspace, [derivation])) as fitted:
        return next(fitted).result()


def _kernel_learner(workspace: Workspace, derivation: Derivation, recipe: Recipe) -> Derived:
    data = FittingData.of(workspace, derivation, recipe)
    composition = Composition.from_doc(workspace.store.record(derivation.inputs["composition"]))
    data = data.split_as(data.judged.unseen_by(composition.modules).split)
    artifact = fit_kernel_learner(data, composition)
    return derived_learner(data, derivation, artifact, start=StartKind.COMPOSITION)
