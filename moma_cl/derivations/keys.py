"""Derivations: everything derived is a function of digests, and its key says which.

Light: reading what is stale must not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moma_store.records import digest

RECORD_INPUTS = (
    "hub", "backbone", "task", "dataset", "module", "composition", "compositions", "estimates",
    "multitask", "learner", "learners", "fast",
)  # fmt: skip
"""Inputs of derivations that are records."""


class DerivationKind(StrEnum):
    """What can be derived."""

    ESTIMATE = "estimate"
    COMPOSITION = "composition"
    LEARNER = "learner"
    PREDICTOR = "predictor"
    MODULE = "module"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """One computation whose result is stored under its key."""

    kind: DerivationKind  # what is computed
    task: str  # name of the task it belongs to, for messages; the key has the task's digest
    subject: str  # what it is about, for messages
    inputs: Mapping[str, Any]  # digests of the records it reads, and what else decides the result
    settings: Mapping[str, Any]  # the sections of the recipe that it depends on

    @property
    def key(self) -> str:
        """The derivation's name in the memo: its kind, and a digest of all it depends on."""
        document = {"inputs": dict(self.inputs), "settings": dict(self.settings)}
        return f"{self.kind}:{digest(document)}"

    @property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """Digests of the records that it reads, by the name of the input."""
        given = {name: self.inputs.get(name) for name in RECORD_INPUTS}
        return {
            name: tuple(value) if isinstance(value, list) else (value,)
            for name, value in given.items()
            if value is not None
        }

    def __str__(self) -> str:
        return f"{self.kind} of {self.task}: {self.subject}"


def comparison_key(champion: str | None, predictor: str) -> str:
    """Name the comparison of a predictor with a champion, so that its failures can be counted."""
    return f"comparison:{digest({'champion': champion, 'predictor': predictor})}"
