"""Upkeep of a hub: verifying, collecting, pinning, and moving it or its modules about.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.derivations import Derivation, DerivationKind
from moma_cl.reconcile import Reads, task_names, walk
from moma_cl.records import Hub, Module, ModuleKind
from moma_store import archives
from moma_store.catalogue import Snapshot
from moma_store.collection import Collected, collect
from moma_store.errors import (
    AlreadyExistsError,
    BackboneError,
    InvalidInputError,
    MomaError,
    NotFoundError,
)
from moma_store.store import Store
from moma_store.verification import Verification
from moma_store.verification import verify as verify_store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moma_cl.backbones.parameters import ParameterManifest
    from moma_store.importing import Imported

PINS = "pins/"
MODULES = "modules/"
TRAINED_ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A record that ``gc`` keeps until it is unpinned."""

    digest: str
    kind: str  # of the record
    changed: bool  # whether it was otherwise before


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Parameters trained elsewhere, and what is known of them.

    Attributes
    ----------
    file
        A safetensors file whose tensors are named and shaped as the backbone's, or its adapter's.
    property
        What they were trained to predict.
    unit
        Unit of that.
    validation_mae
        Their mean absolute error on rows that were not trained on, in the unit.
    n_train, n_validation
        Rows they were trained and judged on.
    """

    file: Path
    property: str
    unit: str
    validation_mae: float
    n_train: int = 0
    n_validation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAdded:
    """A module that came in."""

    name: str
    digest: str
    kind: str
    parameters: int
    bytes: int


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """A worker that only notes what a pass would look up, so that it is not derived again."""

    view: Snapshot
    results: set[str] = field(default_factory=set)

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up."""
        del why
        memo = self.view.memo(derivation.key)
        if memo is not None:
            self.results.add(memo.result)
        return None if memo is None else memo.result

    def compose(self, task: str, composition: str) -> None:
        """Leave refs where they are."""

    def adopt_module(self, task: str, module: str) -> None:
        """Leave refs where they are."""

    def adopt_predictor(self, task: str, predictor: str, *, first: bool) -> None:
        """Leave refs where they are."""

    def leave(self, task: str, kind: DerivationKind, why: str) -> None:
        """Take no notice."""

    def fail(self, task: str, error: MomaError) -> None:
        """Refuse to call results unneeded while those of a task cannot be told."""
        del task
        raise error


def live_results(view: Snapshot) -> set[str]:
    """Find the results that a pass would look up rather than derive.

    Parameters
    ----------
    view
        A snapshot of the hub.

    Returns
    -------
    set[str]
        Digests of records, such as the estimates of present modules.
    """
    keeper = _Keeper(view=view)
    reads: Reads = view
    walk(reads, keeper)
    return keeper.results


def verify(
    path: Path, *, deep: bool = False, repair: bool = False, wait: float = 0.0
) -> Verification:
    """Verify everything in a hub.

    Parameters
    ----------
    path
        The hub.
    deep
        Whether to decode all arrays rather than hash files only.
    repair
        Whether to put damaged blobs into quarantine and to restore a damaged catalogue.
    wait
        How long to wait for a writer, s.

    Returns
    -------
    Verification
        What was found.

    Raises
    ------
    NotFoundError
        If there is no hub.
    IntegrityError
        If what should be repaired cannot be.
    """
    return verify_store(path, deep=deep, repair=repair, wait=wait, roots=live_results)


def gc(path: Path, *, dry_run: bool = False, wait: float = 0.0) -> Collected:
    """Take away what nothing needs any more.

    Kept are what refs and pins reach, the last five predictors of each task, and what a pass
    would look up.

    Parameters
    ----------
    path
        The hub.
    dry_run
        Whether only to say what would go.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Collected
        What went.

    Raises
    ------
    IntegrityError
        If the catalogue is damaged; nothing was taken away.
    """
    with Store.open(path, write=True, wait=wait) as store:
        with store.snapshot() as view:
            roots = live_results(view)
        return collect(store, roots=roots, dry_run=dry_run)


def pin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Keep a record, and all it reaches, whatever becomes of its refs.

    Parameters
    ----------
    path
        The hub.
    name
        A task, whose champion is meant; a ref; or the digest of a record, or its beginning.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Pinned
        What is pinned.

    Raises
    ------
    NotFoundError
        If there is nothing of that name.
    """
    return _set_pin(path, name, pinned=True, wait=wait)


def unpin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Let ``gc`` take a record again once nothing else needs it.

    Parameters
    ----------
    path
        The hub.
    name
        As in `pin`.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Pinned
        What is no longer pinned.

    Raises
    ------
    NotFoundError
        If there is nothing of that name.
    """
    return _set_pin(path, name, pinned=False, wait=wait)


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
        present = store.refs(MODULES)
        for name in modules:
            if MODULES + name not in present:
                known = ", ".join(ref.removeprefix(MODULES) for ref in present) or "none"
                raise NotFoundError(f"there is no module {name!r}; the hub has {known}")
        chosen = {MODULES + name: present[MODULES + name] for name in modules}
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


def add_module(path: Path, name: str, weights: Weights, *, wait: float = 0.0) -> ModuleAdded:
    """Take in a module that was trained elsewhere from the hub's own backbone.

    Parameters
    ----------
    path
        The hub.
    name
        Name of the module; no task or module may have it.
    weights
        The parameters, and what is known of them.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    ModuleAdded
        The module.

    Raises
    ------
    AlreadyExistsError
        If the name is taken.
    BackboneError
        If names or shapes of the tensors are not exactly the backbone's.
    InvalidInputError
        If the file or a name cannot be used.
    """
    from moma_cl.properties import canonical_property, canonical_unit
    from moma_cl.service import check_task_name

    check_task_name(name)
    unit, known_as = canonical_unit(weights.unit), canonical_property(weights.property)
    with Store.open(path, write=True, wait=wait) as store:
        if name in task_names(store) or store.ref(MODULES + name) is not None:
            raise AlreadyExistsError(
                f"hub {path} has a task or module {name!r}; choose another name"
            )
        hub_digest = store.ref("hub")
        if hub_digest is None:
            raise NotFoundError("the hub has no backbone; run `moma-cl init` again")
        hub = Hub.from_doc(store.record(hub_digest))
        kind, vector = _vector_for(hub, weights.file)
        record = Module(
            hub=hub_digest,
            module=kind,
            property=known_as,
            dataset=None,
            blob=_put(store, hub, kind, vector),
            n_train=weights.n_train,
            n_validation=weights.n_validation,
            validation_mae=weights.validation_mae,
            unit=unit,
            epochs=0,
            settings={},
            made_by={},
            source={
                "trained": TRAINED_ELSEWHERE,
                "name": weights.file.name,
                "sha256": hashlib.sha256(weights.file.read_bytes()).hexdigest(),
            },
        )
        detail = {"module": name, "property": known_as, "validation_mae": weights.validation_mae}
        with store.transaction("add-module", detail) as transaction:
            digest = transaction.put_record(record.to_doc())
            transaction.move_ref(MODULES + name, digest, expected=None)
        return ModuleAdded(
            name=name,
            digest=digest,
            kind=str(kind),
            parameters=len(vector),
            bytes=record.blob.n_bytes,
        )


def _set_pin(path: Path, name: str, *, pinned: bool, wait: float) -> Pinned:
    from moma_cl import listing

    task = False
    with Store.open(path) as store:
        task = store.ref(f"predictors/{name}") is not None
    shown = listing.show(path, f"predictors/{name}" if task else name)
    ref = PINS + shown.digest
    with Store.open(path, write=True, wait=wait) as store:
        present = store.ref(ref)
        wanted = shown.digest if pinned else None
        if present != wanted:
            detail = {"kind": shown.kind, "name": name}
            with store.transaction("pin" if pinned else "unpin", detail) as transaction:
                transaction.move_ref(ref, wanted, expected=present)
    return Pinned(digest=shown.digest, kind=shown.kind, changed=present != wanted)


def _check_adapters(store: Store, archive: archives.Archive) -> None:
    """Refuse adapters that did not start from the hub's own: their average means nothing."""
    here = store.ref("hub")
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


def _put(store: Store, hub: Hub, kind: ModuleKind, vector: NDArray[np.float32]) -> Any:
    import numpy as np

    base = hub.parameters if kind == ModuleKind.FULL else hub.adapter
    # What it was trained on is not known: no fingerprints.
    arrays: dict[str, NDArray[Any]] = {
        "parameters": vector,
        "fingerprints": np.zeros(0, dtype=np.uint64),
    }
    return store.put_blob(arrays, {"kind": "module-arrays", "format": 1}, base=base)


def _vector_for(hub: Hub, file: Path) -> tuple[ModuleKind, NDArray[np.float32]]:
    """Read weights as the one vector that a module is; their names say of which kind."""
    import numpy as np

    from moma_cl.backbones.parameters import ParameterManifest

    tensors = _tensors(file)
    full = ParameterManifest.from_json(hub.manifest)
    adapter = ParameterManifest.from_json(hub.adapter_manifest)
    is_adapter = bool(tensors.keys() & set(adapter.names)) and not tensors.keys() & set(full.names)
    kind = ModuleKind.ADAPTER if is_adapter else ModuleKind.FULL
    manifest = adapter if is_adapter else full
    _check_tensors(file, tensors, manifest, hub)
    flat = [np.ravel(tensors[name]) for name in manifest.names]
    vector: NDArray[np.float32] = np.concatenate(flat).astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        raise InvalidInputError(f"{file} holds parameters that are not finite")
    return kind, vector


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if file.suffix != ".safetensors":
        raise InvalidInputError(
            f"{file} is no safetensors file; pickled checkpoints are never loaded, convert them"
        )
    try:
        return dict(load_file(file))
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {file}") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InvalidInputError(f"{file} cannot be read as safetensors: {error}") from error


def _check_tensors(
    file: Path, tensors: dict[str, Any], manifest: ParameterManifest, hub: Hub
) -> None:
    expected = dict(zip(manifest.names, manifest.shapes, strict=True))
    lacking = sorted(expected.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - expected.keys())
    reason = None
    if lacking or foreign:
        wrong = f"it lacks {lacking[0]!r}" if lacking else f"it also has {foreign[0]!r}"
        reason = f"{wrong} ({len(lacking)} missing, {len(foreign)} unknown)"
    else:
        for name, shape in expected.items():
            found = tensors[name]
            if found.shape != shape or found.dtype.name != "float32":
                reason = f"{name!r} is {found.dtype} {found.shape}, expected float32 {shape}"
                break
    if reason is not None:
        raise BackboneError(
            f"{file} does not hold the parameters of backbone {hub.backbone!r}"
            f" {hub.backbone_version}: {reason}"
        )
