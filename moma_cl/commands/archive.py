"""``export`` and ``import``: a hub, or modules of it, in one archive.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.commands.maintenance import live_results
from moma_cl.records.hub import hub_of
from moma_cl.records.records import ModuleKind
from moma_cl.records.refs import RefKind
from moma_store import archives
from moma_store.errors import BackboneError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_store.importing import Imported


def export(path: Path, target: Path, *, modules: Sequence[str] | None = None) -> archives.Exported:
    """Write a hub, or chosen modules with what they depend on, into one archive."""
    with Store.open(path) as store:
        if modules is None:
            with store.snapshot() as view:
                roots = live_results(view)
            return archives.export(store, target, roots=roots)
        present = store.refs(RefKind.MODULE.prefix)
        for name in modules:
            if RefKind.MODULE.of(name) not in present:
                names = ", ".join(RefKind.MODULE.name_in(ref) for ref in present) or "none"
                raise NotFoundError(f"there is no module {name!r}; the hub has {names}")
        chosen = {RefKind.MODULE.of(name): present[RefKind.MODULE.of(name)] for name in modules}
        return archives.export(store, target, refs=chosen)


def import_archive(
    path: Path, archive: Path, *, catalogue: Path | None = None, wait: float = 0.0
) -> Imported:
    """Add the modules of an archive to a hub, or make the hub that was exported."""
    from moma_cl.commands.archive_checks import check_contents  # heavy: it decodes everything
    from moma_store.importing import import_contents

    with archives.Archive(archive) as opened:
        backbone = opened.summary.backbone
        whole = opened.summary.kind == archives.HUB
        if whole and not (path / "hub.toml").exists():
            with Store.create(path, backbone=backbone, catalogue=catalogue) as store:
                return import_contents(store, opened, check=lambda c: check_contents(c, None))
        with Store.open(path, write=True, wait=wait) as store:
            hub = None if whole else hub_of(store)
            if hub is not None:
                _check_adapters(store, opened)
            return import_contents(store, opened, check=lambda c: check_contents(c, hub))


def _check_adapters(store: Store, archive: archives.Archive) -> None:
    """Refuse adapters that were not trained from the hub's own: their average means nothing."""
    adapter = hub_of(store).adapter.digest
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
