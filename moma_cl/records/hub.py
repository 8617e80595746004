"""What the catalogue of a hub answers, and what every task of the hub shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from moma_cl.records.records import BackboneRecord, HubRecord
from moma_cl.records.refs import HUB, RefKind
from moma_store.entries import HistoryEntry, Memo
from moma_store.errors import IntegrityError, NotFoundError
from moma_store.store import Store


class RecordReads(Protocol):
    """Records by digest, and refs by name."""

    def record(self, digest: str) -> dict[str, Any]:
        """Look up a record."""

    def ref(self, name: str) -> str | None:
        """Look up a ref."""


class Reads(RecordReads, Protocol):
    """What planning reads of a store, or of a snapshot of it."""

    def refs(self, prefix: str = "") -> dict[str, str]:
        """List refs by name."""


class MemoReads(Reads, Protocol):
    """What planning reads besides: results of derivations, by key."""

    def memo(self, key: str) -> Memo | None:
        """Look up a derivation's result."""

    def memos(self, prefix: str = "") -> Mapping[str, Memo]:
        """List results by key."""


class HistoryReads(Protocol):
    """The history of a store, or of a snapshot of it."""

    def history(
        self, *, ref_prefix: str | None = None, limit: int | None = None
    ) -> list[HistoryEntry]:
        """Read the history, newest first."""


def hub_digest(store: RecordReads) -> str:
    """Look up the digest of the hub's record; refuse a hub whose ``init`` was killed midway."""
    digest = store.ref(HUB)
    if digest is None:
        raise IntegrityError("the hub is unfinished: `moma-cl init` was cut short; run it again")
    return digest


def hub_of(store: RecordReads) -> HubRecord:
    """Read what every task of a hub shares."""
    return HubRecord.from_doc(store.record(hub_digest(store)))


def backbones_of(store: Reads) -> dict[str, str]:
    """List the backbones of a hub: digests of their records by name, in the order of names."""
    refs = store.refs(RefKind.BACKBONE.prefix)
    return {RefKind.BACKBONE.name_in(ref): refs[ref] for ref in sorted(refs)}


def backbone_record(store: RecordReads, digest: str) -> BackboneRecord:
    """Read the record of a backbone."""
    return BackboneRecord.from_doc(store.record(digest))


def is_hub(path: Path) -> bool:
    """Say whether a folder is a hub to which tasks can be added: whether its ``init`` has ended."""
    try:
        with Store.open(path) as store:
            return store.ref(HUB) is not None
    except NotFoundError:
        return False
