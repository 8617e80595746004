"""The modules of a hub and which tasks use them, read from the catalogue alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moma_cl.records.records import Composition, Module
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import RefKind, backbone_in
from moma_store.catalogue import Snapshot
from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleListed:
    """A module that tasks may compose.

    Attributes
    ----------
    name
        The module's name, which is its task's.
    backbone
        Name of the backbone that it specialises.
    version
        How often the task's module has changed: 1 for the first.
    digest
        Digest of its record.
    task
        The task it was trained on.
    kind
        ``full``, ``adapter`` or ``multitask``.
    property
        Canonical name of what that task predicts.
    bytes
        Size of the file that holds its parameters.
    created
        When it was taken up, UTC, ISO 8601.
    rows
        Training rows.
    validation_mae
        Mean absolute error on the validation fold at the end of its training, in the unit.
    unit
        The task's unit.
    used_by
        Its weight in the composition of each task; nobody composes a multitask module.
    """

    name: str
    backbone: str
    version: int
    digest: str
    task: str
    kind: str
    property: str
    bytes: int
    created: str
    rows: int
    validation_mae: float
    unit: str
    used_by: dict[str, float]


def modules(path: Path) -> list[ModuleListed]:
    """List the present modules of a hub by name."""
    with _without_collector(), Store.open(path) as store, store.snapshot() as view:
        past = Past.of(view)
        used = weights_by_module(view)
        return [
            _module_listed(view, past, name, digest, used.get(digest, {}))
            for name, digest in sorted(view.refs(RefKind.MODULE.prefix).items())
        ]


def weights_by_module(view: Snapshot) -> dict[str, dict[str, float]]:
    """Give, by digest of a module, its weight in each task's present composition."""
    used: dict[str, dict[str, float]] = {}
    for ref, digest in view.refs(RefKind.COMPOSITION.prefix).items():
        composition = Composition.from_doc(view.record(digest))
        for module, weight in zip(composition.modules, composition.weights, strict=True):
            used.setdefault(module, {})[RefKind.COMPOSITION.name_in(ref)] = weight
    return used


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make many small objects without Python's search for cycles, which there are none of."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _module_listed(
    view: Snapshot, past: Past, ref: str, digest: str, used_by: dict[str, float]
) -> ModuleListed:
    # Only what is shown is read: a hub may have ten thousand modules.
    module = view.record(digest)
    Module.check_doc(module)
    moves = past.moves[ref]
    name = RefKind.MODULE.name_in(ref)
    return ModuleListed(
        name=name,
        backbone=backbone_in(ref),
        version=len(moves),
        digest=digest,
        task=name,
        kind=module["module"],
        property=module["property"],
        bytes=module["blob"]["bytes"],
        created=moves[-1].at,
        rows=module["n_train"],
        validation_mae=module["validation_mae"],
        unit=module["unit"],
        used_by=used_by,
    )
