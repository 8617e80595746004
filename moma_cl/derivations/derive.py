"""Computing any derivation."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from moma_cl.core.threads import fixed_threads
from moma_cl.derivations.composition import compose
from moma_cl.derivations.derived import Computed, Derived
from moma_cl.derivations.estimate import estimate
from moma_cl.derivations.finetuned_learners import fit_finetuned_learners
from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.derivations.learner import fit_learner
from moma_cl.derivations.module import train_module
from moma_cl.derivations.predictor import join_predictor
from moma_cl.recipe import Recipe
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
    """Compute a derivation, or several fine-tuned learners of one task at the same time.

    Each is given as soon as it is there. Close the generator if it is not asked to its end: that
    ends all trainings.
    """
    if len(derivations) > 1:
        recipe = Recipe.from_doc(derivations[0].settings)
        with fixed_threads(recipe.threads):
            yield from fit_finetuned_learners(workspace, derivations)
        return
    for index, derivation in enumerate(derivations):
        begun = time.perf_counter()
        outcome: Derived | Exception
        try:
            outcome = derive(workspace, derivation)
        except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
            outcome = error
        yield Computed(index=index, outcome=outcome, seconds=time.perf_counter() - begun)
