"""The modules that a new hub starts with, trained on public data; `docs/modules.md` lists them.

Each backbone's are one archive beside this file, as `moma-cl export` writes it.
"""

from __future__ import annotations

from pathlib import Path

from moma_store.archives import Archive
from moma_store.store import Store

HERE = Path(__file__).parent


def archive_of(backbone: str) -> Path:
    """Say where a backbone's archive is, or would be.

    Parameters
    ----------
    backbone
        Name of the backbone.

    Returns
    -------
    Path
        The archive.
    """
    return HERE / f"{backbone}.moma"


def bring_starter_modules(store: Store) -> int:
    """Take the modules of a hub's backbone in; those that are there already stay.

    Parameters
    ----------
    store
        A hub, open for writing.

    Returns
    -------
    int
        Modules that are now there; none if the package has none for exactly these parameters.
    """
    from moma_store.importing import take_in

    path = archive_of(store.backbone["name"])
    if not path.exists():
        return 0
    with Archive(path) as archive:
        if archive.summary.backbone != store.backbone:
            return 0
        took = take_in(store, archive)
        return len(took.refs) + len(took.present)
