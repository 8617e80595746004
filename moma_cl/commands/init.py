"""``init``: making a hub, whose first blob is its backbone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from moma_cl.recipe import Recipe
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import is_hub
from moma_cl.records.records import HubRecord, ModuleKind
from moma_cl.records.refs import DEFAULT_RECIPE, HUB
from moma_cl.starter.modules import add_starter_modules
from moma_store.errors import AlreadyExistsError
from moma_store.store import Store

DEFAULT_SALT = "moma-cl"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMade:
    """A hub that was made."""

    path: str
    backbone: str
    backbone_version: str
    parameters: int
    threads: int
    modules: int  # that it starts with


def init(
    path: Path,
    *,
    backbone: str,
    catalogue: Path | None,
    salt: str | None,
    recipe: Recipe | None,
    starter: bool,
) -> HubMade:
    """Make a hub, or finish one whose making was cut short."""
    if is_hub(path):
        raise AlreadyExistsError(f"there is a hub at {path}; `moma-cl tasks --hub {path}` lists it")
    from moma_cl.backbones.parameters import manifest_of, to_vector
    from moma_cl.backbones.registry import backbone_class

    recipe = recipe or Recipe()
    encoder = backbone_class(backbone).pretrained()
    manifest = manifest_of(encoder, ModuleKind.FULL)
    vector = to_vector(encoder, manifest)
    name = {"name": backbone, "digest": hashlib.sha256(vector.tobytes()).hexdigest()}
    encoder.add_adapters(recipe.adapter_width)
    adapter_manifest = manifest_of(encoder, ModuleKind.ADAPTER)
    with _opened(path, name, catalogue) as store:
        header = {"kind": "parameters", "format": 1}
        hub = HubRecord(
            backbone=backbone,
            backbone_version=encoder.version,
            manifest=manifest.to_json(),
            parameters=store.put_blob({"parameters": vector}, header),
            adapter_manifest=adapter_manifest.to_json(),
            adapter=store.put_blob({"parameters": to_vector(encoder, adapter_manifest)}, header),
            adapter_width=recipe.adapter_width,
            salt=DEFAULT_SALT if salt is None else salt,
        )
        # before the ref HUB, whose presence says that the making was not cut short
        n_modules = add_starter_modules(store) if starter else 0
        with store.transaction(HistoryAction.INIT, {"backbone": backbone}) as transaction:
            transaction.move_ref(HUB, transaction.put_record(hub.to_doc()), expected=None)
            transaction.move_ref(
                DEFAULT_RECIPE, transaction.put_record(recipe.to_doc()), expected=None
            )
    return HubMade(
        path=str(path),
        backbone=hub.backbone,
        backbone_version=hub.backbone_version,
        parameters=len(vector),
        threads=recipe.threads,
        modules=n_modules,
    )


def _opened(path: Path, backbone: dict[str, str], catalogue: Path | None) -> Store:
    try:
        return Store.create(path, backbone=backbone, catalogue=catalogue)
    except AlreadyExistsError:
        if not (path / "hub.toml").exists():
            raise
        store = Store.open(path, write=True)
        if store.ref(HUB) is None and store.backbone == backbone:
            return store
        store.close()
        raise
