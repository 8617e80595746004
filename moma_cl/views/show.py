"""One thing of a hub in full: a task with all that belongs to it, or a single record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_cl.core.suggestions import did_you_mean
from moma_cl.records.records import Composition, Segment
from moma_cl.records.ref_history import Past
from moma_cl.records.refs import TASK_REFS, RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_cl.views.modules import weights_by_module
from moma_cl.views.tasks import composition_weights
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
        Of a module: its weight in each task that composes it.
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
        ref = name if name in refs else RefKind.MODULE.of(name)
        digest = refs.get(ref) or _record_named(view, name, refs)
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
    present = {
        kind: view.record(digest)
        for kind in TASK_REFS
        if (digest := view.ref(kind.of(name))) is not None
    }
    document: dict[str, Any] = {
        "task": present[RefKind.TASK],
        "dataset": {
            **present[RefKind.DATASET],
            "segments": [_segment_shown(view, digest) for digest in state.dataset.segments],
        },
        "recipe": present[RefKind.RECIPE],
        "composition": present.get(RefKind.COMPOSITION),
        "predictor": present.get(RefKind.PREDICTOR),
        "fitted": present.get(RefKind.FITTED),
        "module": present.get(RefKind.MODULE),
        "drift": present.get(RefKind.DRIFT),
    }
    if document["composition"] is not None:
        weights = composition_weights(past, Composition.from_doc(document["composition"]))
        document["composition"]["by_name"] = {w.module: w.weight for w in weights}
    return Shown(
        kind="task",
        name=name,
        digest=state.task_digest,
        refs=past.of_refs(kind.of(name) for kind in TASK_REFS),
        used_by=weights_by_module(view).get(view.ref(RefKind.MODULE.of(name)) or "", {}),
        document=document,
    )


def _segment_shown(view: Snapshot, digest: str) -> dict[str, Any]:
    segment = Segment.from_doc(view.record(digest))
    return {
        "digest": digest,
        "role": str(segment.role),
        "rows": segment.n_rows,
        "refused": segment.refused,
        "sources": list(segment.sources),
    }


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
