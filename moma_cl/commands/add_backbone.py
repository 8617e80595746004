"""``add-backbone``: one more pretrained encoder for a hub, from which its modules are trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.recipe import Recipe
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import backbones_of
from moma_cl.records.records import BackboneRecord, ModuleKind
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_cl.starter.modules import archive_of
from moma_store.archives import RECORDS, Archive
from moma_store.errors import AlreadyExistsError, InvalidInputError
from moma_store.importing import import_contents
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.backbones.base import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneAdded:
    """A backbone that a hub has from now on."""

    name: str
    version: str
    parameters: int
    modules: int  # of it that come with moma-cl, and that the hub has now


def add_backbone(path: Path, name: str, *, starter: bool, wait: float = 0.0) -> BackboneAdded:
    """Add a backbone to a hub; the next pass composes and fits every task on it, too."""
    from moma_cl.backbones.registry import backbone_class

    backbone = backbone_class(name)
    with Store.open(path) as store:
        _check_absent(store, name)
        _check_rows(store, backbone)
    with Store.open(path, write=True, wait=wait) as store:
        _check_absent(store, name)
        digest = store.ref(DEFAULT_RECIPE)
        recipe = Recipe() if digest is None else Recipe.from_doc(store.record(digest))
        return store_backbone(store, name, recipe.adapter_width, starter=starter)


def store_backbone(store: Store, name: str, adapter_width: int, *, starter: bool) -> BackboneAdded:
    """Store a backbone's parameters, its record and the modules of it that come with moma-cl.

    What is there already stays, so that an interrupted run can be repeated.
    """
    from moma_cl.backbones.parameters import manifest_of, to_vector
    from moma_cl.backbones.registry import backbone_class

    encoder = backbone_class(name).pretrained()
    manifest = manifest_of(encoder, ModuleKind.FULL)
    vector = to_vector(encoder, manifest)
    encoder.add_adapters(adapter_width)
    adapter_manifest = manifest_of(encoder, ModuleKind.ADAPTER)
    header = {"kind": "parameters", "format": 1}
    record = BackboneRecord(
        name=name,
        version=encoder.version,
        manifest=manifest.to_json(),
        parameters=store.put_blob({"parameters": vector}, header),
        adapter_manifest=adapter_manifest.to_json(),
        adapter=store.put_blob({"parameters": to_vector(encoder, adapter_manifest)}, header),
        adapter_width=adapter_width,
    )
    # the ref comes last: without it the run can be repeated, and nothing composes the modules
    modules = _add_starter_modules(store, record) if starter else 0
    ref = RefKind.BACKBONE.of(name)
    with store.transaction(HistoryAction.ADD_BACKBONE, {"backbone": name}) as transaction:
        digest = transaction.put_record(record.to_doc())
        transaction.move_ref(ref, digest, expected=transaction.ref(ref))
    return BackboneAdded(
        name=name,
        version=encoder.version,
        parameters=len(vector),
        modules=modules,
    )


def _add_starter_modules(store: Store, backbone: BackboneRecord) -> int:
    """Add the modules of a backbone, and count them; those that the hub has already stay.

    There are none unless they were trained from exactly these parameters.
    """
    path = archive_of(backbone.name)
    if not path.exists():
        return 0
    with Archive(path) as archive:
        docs = [doc for doc in archive.lines(RECORDS) if doc["kind"] == BackboneRecord.kind]
        trained_from = {BackboneRecord.from_doc(doc).parameters.digest for doc in docs}
        if trained_from != {backbone.parameters.digest}:
            return 0
        taken = {RefKind.MODULE.name_in(ref) for ref in archive.summary.refs} & {*task_names(store)}
        if taken:
            raise AlreadyExistsError(
                f"task {min(taken)!r} has the name of a module that comes with moma-cl; "
                "--no-starter leaves these modules out"
            )
        imported = import_contents(store, archive)
        return len(imported.refs) + len(imported.present)


def _check_absent(store: Store, name: str) -> None:
    if name in backbones_of(store):
        raise AlreadyExistsError(f"hub {store.path} has the backbone {name!r} already")


def _check_rows(store: Store, backbone: type[Backbone]) -> None:
    """Refuse a backbone that does not know an element of a task's rows, or cannot build a graph."""
    from moma_cl.graphs.cache import ByteCache
    from moma_cl.graphs.checks import check_graphs
    from moma_cl.structures.checks import check_crystals
    from moma_cl.workspace.dataset_rows import DatasetRows

    rows = DatasetRows(store=store)
    with ByteCache(store.cache_dir / "graphs") as cache:
        for name in task_names(store):
            live = rows.of(task_state(store, name).dataset_digest)
            crystals = rows.crystals(live, range(len(live.ids)))
            errors = check_crystals(crystals, elements=backbone.elements)
            if not any(errors):
                errors = check_graphs(crystals, [backbone], cache)
            for row_id, error in zip(live.ids, errors, strict=True):
                if error is not None:
                    raise InvalidInputError(
                        f"backbone {backbone.name!r} cannot be used for row {row_id!r} of task "
                        f"{name!r}: {error.message}; `moma-cl retract` takes rows away"
                    )
