"""Computing any derivation."""

from __future__ import annotations

from moma_cl.core.threads import fixed_threads
from moma_cl.derivations.composition import compose
from moma_cl.derivations.derived import Derived
from moma_cl.derivations.estimate import estimate
from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.derivations.module import train_module
from moma_cl.derivations.predictor import fit_predictor
from moma_cl.recipe import Recipe
from moma_cl.workspace.workspace import Workspace


def derive(workspace: Workspace, derivation: Derivation) -> Derived:
    """Compute a derivation; the same bits for the same derivation under equal software."""
    recipe = Recipe.from_doc(derivation.settings)
    computations = {
        DerivationKind.ESTIMATE: estimate,
        DerivationKind.COMPOSITION: compose,
        DerivationKind.MODULE: train_module,
        DerivationKind.PREDICTOR: fit_predictor,
    }
    with fixed_threads(recipe.threads):
        return computations[derivation.kind](workspace, derivation, recipe)
