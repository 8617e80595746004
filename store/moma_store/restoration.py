"""Making a damaged catalogue anew from its copies and from what of it is still whole.

``hub.toml`` is made anew from the catalogue, which repeats what it says.

Every record proves itself by its digest and every other value by its checksum, so that values from
several files can be put together. Refs are where the history left them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moma_store import hub_file, hub_layout, records
from moma_store.backups import list_backups
from moma_store.catalogue import Snapshot
from moma_store.entries import HistoryEntry, Memo, unseal
from moma_store.environment import DATA_FILE, DATABASES, Environment
from moma_store.errors import IntegrityError, MomaError
from moma_store.files import Files, reported
from moma_store.hub_file import HubFile
from moma_store.open_catalogue import MAP_SIZE, Catalogue
from moma_store.pages import check_pages
from moma_store.records import JsonObject
from moma_store.scan import replay


@dataclass(slots=True, kw_only=True)
class _Salvage:
    """Whole values from several catalogues of one hub."""

    records: dict[str, bytes] = field(default_factory=dict)
    memos: dict[str, Memo] = field(default_factory=dict)
    history: dict[int, HistoryEntry] = field(default_factory=dict)

    def take(self, view: Snapshot) -> None:
        """Add what is whole in a catalogue; what was taken before stays."""
        for key, data in view.pairs("records"):
            if _is_whole(lambda: records.load_record(key.decode(errors="replace"), data)):  # noqa: B023  called at once
                self.records.setdefault(key.decode(), data)
        for key, sealed in view.pairs("memo"):
            if _is_whole(lambda: unseal("memo", key, sealed)):  # noqa: B023  as above
                memo = Memo(**json.loads(unseal("memo", key, sealed)))
                self.memos.setdefault(key.decode(), memo)
        for key, sealed in view.pairs("history"):
            if _is_whole(lambda: unseal("history", key, sealed)):  # noqa: B023  as above
                entry = HistoryEntry.from_json(json.loads(unseal("history", key, sealed)))
                self.history.setdefault(entry.counter, entry)

    def chain(self) -> list[HistoryEntry]:
        """Give the history as far as each entry follows the one before."""
        found: list[HistoryEntry] = []
        entry = self.history.get(0)
        while entry is not None and entry.previous == (found[-1].digest if found else None):
            found.append(entry)
            entry = self.history.get(len(found))
        return found


def restore_catalogue(path: Path, hub: HubFile, *, files: Files) -> str:
    """Replace a damaged catalogue; the damaged file is put into quarantine.

    Parameters
    ----------
    path
        The hub's folder; its writer lock must be held and its catalogue be open nowhere.
    hub
        Its ``hub.toml``.
    files
        The file system.

    Returns
    -------
    str
        What it was made from, for people.

    Raises
    ------
    IntegrityError
        If there is no copy, and nothing whole in the catalogue itself.
    StorageError
        If the disk refuses; the damaged catalogue is then still in place.
    """
    home = hub.catalogue or path / hub_layout.CATALOGUE
    draft = home / "restored"
    salvage = _Salvage()
    candidates = (home / DATA_FILE, *reversed(list_backups(path)))
    sources = [file.name for file in candidates if _salvaged(file, draft, hub, salvage)]
    if not sources:
        raise IntegrityError(
            f"the catalogue {home} cannot be restored: neither it nor a copy in"
            f" {path / hub_layout.BACKUPS} is whole; `moma-cl import` restores an exported hub"
        )
    _write(draft, hub, salvage)
    damaged = home / DATA_FILE
    if damaged.exists():
        quarantine(damaged, path, files=files, keep=True)
    files.sync_path(draft / DATA_FILE)
    files.publish(draft / DATA_FILE, damaged)
    shutil.rmtree(draft, ignore_errors=True)
    entries = len(salvage.chain())
    return f"made anew from {' and '.join(sources)}, {entries} history entries"


def hub_in_catalogue(path: Path, home: Path | None) -> HubFile | None:
    """Read from a catalogue what its hub is: unlike ``hub.toml`` it carries a checksum.

    Parameters
    ----------
    path
        The hub's folder.
    home
        The catalogue's folder, None if it is in the hub.

    Returns
    -------
    HubFile | None
        What ``hub.toml`` should say; None where there is no catalogue that is whole.
    """
    meta = _meta(home or path / hub_layout.CATALOGUE)
    if "id" not in meta:
        return None
    return HubFile(hub_id=meta["id"], catalogue=home)


def hub_in_copies(path: Path) -> str | None:
    """Read from the copies of the catalogue which hub they are of.

    Parameters
    ----------
    path
        The hub's folder; its writer lock must be held.

    Returns
    -------
    str | None
        The hub's id; None where no copy is whole.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    draft = path / hub_layout.TMP / "copy"
    for backup in reversed(list_backups(path)):
        _empty(draft)
        with reported("copy", backup):
            shutil.copyfile(backup, draft / DATA_FILE)
        meta = _meta(draft)
        shutil.rmtree(draft, ignore_errors=True)
        if "id" in meta:
            return str(meta["id"])
    return None


def restore_hub_file(path: Path, hub: HubFile, *, files: Files) -> str:
    """Write ``hub.toml`` anew; a damaged one is put into quarantine.

    Parameters
    ----------
    path
        The hub's folder; its writer lock must be held.
    hub
        What it should say.
    files
        The file system.

    Returns
    -------
    str
        What it was made from, for people.

    Raises
    ------
    StorageError
        If the disk refuses; the damaged file is then still in place.
    """
    target = path / hub_file.NAME
    if target.exists():
        quarantine(target, path, files=files, keep=True)
    with files.write_published(hub_layout.draft(path), target) as stream:
        stream.write(hub.to_toml())
    return "made anew from the catalogue"


def quarantine(source: Path, hub: Path, *, files: Files, keep: bool = False) -> Path:
    """Put a damaged file away, where neither reading nor `gc` looks.

    Parameters
    ----------
    source
        The file.
    hub
        The hub's folder.
    files
        The file system.
    keep
        Whether to copy it rather than move it.

    Returns
    -------
    Path
        Where it is now.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    folder = hub / hub_layout.QUARANTINE
    with reported("make", folder):
        files.make_folder(folder)
        taken = {entry.name for entry in folder.iterdir()}
    number = 0
    while (name := f"{source.name}.{number}" if number else source.name) in taken:
        number += 1
    target = folder / name
    if not keep:
        files.publish(source, target)
        return target
    with (
        files.write_published(hub_layout.draft(hub), target) as stream,
        files.open(source) as damaged,
    ):
        shutil.copyfileobj(damaged, stream)
    return target


def _meta(home: Path) -> JsonObject:
    """Read what a catalogue says of its hub; nothing, if it is not whole."""
    if not (home / DATA_FILE).is_file():
        return {}
    try:
        check_pages(home / DATA_FILE, databases=DATABASES)
        environment = Environment.share(home, map_size=MAP_SIZE)
    except MomaError:
        return {}
    try:
        with environment.begin(write=False) as handles:
            return Snapshot(*handles).meta() or {}
    except MomaError:
        return {}
    finally:
        environment.leave()


def _salvaged(source: Path, draft: Path, hub: HubFile, salvage: _Salvage) -> bool:
    """Take what is whole in a file whose pages are sound; tell whether they are."""
    try:
        check_pages(source, databases=DATABASES)
        _empty(draft)
        with reported("copy", source):
            shutil.copyfile(source, draft / DATA_FILE)
        catalogue = Catalogue.open(draft, hub)
    except MomaError:
        return False
    try:
        with catalogue.snapshot() as view:
            salvage.take(view)
    finally:
        catalogue.close()
    return True


def _write(draft: Path, hub: HubFile, salvage: _Salvage) -> None:
    _empty(draft)
    Catalogue.create(draft, hub)
    catalogue = Catalogue.open(draft, hub)
    history = salvage.chain()
    try:
        with catalogue.write() as writer:
            for digest, data in salvage.records.items():
                writer.put_record(digest, data)
            for key, memo in salvage.memos.items():
                if memo.result in salvage.records:
                    writer.put_memo(key, memo)
            for entry in history:
                writer.put_history(entry)
            for name, digest in replay(history).items():
                writer.set_ref(name, digest)
    finally:
        catalogue.close()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with reported("make", folder):
        folder.mkdir()


def _is_whole(read: Callable[[], object]) -> bool:
    try:
        read()
    except MomaError:
        return False
    return True
