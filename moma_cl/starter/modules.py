"""Adding the starter modules: one archive for each backbone, as ``moma-cl export`` writes it."""

from __future__ import annotations

from pathlib import Path

from moma_store.archives import Archive
from moma_store.importing import import_contents
from moma_store.store import Store

FOLDER = Path(__file__).parent
"""Folder of the archives."""


def archive_of(backbone: str) -> Path:
    """Give the path of a backbone's archive, whether there is one or not."""
    return FOLDER / f"{backbone}.moma"


def archives() -> list[Path]:
    """List the archives that there are, by backbone."""
    return sorted(FOLDER.glob("*.moma"))


def add_starter_modules(store: Store) -> int:
    """Add the modules of a hub's backbone; those that the hub has already stay.

    Parameters
    ----------
    store
        A hub, open for writing.

    Returns
    -------
    int
        Number of these modules in the hub; 0 if the package has none for exactly the hub's
        parameters.
    """
    path = archive_of(store.backbone["name"])
    if not path.exists():
        return 0
    with Archive(path) as archive:
        if archive.summary.backbone != store.backbone:
            return 0
        imported = import_contents(store, archive)
        return len(imported.refs) + len(imported.present)
