"""Computing any derivation."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from moma_cl.core.threads import fixed_threads
from moma_cl.derivations.composition import compose
from moma_cl.derivations.derived import Computed, Derived
from moma_cl.derivations.estimate import estimate
from moma_cl.derivations.finetuned_learners import fit_finetuned_learners
from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.derivations.learner import fit_learner
from moma_cl.derivations.module import train_module, train_modules
from moma_cl.derivations.predictor import join_predictor
from moma_cl.recipe import Recipe
from moma_cl.records.records import LearnerMethod
from moma_cl.workspace.workspace import Workspace


def derive(workspace: Workspace, derivation: Derivation) -> Derived:
    """Compute a derivation; the same bits for the same derivation under equal software."""
    recipe = Recipe.from_doc(derivation.settings)
    computations = {
        DerivationKind.ESTIMATE: estimate,
        DerivationKind.COMPOSITION: compose,
        DerivationKind.MODULE: train_module,
        DerivationKind.LEARNER: fit_learner,
        DerivationKind.PREDICTOR: join_predictor,
    }
    with fixed_threads(recipe.threads):
        return computations[derivation.kind](workspace, derivation, recipe)


def derive_all(workspace: Workspace, derivations: Sequence[Derivation]) -> Generator[Computed]:
    """Compute derivations of one task and kind; those that train an encoder at the same time.

    Each is given as soon as it is there. Close the generator if it is not asked to its end: that
    ends all trainings.
    """
    trained = [place for place, one in enumerate(derivations) if _trains(one)]
    alone = sorted(set(range(len(derivations))) - set(trained if len(trained) > 1 else ()))
    for index in alone:
        begun = time.perf_counter()
        outcome: Derived | Exception
        try:
            outcome = derive(workspace, derivations[index])
        except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
            outcome = error
        yield Computed(index=index, outcome=outcome, seconds=time.perf_counter() - begun)
    if len(trained) > 1:
        first = derivations[trained[0]]
        together = train_modules if first.kind is DerivationKind.MODULE else fit_finetuned_learners
        computed = together(workspace, [derivations[place] for place in trained])
        with fixed_threads(Recipe.from_doc(first.settings).threads), closing(computed):
            yield from (replace(one, index=trained[one.index]) for one in computed)


def _trains(derivation: Derivation) -> bool:
    """Say whether a derivation trains an encoder: a module's, or a fine-tuned learner's."""
    inputs = derivation.inputs
    is_learner = derivation.kind is DerivationKind.LEARNER and "learner" not in inputs
    is_finetuned = is_learner and inputs["method"] != LearnerMethod.KERNEL
    return is_finetuned or derivation.kind is DerivationKind.MODULE
