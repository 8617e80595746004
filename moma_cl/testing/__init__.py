"""Tests for authors of backbones, and input files for fuzzing the readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moma_cl.testing.backbone_contract import BackboneContract

__all__ = ["BackboneContract"]


def __getattr__(name: str) -> Any:
    """Import the contract when it is first used: it needs pytest and torch, the files do not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from moma_cl.testing.backbone_contract import BackboneContract

    return BackboneContract
