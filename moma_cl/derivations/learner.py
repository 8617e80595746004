"""A learner: one way to answer for a task, fitted, with its answers to rows it has not seen."""

from __future__ import annotations

from contextlib import closing

from moma_cl.derivations.carried_learner import carry_learner
from moma_cl.derivations.derived import Derived
from moma_cl.derivations.finetuned_learners import fit_finetuned_learners
from moma_cl.derivations.fitting_data import FittingData
from moma_cl.derivations.kernel_features import KernelFeatures
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
    inputs, data = derivation.inputs, FittingData.of(workspace, derivation, recipe)
    if inputs["start"] == StartKind.MULTITASK:
        return _kernel_learner_beside(data, derivation)
    composition = Composition.from_doc(workspace.store.record(inputs["composition"]))
    data = data.split_as(data.judged.unseen_by(composition.modules).split)
    artifact = fit_kernel_learner(data, KernelFeatures.of_composition(data, composition))
    return derived_learner(data, derivation, artifact, start=StartKind.COMPOSITION)


def _kernel_learner_beside(data: FittingData, derivation: Derivation) -> Derived:
    """Fit a kernel head on a multitask module; on the backbone if that has seen too many rows."""
    multitask, judged = data.judged.unseen_by_multitask(derivation.inputs["multitask"])
    data = data.split_as(judged.split)
    encoders = data.workspace.encoders(derivation.inputs["backbone"])
    features = KernelFeatures.of_multitask(data, encoders, multitask)
    return derived_learner(
        data,
        derivation,
        fit_kernel_learner(data, features),
        start=StartKind.BACKBONE if multitask is None else StartKind.MULTITASK,
        multitask=multitask,
    )
