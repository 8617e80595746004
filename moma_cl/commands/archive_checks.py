"""Refusing archives whose records or blobs are not what they claim to be.

Whoever wrote an archive may have meant harm. So each record is decoded as its kind, what it names
must be of the kind it needs, refs need names that the hub itself would give, and blobs must hold
the arrays that their records promise. All that is checked before anything of it is in the hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moma_cl.commands.archive_blobs import check_blob
from moma_cl.commands.maintenance import PINS
from moma_cl.derivations.keys import DerivationKind
from moma_cl.recipe import Recipe
from moma_cl.records.base import Record
from moma_cl.records.decoding import LINKED, Decoded, decoded
from moma_cl.records.records import (
    Composition,
    Dataset,
    Drift,
    Estimate,
    Failure,
    Hold,
    HubRecord,
    Learner,
    Module,
    Predictor,
    Task,
)
from moma_cl.records.refs import DEFAULT_RECIPE, HUB, RefKind
from moma_cl.records.tasks import check_task_name
from moma_store import archives
from moma_store.errors import InvalidInputError
from moma_store.importing import Contents

_NAMED: Mapping[RefKind, type[Record | Recipe]] = {
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


def check_contents(contents: Contents, hub: HubRecord | None) -> None:
    """Refuse an archive that holds anything but what moma-cl itself could have exported.

    Parameters
    ----------
    contents
        What the archive holds.
    hub
        The record of the hub that it comes to; none where the archive makes the hub.

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
    for ref, digest in contents.summary.refs.items():
        _check_ref(ref, digest, records[digest])
    if contents.summary.kind == archives.HUB:
        _check_whole(contents, records)
    else:
        _check_part(contents, hub)
    backbones = [record for record in records.values() if isinstance(record, HubRecord)]
    for backbone in backbones:
        _check_backbone(backbone, contents, hub)
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
    """Refuse a predictor that joins learners of other rows, or of another composition."""
    for linked in predictor.learners:
        learner = records[linked]
        if not isinstance(learner, Learner):  # links have been checked
            continue
        for name in ("task", "dataset", "composition"):
            theirs = getattr(learner, name)
            if theirs is not None and theirs != getattr(predictor, name):
                raise _refused(f"predictor {digest[:12]} has a learner of another {name}")


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


def _check_ref(ref: str, digest: str, record: Decoded) -> None:
    """Refuse a ref that no hub has, or that names a record of another kind."""
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
    if isinstance(record, Failure):
        if record.key != name:
            raise _refused(f"ref {ref!r} names the failure of {record.key[:40]!r}")
        return
    check_task_name(name)
    if isinstance(record, Task) and record.name != name:
        raise _refused(f"ref {ref!r} names the task {record.name!r}")


def _check_part(contents: Contents, hub: HubRecord | None) -> None:
    """Refuse a part that brings anything but modules, or that would become a hub."""
    if hub is None:
        raise _refused("it is of single modules, and there is no hub that they go with")
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
    free = (RefKind.MODULE, RefKind.FAILURE)  # modules are shared, failures named by keys
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


def _check_answers_for(
    name: str, ref: str, refs: Mapping[str, str], records: Mapping[str, Decoded]
) -> None:
    """Refuse a predictor that answers for another task than its own."""
    predictor = records[refs[ref]] if ref in refs else None
    task = records[predictor.task] if isinstance(predictor, Predictor) else None
    if isinstance(task, Task) and task.name != name:
        raise _refused(f"ref {ref!r} names a predictor of task {task.name!r}")


def _check_backbone(backbone: HubRecord, contents: Contents, hub: HubRecord | None) -> None:
    """Refuse the record of a hub with another backbone than the archive says, or made-up sizes."""
    from moma_cl.backbones.parameters import ParameterManifest, manifest_of
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.records.records import ModuleKind

    stated = contents.summary.backbone.get("name")
    if backbone.backbone != stated:
        raise _refused(f"a hub in it has backbone {backbone.backbone!r}, it says {stated!r}")
    if hub is not None and backbone.manifest != hub.manifest:
        raise _refused("a hub in it has a backbone with other parameters of the same name")
    with contents.open_blob(backbone.adapter.digest) as reader:
        sizes = [spec.shape for spec in reader.manifest.arrays.values()]
    adapter = ParameterManifest.from_json(backbone.adapter_manifest)
    # as many parameters as there are, before so wide an adapter is made
    if sizes != [(adapter.size,)] or not 1 <= backbone.adapter_width <= adapter.size:
        raise _refused("the adapter of a hub in it has another size than its record says")
    encoder = backbone_class(backbone.backbone).empty()
    if manifest_of(encoder, ModuleKind.FULL).to_json() != backbone.manifest:
        raise _refused(f"the parameters of a hub in it are not those of {backbone.backbone!r}")
    encoder.add_adapters(backbone.adapter_width)
    if manifest_of(encoder, ModuleKind.ADAPTER).to_json() != backbone.adapter_manifest:
        raise _refused(f"the adapters of a hub in it are not those of {backbone.backbone!r}")


def _refused(reason: str) -> InvalidInputError:
    return InvalidInputError(f"the archive is refused: {reason}", code="invalid-input.archive")
