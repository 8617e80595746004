"""Names of refs: the one place that knows under which name a hub keeps what."""

from __future__ import annotations

from enum import StrEnum

HUB = "hub"
"""Ref of the record that every task shares; it is there once ``init`` has ended."""

DEFAULT_RECIPE = "hub/recipe"
"""Ref of the recipe that a new task starts with."""

MODULE_ZERO = "backbone"
"""What the bare backbone is called among the modules of a composition."""


class RefKind(StrEnum):
    """Kinds of refs; each kind has one ref for a name, ``KIND/NAME``."""

    TASK = "tasks"
    DATASET = "datasets"
    RECIPE = "recipes"
    COMPOSITION = "compositions"
    PREDICTOR = "predictors"  # the champion, which answers
    FITTED = "fitted"  # the predictor fitted last
    MODULE = "modules"  # of a task, or added under a name of its own
    DRIFT = "drift"
    HOLD = "holds"  # a promotion that waits until somebody confirms it
    FAILURE = "failures"  # named by the key of the derivation

    @property
    def prefix(self) -> str:
        """What all refs of this kind begin with."""
        return f"{self.value}/"

    def of(self, name: str) -> str:
        """Name the ref of a task or a module."""
        return self.prefix + name

    def name_in(self, ref: str) -> str:
        """Tell whose ref of this kind it is: the name of a task or module."""
        return ref.removeprefix(self.prefix)


TASK_REFS = tuple(kind for kind in RefKind if kind is not RefKind.FAILURE)
"""Kinds of refs that go when their task is removed."""
