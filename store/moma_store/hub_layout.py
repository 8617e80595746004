"""The folders of a hub, and how an empty hub is made."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from moma_store import hub_file
from moma_store.environment import DATA_FILE
from moma_store.errors import AlreadyExistsError, InvalidInputError
from moma_store.files import Files, network_file_system, reported
from moma_store.hub_file import HubFile
from moma_store.open_catalogue import Catalogue

CATALOGUE = "catalogue.lmdb"
OBJECTS = "objects"
CACHE = "cache"
BACKUPS = "backups"
QUARANTINE = "quarantine"  # made when something damaged has to be put away
TMP = "tmp"
WRITER_LOCK = "writer.lock"

# An empty file that is there while a hub is being made: whoever finds it without hub.toml may begin
# afresh.
_UNFINISHED = ".unfinished"


def make_hub(
    path: Path,
    *,
    catalogue: Path | None,
    files: Files,
    map_size: int,
) -> None:
    """Make an empty hub, or finish one whose making was interrupted.

    Parameters
    ----------
    path
        An empty folder or none.
    catalogue
        Folder for the catalogue, if it is not to be in the hub; empty or absent.
    files
        The file system.
    map_size
        Bytes of address space for the catalogue.

    Raises
    ------
    AlreadyExistsError
        If a folder holds something already.
    InvalidInputError
        If the catalogue would be on a network file system.
    StorageError
        If the disk refuses.
    """
    home = catalogue or path / CATALOGUE
    refuse_network(home)
    _refuse_taken(path)
    if catalogue is not None:
        _refuse_taken(catalogue)
    hub = HubFile(hub_id=uuid.uuid4().hex, catalogue=catalogue)
    text = hub.to_toml()
    with reported("make a hub at", path):
        _make_folders(path, catalogue, files)
    Catalogue.create(home, hub, map_size=map_size)
    files.settle(home / DATA_FILE)
    with files.write_published(draft(path), path / hub_file.NAME) as stream:
        stream.write(text)
    files.remove(path / _UNFINISHED)


def _make_folders(path: Path, catalogue: Path | None, files: Files) -> None:
    """Make the folders of a hub, after the file that says that it is unfinished."""
    marker = path / _UNFINISHED
    path.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        with files.write_new(marker):
            pass
    for folder in (OBJECTS, BACKUPS, TMP):
        files.make_folder(path / folder)
    shutil.rmtree(path / CATALOGUE, ignore_errors=True)
    (catalogue or path / CATALOGUE).mkdir(parents=True, exist_ok=True)
    files.make_folder((catalogue or path) / CACHE)


def draft(path: Path) -> Path:
    """Name a file in which something of a hub can be written before it gets its name.

    Parameters
    ----------
    path
        The hub's folder.

    Returns
    -------
    Path
        A name that nothing has, not even what a killed run has left.
    """
    return path / TMP / uuid.uuid4().hex


def refuse_network(catalogue: Path) -> None:
    """Refuse a place for a catalogue where LMDB is not safe.

    Parameters
    ----------
    catalogue
        The folder, which need not exist.

    Raises
    ------
    InvalidInputError
        If it is on a network file system.
    """
    kind = network_file_system(catalogue)
    if kind is not None:
        raise InvalidInputError(
            f"the catalogue {catalogue} would be on a network file system ({kind}), where LMDB"
            " corrupts; name a folder on a local disk with --catalogue PATH"
        )


def _refuse_taken(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise AlreadyExistsError(f"{folder} is a file; name a folder that is empty or absent")
    names = {entry.name for entry in folder.iterdir()}
    if hub_file.NAME in names:
        raise AlreadyExistsError(f"there is a hub at {folder} already; name another folder")
    if names and _UNFINISHED not in names:
        raise AlreadyExistsError(
            f"{folder} is not empty ({min(names)}); name a folder that is empty or absent"
        )
