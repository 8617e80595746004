"""What a walk does at each step: a composer computes and moves refs, a planner takes notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.reasons import Reason
from moma_store.errors import MomaError


class Visitor(Protocol):
    """Whoever a walk leads from derivation to derivation."""

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Give the digest of the result; none where there is no result yet."""

    def derive_all(self, derivations: Sequence[Derivation], why: str) -> list[str | None]:
        """Give the digests of several results, of which those that train do so at once."""

    def gives_up(self, derivation: Derivation) -> bool:
        """Say whether what has no result will have none in this pass: it failed, or takes long."""

    def compose(self, task: str, composition: str) -> None:
        """Make a composition the task's present one."""

    def add_module(self, task: str, module: str) -> None:
        """Make a module the task's present one."""

    def promote(self, task: str, predictor: str, *, first: bool) -> None:
        """Make a predictor the champion if it is better than the present one."""

    def leave(
        self,
        task: str,
        kind: DerivationKind,
        reason: Reason,
        *,
        expected: Sequence[Derivation] = (),
    ) -> None:
        """Note a derivation that is not worth it, or has to wait for another.

        Those that are expected then have inputs that are not known yet.
        """

    def fail(self, task: str, error: MomaError) -> None:
        """Note that a task could not be brought up to date; the others go on."""
