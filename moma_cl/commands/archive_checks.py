"""Refusing archives whose records or blobs are not what they claim to be.

Whoever wrote an archive may have meant harm. So each record is decoded as its kind, what it names
must be of the kind it needs, refs need names that the hub itself would give, and blobs must hold
the arrays that their records promise. All that is checked before anything of it is in the hub.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from moma_cl.commands.archive_blobs import check_blob
from moma_cl.commands.maintenance import PINS
from moma_cl.derivations.keys import DerivationKind
from moma_cl.recipe import Recipe
from moma_cl.records.base import Record
from moma_cl.records.decoding import LINKED, Decoded, decoded
from moma_cl.records.records import (
    BackboneRecord,
    Composition,
    Dataset,
    Drift,
    Estimate,
    Failure,
    Hold,
    HubRecord,
    Learner,
    LearnerMethod,
    Module,
    Predictor,
    Task,
)
from moma_cl.records.refs import DEFAULT_RECIPE, HUB, RefKind, backbone_in
from moma_cl.records.tasks import check_task_name
from moma_store import archives
from moma_store.errors import InvalidInputError
from moma_store.importing import Contents

_NAMED: Mapping[RefKind, type[Record | Recipe]] = {
    RefKind.BACKBONE: BackboneRecord,
    RefKind.TASK: Task,
    RefKind.DATASET: Dataset,
    RefKind.RECIPE: Recipe,
    RefKind.COMPOSITION: Composition,
    RefKind.PREDICTOR: Predictor,
    RefKind.FITTED: Predictor,
    RefKind.MODULE: Module,
    RefKind.DRIFT: Drift,
    RefKind.HOLD: Hold,
    RefKind.FAILURE: Failure,
}
_DERIVED: Mapping[str, type[Record]] = {
    DerivationKind.ESTIMATE: Estimate,
    DerivationKind.COMPOSITION: Composition,
    DerivationKind.LEARNER: Learner,
    DerivationKind.PREDICTOR: Predictor,
    DerivationKind.MODULE: Module,
    DerivationKind.DRIFT: Drift,
}
_COMPANIONS = (RefKind.DATASET, RefKind.RECIPE)
"""What every task has besides its own record."""


def check_contents(contents: Contents) -> None:
    """Refuse an archive that holds anything but what moma-cl itself could have exported.

    Parameters
    ----------
    contents
        What the archive holds.

    Raises
    ------
    FormatError
        If a record is of a kind or format that this version does not know.
    InvalidInputError
        If anything is not what it claims to be.
    """
    records = {digest: decoded(doc) for digest, doc in contents.records.items()}
    for digest, record in records.items():
        _check_links(digest, record, records)
    for digest, record in records.items():
        if isinstance(record, Predictor):
            _check_learners(digest, record, records)
        if isinstance(record, Learner) and record.origin is not None:
            _check_origin(digest, record, records[record.origin])
    for ref, digest in contents.summary.refs.items():
        _check_ref(ref, digest, records)
    if contents.summary.kind == archives.HUB:
        _check_whole(contents, records)
    else:
        _check_part(contents)
    for record in records.values():
        if isinstance(record, BackboneRecord):
            _check_backbone(record, contents)
    for digest, record in sorted(records.items()):
        check_blob(digest, record, records, contents)


def _check_links(digest: str, record: Decoded, records: Mapping[str, Decoded]) -> None:
    """Refuse a record that names one of another kind than it needs."""
    if not isinstance(record, Record):
        return
    for name in sorted(record.record_fields):
        for linked in _digests(getattr(record, name)):
            _check_kind(f"{name!r} of record {digest[:12]}", records[linked], LINKED[name])


def _check_learners(digest: str, predictor: Predictor, records: Mapping[str, Decoded]) -> None:
    """Refuse a predictor that joins learners of other rows, or of other compositions."""
    for linked in predictor.learners:
        learner = records[linked]
        if not isinstance(learner, Learner):  # links have been checked
            continue
        for name in ("task", "dataset"):
            if getattr(learner, name) != getattr(predictor, name):
                raise _refused(f"predictor {digest[:12]} has a learner of another {name}")
        if learner.composition not in {None, *predictor.compositions}:
            raise _refused(f"predictor {digest[:12]} has a learner of another composition")
    _check_compositions(digest, predictor, records)


def _check_origin(digest: str, learner: Learner, origin: Decoded) -> None:
    """Refuse a learner that is carried over from another than one that was trained for its task."""
    names = ("backbone", "task", "method", "start", "composition", "multitask", "readouts")
    if not isinstance(origin, Learner):  # links have been checked
        return
    if origin.origin is not None or origin.method is LearnerMethod.KERNEL:
        raise _refused(f"learner {digest[:12]} is carried over from one that was not trained")
    for name in names:
        if getattr(learner, name) != getattr(origin, name):
            raise _refused(f"learner {digest[:12]} is carried over from one of another {name}")


def _check_compositions(digest: str, predictor: Predictor, records: Mapping[str, Decoded]) -> None:
    """Refuse a predictor without one composition of each backbone of its learners."""
    backbones = [
        one.backbone
        for linked in predictor.compositions
        if isinstance(one := records[linked], Composition)
    ]
    answering = [
        one.backbone for linked in predictor.learners if isinstance(one := records[linked], Learner)
    ]
    right = len(set(backbones)) == len(backbones) and set(answering) <= set(backbones)
    if not right or not backbones or backbones[0] not in answering:
        raise _refused(f"predictor {digest[:12]} has other backbones than its learners")


def _digests(value: object) -> Iterator[str]:
    if isinstance(value, tuple):
        yield from value
    elif isinstance(value, str):
        yield value


def _check_kind(what: str, record: Decoded, expected: type[Record | Recipe]) -> None:
    if not isinstance(record, expected):
        raise _refused(f"{what} is a {_kind(type(record))}, expected a {_kind(expected)}")


def _kind(cls: type[Record | Recipe]) -> str:
    return cls.kind if issubclass(cls, Record) else "recipe"


def _check_ref(ref: str, digest: str, records: Mapping[str, Decoded]) -> None:
    """Refuse a ref that no hub has, or that names a record of another kind."""
    record = records[digest]
    if ref == HUB:
        _check_kind(f"ref {ref!r}", record, HubRecord)
        return
    if ref == DEFAULT_RECIPE:
        _check_kind(f"ref {ref!r}", record, Recipe)
        return
    if ref.startswith(PINS):
        if ref != PINS + digest:
            raise _refused(f"ref {ref!r} pins another record, {digest[:12]}")
        return
    prefix, _, name = ref.partition("/")
    kind = next((kind for kind in RefKind if kind == prefix), None)
    if kind is None or not name:
        raise _refused(f"a hub has no ref {ref!r}")
    _check_kind(f"ref {ref!r}", record, _NAMED[kind])
    if _backbone_name(record, records) != backbone_in(ref):
        raise _refused(f"ref {ref!r} names a record of another backbone")
    if isinstance(record, Failure):
        if record.key != name:
            raise _refused(f"ref {ref!r} names the failure of {record.key[:40]!r}")
        return
    check_task_name(kind.name_in(ref))
    if isinstance(record, Task | BackboneRecord) and record.name != name:
        raise _refused(f"ref {ref!r} names the {record.kind} {record.name!r}")


def _backbone_name(record: Decoded, records: Mapping[str, Decoded]) -> str:
    """Name the backbone of a module or composition; empty for other records."""
    if not isinstance(record, Module | Composition):
        return ""
    backbone = records[record.backbone]
    return backbone.name if isinstance(backbone, BackboneRecord) else ""


def _check_part(contents: Contents) -> None:
    """Refuse a part that brings anything but modules."""
    others = [ref for ref in contents.summary.refs if not ref.startswith(RefKind.MODULE.prefix)]
    if others:
        raise _refused(f"it is of single modules, and has the ref {min(others)!r}")


def _check_whole(contents: Contents, records: Mapping[str, Decoded]) -> None:
    """Refuse tasks without what belongs to them, what belongs to no task, and odd results."""
    refs = contents.summary.refs
    if refs and not {HUB, DEFAULT_RECIPE} <= refs.keys():
        raise _refused(f"it is a whole hub, and lacks the ref {HUB!r} or {DEFAULT_RECIPE!r}")
    tasks = {RefKind.TASK.name_in(ref) for ref in refs if ref.startswith(RefKind.TASK.prefix)}
    for ref in (kind.of(name) for name in sorted(tasks) for kind in _COMPANIONS):
        if ref not in refs:
            raise _refused(f"it has a task without {ref!r}")
    _check_backbones(refs)
    # backbones and modules are shared, failures named by keys
    free = (RefKind.BACKBONE, RefKind.MODULE, RefKind.FAILURE)
    for kind in (kind for kind in RefKind if kind not in free):
        names = {kind.name_in(ref) for ref in refs if ref.startswith(kind.prefix)}
        if names - tasks:
            raise _refused(f"it has {kind.of(min(names - tasks))!r}, but no such task")
    for key, memo in contents.memos.items():
        expected = _DERIVED.get(key.partition(":")[0])
        if expected is None:
            raise _refused(f"no derivation has the key {key[:80]!r}")
        _check_kind(f"the result of {key[:40]!r}", records[memo.result], expected)
    for name in sorted(tasks):
        for kind in (RefKind.PREDICTOR, RefKind.FITTED):
            _check_answers_for(name, kind.of(name), refs, records)
        _check_tried(RefKind.FITTED.of(name), refs, records)


def _check_tried(ref: str, refs: Mapping[str, str], records: Mapping[str, Decoded]) -> None:
    """Refuse a predictor fitted last whose learners are not all there: the next fit needs them."""
    predictor = records[refs[ref]] if ref in refs else None
    tried = predictor.tried if isinstance(predictor, Predictor) else ()
    if not all(isinstance(records.get(digest), Learner) for digest in tried):
        raise _refused(f"ref {ref!r} names a predictor one of whose learners is missing")


def _check_backbones(refs: Collection[str]) -> None:
    """Refuse a whole hub without backbones, or with compositions or modules of another."""
    backbones = {ref for ref in refs if ref.startswith(RefKind.BACKBONE.prefix)}
    if refs and not backbones:
        raise _refused("it is a whole hub, and has no backbone")
    for ref in refs:
        if backbone_in(ref) and RefKind.BACKBONE.of(backbone_in(ref)) not in backbones:
            raise _refused(f"it has {ref!r}, but no such backbone")


def _check_answers_for(
    name: str, ref: str, refs: Mapping[str, str], records: Mapping[str, Decoded]
) -> None:
    """Refuse a predictor that answers for another task than its own."""
    predictor = records[refs[ref]] if ref in refs else None
    task = records[predictor.task] if isinstance(predictor, Predictor) else None
    if isinstance(task, Task) and task.name != name:
        raise _refused(f"ref {ref!r} names a predictor of task {task.name!r}")


def _check_backbone(backbone: BackboneRecord, contents: Contents) -> None:
    """Refuse the record of a backbone with other parameters than it has, or made-up sizes."""
    from moma_cl.backbones.parameters import ParameterManifest, manifest_of
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.records.records import ModuleKind

    with contents.open_blob(backbone.adapter.digest) as reader:
        sizes = [spec.shape for spec in reader.manifest.arrays.values()]
    adapter = ParameterManifest.from_json(backbone.adapter_manifest)
    # as many parameters as there are, before so wide an adapter is made
    if sizes != [(adapter.size,)] or not 1 <= backbone.adapter_width <= adapter.size:
        raise _refused("the adapter of a backbone in it has another size than its record says")
    encoder = backbone_class(backbone.name).empty()
    if manifest_of(encoder, ModuleKind.FULL).to_json() != backbone.manifest:
        raise _refused(f"the parameters of a backbone in it are not those of {backbone.name!r}")
    encoder.add_adapters(backbone.adapter_width)
    if manifest_of(encoder, ModuleKind.ADAPTER).to_json() != backbone.adapter_manifest:
        raise _refused(f"the adapters of a backbone in it are not those of {backbone.name!r}")


def _refused(reason: str) -> InvalidInputError:
    return InvalidInputError(f"the archive is refused: {reason}", code="invalid-input.archive")
