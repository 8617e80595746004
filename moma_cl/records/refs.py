"""Names of refs: the one place that knows under which name a hub keeps what."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

HUB = "hub"
"""Ref of the record that every task shares; it is there once ``init`` has ended."""

DEFAULT_RECIPE = "hub/recipe"
"""Ref of the recipe that a new task starts with."""

MODULE_ZERO = "backbone"
"""What the bare backbone is called among the modules of a composition."""

_ON = "@"  # before the name of a backbone; no task has it in its name


class RefKind(StrEnum):
    """Kinds of refs: ``KIND/NAME``, or ``KIND/NAME@BACKBONE`` where each backbone has its own."""

    BACKBONE = "backbones"
    TASK = "tasks"
    DATASET = "datasets"
    RECIPE = "recipes"
    COMPOSITION = "compositions"  # on each backbone
    PREDICTOR = "predictors"  # the champion, which answers
    FITTED = "fitted"  # the predictor fitted last
    MODULE = "modules"  # of a task, or added under a name of its own; on each backbone
    DRIFT = "drift"
    HOLD = "holds"  # a promotion that waits until somebody confirms it
    FAILURE = "failures"  # named by the key of the derivation

    @property
    def prefix(self) -> str:
        """What all refs of this kind begin with."""
        return f"{self.value}/"

    def of(self, name: str) -> str:
        """Name the ref of a task; or of a module or composition, by its full name."""
        return self.prefix + name

    def on(self, name: str, backbone: str) -> str:
        """Name the ref of a task's composition or module, or of another module, on a backbone."""
        return self.of(full_name(name, backbone))

    def full_name_in(self, ref: str) -> str:
        """Give what follows the kind: ``NAME`` or ``NAME@BACKBONE``."""
        return ref.removeprefix(self.prefix)

    def name_in(self, ref: str) -> str:
        """Tell whose ref of this kind it is: the name of a task or module."""
        return self.full_name_in(ref).partition(_ON)[0]


def full_name(name: str, backbone: str) -> str:
    """Name a task's module or composition, or another module, among those of all backbones."""
    return f"{name}{_ON}{backbone}"


def backbone_in(name: str) -> str:
    """Tell the backbone in a full name or a ref; empty where there is none."""
    return name.partition(_ON)[2]


_SHARED = {RefKind.BACKBONE, RefKind.FAILURE}


def refs_of_task(refs: Iterable[str], task: str) -> list[str]:
    """Take the refs of a task, which go when it is removed, out of all refs of a hub."""
    kinds = [kind for kind in RefKind if kind not in _SHARED]
    return [
        ref
        for ref in refs
        if any(ref.startswith(kind.prefix) and kind.name_in(ref) == task for kind in kinds)
    ]
