"""Copies of the catalogue in the hub, from which a damaged one is made anew."""

from __future__ import annotations

from pathlib import Path

from moma_store import hub_layout
from moma_store.files import Files, reported
from moma_store.open_catalogue import Catalogue

_KEPT = 2


def list_backups(path: Path) -> list[Path]:
    """List the copies of a hub's catalogue, oldest first.

    Parameters
    ----------
    path
        The hub's folder.

    Returns
    -------
    list[Path]
        LMDB data files.

    Raises
    ------
    StorageError
        If the folder cannot be read.
    """
    folder = path / hub_layout.BACKUPS
    with reported("list", folder):
        return sorted(entry for entry in folder.iterdir() if entry.match("catalogue-*.mdb"))


def write_backup(path: Path, catalogue: Catalogue, draft: Path, *, files: Files) -> Path:
    """Copy the catalogue as it is now, and remove all but the last copies.

    Parameters
    ----------
    path
        The hub's folder; its writer lock must be held.
    catalogue
        Its catalogue.
    draft
        Where the copy is written first.
    files
        The file system.

    Returns
    -------
    Path
        The copy: an LMDB data file.

    Raises
    ------
    StorageError
        If it cannot be written; earlier ones are then kept.
    """
    kept = list_backups(path)
    # Numbered, since clocks err.
    number = int(kept[-1].stem.removeprefix("catalogue-")) + 1 if kept else 0
    target = path / hub_layout.BACKUPS / f"catalogue-{number:09d}.mdb"
    with files.write_published(draft, target) as stream:
        catalogue.copy(stream.fileno())
    for old in kept[: 1 - _KEPT]:
        files.remove(old)
    return target
