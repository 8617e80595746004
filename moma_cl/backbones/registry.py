"""Backbones by name: listed without being imported, loaded on first use."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import BackboneError

if TYPE_CHECKING:
    from moma_cl.backbones.base import Backbone

GROUP = "moma_cl.backbones"


def backbone_names() -> list[str]:
    """List the installed backbones without importing any.

    Returns
    -------
    list[str]
        Names, sorted.
    """
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def backbone_class(name: str) -> type[Backbone]:
    """Load a backbone's class.

    Parameters
    ----------
    name
        Its name in the entry-point group.

    Returns
    -------
    type[Backbone]
        The class.

    Raises
    ------
    BackboneError
        If no installed package offers the name, or its import fails.
    """
    entry = _entry(name)
    try:
        loaded: type[Backbone] = entry.load()
    except ImportError as error:
        raise BackboneError(
            f"backbone {name!r} ({entry.value}) cannot be imported: {error}; "
            "install the package that it needs"
        ) from error
    return loaded


def _entry(name: str) -> EntryPoint:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in found:
        return found[name]
    raise BackboneError(
        f"no backbone {name!r} is installed (installed: {', '.join(sorted(found))})"
        f"{did_you_mean(name, found)}"
    )
