"""One thing of a hub in full: a task with all that belongs to it, or a single record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_cl.core.suggestions import did_you_mean
from moma_cl.records.records import Composition, Segment
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import RefKind, full_name, refs_of_task
from moma_cl.records.tasks import task_names, task_state
from moma_cl.views.modules import weights_by_module
from moma_cl.views.tasks import composition_weights, refs_on
from moma_store.catalogue import Snapshot
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.store import Store

SHORTEST_ABBREVIATION = 6
"""Hexadecimal digits by which a record may be named, if they are enough to tell it apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Something of the hub in full.

    Attributes
    ----------
    kind
        ``task``, or the kind of the record.
    name
        What it is called: a task, a ref, or a digest.
    digest
        Digest of its record.
    refs
        The refs that name it now; for a task, where each of its refs pointed, oldest first.
    used_by
        Of a module: its weight in each task that composes it; of a task's modules, in each
        composition ``TASK@BACKBONE``.
    document
        The record, or all of the task's, JSON.
    """

    kind: str
    name: str
    digest: str
    refs: dict[str, list[dict[str, str]]]
    used_by: dict[str, float]
    document: dict[str, Any]


def show(path: Path, name: str) -> Shown:
    """Show a task with all that belongs to it, or a module, a ref or a record.

    The digest of a record may be cut to six digits if no other record has them.
    """
    with Store.open(path) as store, store.snapshot() as view:
        if name in task_names(view):
            return _task_shown(view, name)
        refs = view.refs()
        digest = refs.get(name) or _module_named(name, refs) or _record_named(view, name, refs)
        document = view.record(digest)
        return Shown(
            kind=document["kind"],
            name=name,
            digest=digest,
            refs=Past.of(view).of_refs(ref for ref, target in refs.items() if target == digest),
            used_by=weights_by_module(view).get(digest, {}),
            document=document,
        )


def _task_shown(view: Snapshot, name: str) -> Shown:
    state = task_state(view, name)
    past = Past.of(view)
    refs = refs_of_task(view.refs(), name)
    kinds = (RefKind.TASK, RefKind.RECIPE, RefKind.PREDICTOR, RefKind.FITTED, RefKind.DRIFT)
    present = {
        kind.of(name): view.record(str(view.ref(kind.of(name))))
        for kind in kinds
        if kind.of(name) in refs
    }
    document: dict[str, Any] = {
        "task": present[RefKind.TASK.of(name)],
        "dataset": {
            **view.record(state.dataset_digest),
            "segments": [_segment_shown(view, digest) for digest in state.dataset.segments],
        },
        "recipe": present[RefKind.RECIPE.of(name)],
        "compositions": {
            backbone: _composition_shown(view, past, digest)
            for backbone, digest in refs_on(view, RefKind.COMPOSITION, state).items()
        },
        "predictor": present.get(RefKind.PREDICTOR.of(name)),
        "fitted": present.get(RefKind.FITTED.of(name)),
        "modules": {
            backbone: view.record(digest)
            for backbone, digest in refs_on(view, RefKind.MODULE, state).items()
        },
        "drift": present.get(RefKind.DRIFT.of(name)),
    }
    return Shown(
        kind="task",
        name=name,
        digest=state.task_digest,
        refs=past.of_refs(refs),
        used_by=_used_by(view, refs_on(view, RefKind.MODULE, state)),
        document=document,
    )


def _composition_shown(view: Snapshot, past: Past, digest: str) -> dict[str, Any]:
    document = view.record(digest)
    weights = composition_weights(past, Composition.from_doc(document))
    return {**document, "by_name": {weight.module: weight.weight for weight in weights}}


def _used_by(view: Snapshot, modules: Mapping[str, str]) -> dict[str, float]:
    """Give the weight of a task's modules in each composition that has one of them."""
    used = weights_by_module(view)
    return {
        full_name(task, backbone): weight
        for backbone, module in modules.items()
        for task, weight in used.get(module, {}).items()
    }


def _segment_shown(view: Snapshot, digest: str) -> dict[str, Any]:
    segment = Segment.from_doc(view.record(digest))
    return {
        "digest": digest,
        "role": str(segment.role),
        "rows": segment.n_rows,
        "refused": segment.refused,
        "sources": list(segment.sources),
    }


def _module_named(name: str, refs: Mapping[str, str]) -> str | None:
    """Look up a module by its full name, or by its name where one backbone alone has it."""
    kind = RefKind.MODULE
    named = [ref for ref in refs if ref.startswith(kind.prefix) and kind.name_in(ref) == name]
    if len(named) > 1:
        raise InvalidInputError(
            f"several backbones have a module {name!r}; name one of "
            f"{', '.join(kind.full_name_in(ref) for ref in named)}"
        )
    return refs.get(named[0] if named else kind.of(name))


def _record_named(view: Snapshot, name: str, refs: dict[str, str]) -> str:
    """Look up the record whose digest begins like this."""
    prefix = name.lower()
    if len(prefix) >= SHORTEST_ABBREVIATION and set(prefix) <= set("0123456789abcdef"):
        digests = [digest for digest in view.records() if digest.startswith(prefix)]
        if len(digests) == 1:
            return digests[0]
        if digests:
            raise InvalidInputError(
                f"{len(digests)} records begin with {name!r}; give more digits: "
                f"{', '.join(digest[: len(prefix) + 6] for digest in digests[:5])}"
            )
    hint = did_you_mean(
        name, [*task_names(view), *refs], otherwise="`moma-cl tasks` lists the tasks"
    )
    raise NotFoundError(
        f"the hub has no task, ref or record {name!r} (a digest needs at least "
        f"{SHORTEST_ABBREVIATION} of its digits){hint}"
    )
