"""The hub that upstream modules of one backbone are trained in and shipped from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from moma_cl.records.hub import backbones_of
from moma_cl.records.records import Module
from moma_cl.records.refs import RefKind
from moma_cl.workspace.encoders import Encoders
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store


def the_encoders(workspace: Workspace) -> Encoders:
    """Give the encoders of the one backbone of a hub that modules are shipped from."""
    assert isinstance(workspace.store, Store)
    (backbone,) = backbones_of(workspace.store).values()
    return workspace.encoders(backbone)


def put_module(
    hub: Path, name: str, record: Module, arrays: dict[str, NDArray[Any]], encoders: Encoders
) -> Module:
    """Store a module, and let its name mean it from now on.

    Parameters
    ----------
    hub
        The hub that the modules are shipped from.
    name
        Name of the module.
    record
        Its record, without a blob.
    arrays
        Arrays of its blob.
    encoders
        Those of its backbone.

    Returns
    -------
    Module
        The record.
    """
    ref = RefKind.MODULE.on(name, encoders.record.name)
    with Store.open(hub, write=True, wait=3600.0) as store:
        header = {"kind": "module-arrays", "format": 1}
        base = encoders.base(record.module)
        record = record.with_blob(store.put_blob(arrays, header, base=base))
        with store.transaction("module", {"module": name}) as transaction:
            new = transaction.put_record(record.to_doc())
            transaction.move_ref(ref, new, expected=transaction.ref(ref))
    return record
