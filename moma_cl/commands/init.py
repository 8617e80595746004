"""Founding a hub: the backbone becomes its first blob."""

from __future__ import annotations

import hashlib
from pathlib import Path

from moma_cl.backbones.parameters import manifest_of, to_vector
from moma_cl.backbones.registry import backbone_class
from moma_cl.recipe import Recipe
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Hub, ModuleKind
from moma_cl.records.refs import DEFAULT_RECIPE, HUB
from moma_cl.starter import bring_starter_modules
from moma_store.errors import AlreadyExistsError
from moma_store.store import Store


def found_hub(
    path: Path,
    *,
    backbone: str,
    catalogue: Path | None,
    salt: str,
    recipe: Recipe,
    starter: bool,
) -> tuple[Hub, int]:
    """Make a hub with its backbone, the adapter all adapter modules start from, and its recipe.

    A hub whose founding was cut short is finished.

    Parameters
    ----------
    path
        The hub's folder.
    backbone
        Name of the backbone.
    catalogue
        Folder of the catalogue, if it is not to be in the hub.
    salt
        Of the hash that assigns folds.
    recipe
        What tasks start with.
    starter
        Whether it gets the modules that ship with the package.

    Returns
    -------
    tuple[Hub, int]
        What every task of the hub shares, and the number of modules it starts with.

    Raises
    ------
    AlreadyExistsError
        If there is a hub already.
    """
    encoder = backbone_class(backbone).pretrained()
    manifest = manifest_of(encoder, ModuleKind.FULL)
    vector = to_vector(encoder, manifest)
    name = {"name": backbone, "digest": hashlib.sha256(vector.tobytes()).hexdigest()}
    width = recipe.adapter_width
    encoder.add_adapters(width)
    adapter_manifest = manifest_of(encoder, ModuleKind.ADAPTER)
    with _opened(path, name, catalogue) as store:
        header = {"kind": "parameters", "format": 1}
        hub = Hub(
            backbone=backbone,
            backbone_version=encoder.version,
            manifest=manifest.to_json(),
            parameters=store.put_blob({"parameters": vector}, header),
            adapter_manifest=adapter_manifest.to_json(),
            adapter=store.put_blob({"parameters": to_vector(encoder, adapter_manifest)}, header),
            adapter_width=width,
            salt=salt,
        )
        # before the ref "hub", whose presence says that the founding was not cut short
        n_modules = bring_starter_modules(store) if starter else 0
        with store.transaction(HistoryAction.INIT, {"backbone": backbone}) as transaction:
            transaction.move_ref(HUB, transaction.put_record(hub.to_doc()), expected=None)
            transaction.move_ref(
                DEFAULT_RECIPE, transaction.put_record(recipe.to_doc()), expected=None
            )
    return hub, n_modules


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
