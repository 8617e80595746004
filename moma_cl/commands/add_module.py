"""``add-module``: a module that was trained elsewhere from a backbone of the hub.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.core.limits import LARGEST, MOST, check_number
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import backbone_record, backbones_of
from moma_cl.records.records import BackboneRecord, Module, ModuleKind
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import check_task_name, task_names
from moma_store.errors import (
    AlreadyExistsError,
    BackboneError,
    InvalidInputError,
    NotFoundError,
)
from moma_store.records import BlobLink
from moma_store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moma_cl.backbones.parameters import ParameterManifest

_TRAINED_ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Parameters trained elsewhere, and what their maker declares of them.

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
    trained_on
        Files and folders with all structures they were trained on. Without them a task of the
        same property, or of one that it determines, does not compose the module: nobody could
        tell whether it has seen the answers.
    source
        Where they come from, for people.
    licence
        Under which licence.
    """

    file: Path
    property: str
    unit: str
    validation_mae: float
    n_train: int = 0
    n_validation: int = 0
    trained_on: tuple[Path, ...] = ()
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAdded:
    """A module that was added."""

    name: str
    digest: str
    kind: str
    parameters: int
    bytes: int


def add_module(
    path: Path, name: str, weights: Weights, *, backbone: str | None = None, wait: float = 0.0
) -> ModuleAdded:
    """Add a module that was trained elsewhere from a backbone of the hub."""
    from moma_cl.properties.table import canonical_property
    from moma_cl.properties.units import canonical_unit

    check_task_name(name)
    check_number("validation_mae", weights.validation_mae, least=0.0, most=LARGEST)
    for count in ("n_train", "n_validation"):
        check_number(count, getattr(weights, count), least=0, most=MOST)
    unit, property_name = canonical_unit(weights.unit), canonical_property(weights.property)
    seen = _fingerprints(weights.trained_on)
    with Store.open(path, write=True, wait=wait) as store:
        named = chosen_backbone(store, backbone)
        ref = RefKind.MODULE.on(name, named)
        if name in task_names(store) or store.ref(ref) is not None:
            raise AlreadyExistsError(
                f"hub {path} has a task or module {name!r}; choose another name"
            )
        digest_of_backbone = backbones_of(store)[named]
        trained_from = backbone_record(store, digest_of_backbone)
        kind, vector = _vector_for(trained_from, weights.file)
        blob = _put(store, trained_from, kind, vector, seen)
        module = _record(weights, digest_of_backbone, kind, blob, len(seen))
        record = replace(module, property=property_name, unit=unit)
        detail = {
            "module": name,
            "backbone": named,
            "property": property_name,
            "validation_mae": weights.validation_mae,
        }
        with store.transaction(HistoryAction.ADD_MODULE, detail) as transaction:
            digest = transaction.put_record(record.to_doc())
            transaction.move_ref(ref, digest, expected=None)
        return ModuleAdded(
            name=name,
            digest=digest,
            kind=str(kind),
            parameters=len(vector),
            bytes=record.blob.n_bytes,
        )


def _record(
    weights: Weights, backbone: str, kind: ModuleKind, blob: BlobLink, n_seen: int
) -> Module:
    """Make the record of a module, with property and unit as they were declared."""
    return Module(
        backbone=backbone,
        module=kind,
        property=weights.property,
        dataset=None,
        blob=blob,
        n_train=weights.n_train or n_seen,
        n_validation=weights.n_validation,
        validation_mae=weights.validation_mae,
        unit=weights.unit,
        epochs=0,
        settings={},
        made_by={},
        source=_source(weights),
    )


def chosen_backbone(store: Store, name: str | None) -> str:
    """Choose a backbone of a hub by its name, which a hub with one backbone needs not be told."""
    present = backbones_of(store)
    if name is None and len(present) == 1:
        return next(iter(present))
    if name is None:
        raise InvalidInputError(
            f"the hub has several backbones; say with --backbone which is meant: "
            f"{', '.join(present)}"
        )
    if name not in present:
        raise NotFoundError(
            f"the hub has no backbone {name!r}, only {', '.join(present)}; "
            f"`moma-cl add-backbone {name}` adds it"
        )
    return name


def _source(weights: Weights) -> dict[str, Any]:
    """Say where weights come from, as the module's record keeps it."""
    labels = {"from": weights.source, "licence": weights.licence}
    return {
        "trained": _TRAINED_ELSEWHERE,
        "name": weights.file.name,
        "sha256": hashlib.sha256(weights.file.read_bytes()).hexdigest(),
        "trained_on": [path.name for path in weights.trained_on],
        **{key: text for key, text in labels.items() if text},
    }


def _fingerprints(sources: Sequence[Path]) -> NDArray[np.uint64]:
    """Fingerprint the structures of some files; one that is missing could leak answers unseen."""
    import numpy as np

    if not sources:
        return np.zeros(0, dtype=np.uint64)
    from moma_cl.readers.dispatch import read_rows
    from moma_cl.structures.checks import check_crystal
    from moma_cl.structures.fingerprints import fingerprint

    fingerprints: list[int] = []
    for row in read_rows(sources, strict=True):
        problem = row.error
        if row.crystal is not None and problem is None:
            problem = check_crystal(row.crystal)
        if row.crystal is None or problem is not None:
            why = problem.message if problem is not None else "it has no structure"
            raise InvalidInputError(
                f"what the module was trained on cannot be declared: {row.source}: {why};"
                " every structure must be readable"
            )
        fingerprints.append(fingerprint(row.crystal))
    if not fingerprints:
        raise InvalidInputError(f"{sources[0]} holds no structures that a module was trained on")
    return np.unique(np.array(fingerprints, dtype=np.uint64))


def _put(
    store: Store,
    backbone: BackboneRecord,
    kind: ModuleKind,
    vector: NDArray[np.float32],
    seen: NDArray[np.uint64],
) -> BlobLink:
    base = backbone.parameters if kind == ModuleKind.FULL else backbone.adapter
    arrays: dict[str, NDArray[Any]] = {"parameters": vector, "fingerprints": seen}
    return store.put_blob(arrays, {"kind": "module-arrays", "format": 1}, base=base)


def _vector_for(backbone: BackboneRecord, file: Path) -> tuple[ModuleKind, NDArray[np.float32]]:
    """Read weights as the one vector that a module is; their names say of which kind."""
    import numpy as np

    from moma_cl.backbones.parameters import ParameterManifest

    tensors = _tensors(file)
    full = ParameterManifest.from_json(backbone.manifest)
    adapter = ParameterManifest.from_json(backbone.adapter_manifest)
    is_adapter = bool(tensors.keys() & set(adapter.names)) and not tensors.keys() & set(full.names)
    kind = ModuleKind.ADAPTER if is_adapter else ModuleKind.FULL
    manifest = adapter if is_adapter else full
    _check_tensors(file, tensors, manifest, backbone)
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
    file: Path, tensors: dict[str, Any], manifest: ParameterManifest, backbone: BackboneRecord
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
            tensor = tensors[name]
            if tensor.shape != shape or tensor.dtype.name != "float32":
                reason = f"{name!r} is {tensor.dtype} {tensor.shape}, expected float32 {shape}"
                break
    if reason is not None:
        raise BackboneError(
            f"{file} does not hold the parameters of backbone {backbone.name!r}"
            f" {backbone.version}: {reason}"
        )
