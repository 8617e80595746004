"""``export`` and ``import``: a hub, or modules of it, in one archive.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.commands.maintenance import live_results
from moma_cl.records.hub import backbone_record, backbones_of
from moma_cl.records.records import Module, ModuleKind
from moma_cl.records.refs import RefKind
from moma_store import archives
from moma_store.errors import BackboneError, InvalidInputError, NotFoundError
from moma_store.records import digest
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
        chosen = _chosen(store.refs(RefKind.MODULE.prefix), modules)
        return archives.export(store, target, refs=chosen)


def _chosen(present: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Choose modules by name: of all backbones, or of one where the name says ``NAME@BACKBONE``."""
    chosen: dict[str, str] = {}
    for name in names:
        kind = RefKind.MODULE
        found = {
            ref: record
            for ref, record in present.items()
            if name in {kind.name_in(ref), kind.full_name_in(ref)}
        }
        if not found:
            listed = ", ".join(kind.full_name_in(ref) for ref in present) or "none"
            raise NotFoundError(f"there is no module {name!r}; the hub has {listed}")
        chosen |= found
    return chosen


def import_archive(
    path: Path, archive: Path, *, catalogue: Path | None = None, wait: float = 0.0
) -> Imported:
    """Add the modules of an archive to a hub, or make the hub that was exported."""
    from moma_cl.commands.archive_checks import check_contents  # heavy: it decodes everything
    from moma_store.importing import import_contents

    with archives.Archive(archive) as opened:
        whole = opened.summary.kind == archives.HUB
        if whole and not (path / "hub.toml").exists():
            with Store.create(path, catalogue=catalogue) as store:
                return import_contents(store, opened, check=check_contents)
        with Store.open(path, write=True, wait=wait) as store:
            if not whole:
                _check_backbones(store, opened)
            return import_contents(store, opened, check=check_contents)


def _check_backbones(store: Store, archive: archives.Archive) -> None:
    """Refuse modules that were not trained from the hub's own: their average means nothing."""
    records = {digest(doc): doc for doc in archive.lines(archives.RECORDS)}
    present = [backbone_record(store, record) for record in backbones_of(store).values()]
    parameters = {one.name: one.parameters.digest for one in present}
    adapters = {one.name: one.adapter.digest for one in present}
    for doc in (one for one in records.values() if one.get("kind") == Module.kind):
        name, theirs, adapter = _backbone_in(records, doc)
        if name not in parameters:
            raise BackboneError(
                f"the archive has modules of backbone {name!r}, the hub has "
                f"{', '.join(parameters)}; `moma-cl add-backbone {name}` adds it"
            )
        if theirs != parameters[name]:
            raise BackboneError(
                f"the archive has modules of another backbone {name!r} ({theirs[:12]}) than the "
                f"hub's ({parameters[name][:12]}); parameters of one mean nothing to the other"
            )
        if doc.get("module") == ModuleKind.ADAPTER.value and adapter != adapters[name]:
            raise BackboneError(
                "the archive has an adapter that started from another initial adapter than this "
                "hub's; only hubs whose recipes agree on adapter_width share adapters"
            )


def _backbone_in(records: Mapping[str, Any], module: Mapping[str, Any]) -> tuple[str, str, str]:
    """Give name, parameters and initial adapter of a module's backbone, as the archive has them.

    Nothing of it has been checked yet.
    """
    try:
        backbone = records[module["backbone"]["$record"]]
        parameters, adapter = (backbone[name]["$blob"] for name in ("parameters", "adapter"))
        return str(backbone["name"]), str(parameters), str(adapter)
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"the archive is refused: a module in it has no backbone ({error!r})",
            code="invalid-input.archive",
        ) from error
