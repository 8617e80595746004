"""Backbones by name: listed without importing them, imported when one is first used."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import BackboneError

if TYPE_CHECKING:
    from moma_cl.backbones.base import Backbone

GROUP = "moma_cl.backbones"
"""The entry-point group under which packages announce their backbones."""


DEFAULT_BACKBONES = ("chgnet", "sevennet-0")
"""What a new hub gets: they err differently, and their mean errs less than either."""


def backbone_names() -> list[str]:
    """List the names of the installed backbones, sorted, without importing any."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def backbone_class(name: str) -> type[Backbone]:
    """Import the class of a backbone, by its name in the entry-point group.

    Raises ``BackboneError`` if no installed package offers the name, or its import fails.
    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        raise BackboneError(
            f"no backbone {name!r} is installed (installed: {', '.join(sorted(entries))})"
            f"{did_you_mean(name, entries)}"
        )
    entry = entries[name]
    try:
        loaded: type[Backbone] = entry.load()
    except ImportError as error:
        raise BackboneError(
            f"backbone {name!r} ({entry.value}) cannot be imported: {error}; "
            "install the package that it needs"
        ) from error
    return loaded
