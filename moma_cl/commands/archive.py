"""Moving about: a hub, or modules of it, out into one archive and in from one.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.commands.maintenance import live_results
from moma_cl.records.records import ModuleKind
from moma_cl.records.refs import HUB, RefKind
from moma_store import archives
from moma_store.errors import BackboneError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_store.importing import Imported


def export(path: Path, target: Path, *, modules: Sequence[str] | None = None) -> archives.Exported:
    """Write a hub, or chosen modules with what they depend on, into one archive.

    Parameters
    ----------
    path
        The hub.
    target
        The archive; nothing may be there.
    modules
        Names of modules; the whole hub if None.

    Returns
    -------
    archives.Exported
        What the archive holds.

    Raises
    ------
    NotFoundError
        If there is no such module.
    AlreadyExistsError
        If there is a file already.
    IntegrityError
        If something that belongs into the archive is damaged.

    """
    with Store.open(path) as store:
        if modules is None:
            with store.snapshot() as view:
                roots = live_results(view)
            return archives.export(store, target, roots=roots)
        present = store.refs(RefKind.MODULE.prefix)
        for name in modules:
            if RefKind.MODULE.of(name) not in present:
                known = ", ".join(RefKind.MODULE.name_in(ref) for ref in present) or "none"
                raise NotFoundError(f"there is no module {name!r}; the hub has {known}")
        chosen = {RefKind.MODULE.of(name): present[RefKind.MODULE.of(name)] for name in modules}
        return archives.export(store, target, refs=chosen)


def import_archive(
    path: Path, archive: Path, *, catalogue: Path | None = None, wait: float = 0.0
) -> Imported:
    """Take the modules of an archive into a hub, or make the hub that was exported.

    Parameters
    ----------
    path
        The hub; for a whole hub, an empty folder or none.
    archive
        What `export` wrote.
    catalogue
        Folder for the catalogue of a hub that is made.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Imported
        What was new.

    Raises
    ------
    BackboneError
        If the archive is from a hub with another backbone.
    AlreadyExistsError
        If a name is taken.
    InvalidInputError
        If the archive is not what `export` writes.
    IntegrityError
        If it is damaged.

    """
    from moma_store.importing import take_in

    with archives.Archive(archive) as opened:
        backbone = opened.summary.backbone
        whole = opened.summary.kind == archives.HUB
        if whole and not (path / "hub.toml").exists():
            with Store.create(path, backbone=backbone, catalogue=catalogue) as store:
                return take_in(store, opened)
        with Store.open(path, write=True, wait=wait) as store:
            if not whole:
                _check_adapters(store, opened)
            return take_in(store, opened)


def _check_adapters(store: Store, archive: archives.Archive) -> None:
    """Refuse adapters that did not start from the hub's own: their average means nothing."""
    here = store.ref(HUB)
    if here is None:
        raise NotFoundError("the hub has no backbone; run `moma-cl init` again")
    adapter = store.record(here)["adapter"]["$blob"]
    docs = list(archive.lines("records.jsonl"))
    foreign = [doc for doc in docs if doc.get("kind") == "hub" and _adapter_of(doc) != adapter]
    if foreign and any(doc.get("module") == ModuleKind.ADAPTER.value for doc in docs):
        raise BackboneError(
            "the archive has an adapter that started from another initial adapter than this hub's;"
            " only hubs whose recipes agree on adapter_width share adapters"
        )


def _adapter_of(doc: dict[str, Any]) -> Any:
    adapter = doc.get("adapter")
    return adapter.get("$blob") if isinstance(adapter, dict) else None
