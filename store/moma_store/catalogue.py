"""What the catalogue holds: records, refs, history and memos, as one transaction sees them.

Databases:

=========== ============================ ==========================================
name        key                          value
=========== ============================ ==========================================
``meta``    ``hub``                      sealed JSON: format version, id
``records`` digest, hexadecimal          canonical JSON
``refs``    name, UTF-8                  sealed digest
``history`` counter, 8 bytes big-endian  sealed JSON
``memo``    derivation key, UTF-8        sealed JSON
=========== ============================ ==========================================

*Sealed* is explained in `moma_store.entries`. All are databases of one LMDB environment, which
`moma_store.open_catalogue` opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

from moma_store import records
from moma_store.entries import (
    HistoryEntry,
    Memo,
    RefChange,
    check_name,
    seal,
    seal_json,
    unseal,
    unseal_json,
)
from moma_store.errors import IntegrityError, NotFoundError
from moma_store.records import JsonObject

_HUB = b"hub"


class Snapshot:
    """The catalogue as it was at one moment; valid inside the block that made it."""

    def __init__(self, txn: Any, databases: dict[str, Any]) -> None:
        self._txn = txn
        self._databases = databases
        self._refs: dict[str, str] | None = None  # once all have been verified

    @property
    def transaction(self) -> int:
        """Number of the last commit that this snapshot sees; LMDB counts them."""
        return int(self._txn.id())

    def pairs(self, database: str) -> Iterator[tuple[bytes, bytes]]:
        """Go through all keys and values of a database as they are stored, unverified."""
        return self._items(database)

    def meta(self) -> JsonObject | None:
        """Read the format version and the hub's id."""
        sealed = self._get("meta", _HUB)
        return None if sealed is None else unseal_json("meta", _HUB, sealed)

    def has_record(self, digest: str) -> bool:
        """Tell whether a record is stored, without verifying it."""
        return self._get("records", records.check_digest(digest).encode()) is not None

    def record(self, digest: str) -> JsonObject:
        """Read a record and verify it.

        Parameters
        ----------
        digest
            Its name.

        Returns
        -------
        JsonObject
            The record.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        IntegrityError
            If it does not have that digest.
        """
        data = self._get("records", records.check_digest(digest).encode())
        if data is None:
            raise NotFoundError(
                f"the hub has no record {digest}; it was never stored or has expired"
            )
        return records.load_record(digest, data)

    def records(self) -> list[str]:
        """List the digests of all records, sorted."""
        return [key.decode() for key, _ in self._items("records")]

    def ref(self, name: str) -> str | None:
        """Read a ref.

        Parameters
        ----------
        name
            Its name.

        Returns
        -------
        str | None
            The digest it names, None if there is no such ref.
        """
        key = check_name("ref", name)
        sealed = self._get("refs", key)
        if sealed is None:
            self._check_refs_are_whole()
            return None
        return unseal("refs", key, sealed).decode()

    def refs(self, prefix: str = "") -> dict[str, str]:
        """Read many refs.

        Parameters
        ----------
        prefix
            What their names begin with.

        Returns
        -------
        dict[str, str]
            Digests by name, in the order of names.
        """
        refs = self._verified_refs()
        return {name: digest for name, digest in refs.items() if name.startswith(prefix)}

    def memo(self, key: str) -> Memo | None:
        """Look a derivation up.

        Parameters
        ----------
        key
            Key of the derivation.

        Returns
        -------
        Memo | None
            Its result, None if it has not been derived.
        """
        name = check_name("memo", key)
        sealed = self._get("memo", name)
        return None if sealed is None else Memo(**unseal_json("memo", name, sealed))

    def memos(self, prefix: str = "") -> dict[str, Memo]:
        """Read many memos.

        Parameters
        ----------
        prefix
            What their keys begin with.

        Returns
        -------
        dict[str, Memo]
            Memos by key, in the order of keys.
        """
        return {
            key.decode(): Memo(**unseal_json("memo", key, sealed))
            for key, sealed in self._items("memo", prefix.encode())
        }

    def history(
        self, *, limit: int | None = None, ref_prefix: str | None = None
    ) -> list[HistoryEntry]:
        """Read the history.

        Parameters
        ----------
        limit
            How many entries at most.
        ref_prefix
            Leave out entries that moved no ref whose name begins so.

        Returns
        -------
        list[HistoryEntry]
            Newest first.
        """
        found: list[HistoryEntry] = []
        follower: HistoryEntry | None = None
        for entry, digest in self._newest_first():
            if limit is not None and len(found) >= limit:
                break
            if follower is None:
                self._check_count("history", entry.counter + 1)
            elif (follower.previous, follower.counter) != (digest, entry.counter + 1):
                raise IntegrityError(
                    f"history entry {follower.counter} does not follow entry {entry.counter};"
                    " run `moma-cl verify --repair`"
                )
            follower = entry
            names = (change.name for change in entry.changes)
            if ref_prefix is None or any(name.startswith(ref_prefix) for name in names):
                found.append(entry)
        return found

    def _newest_first(self) -> Iterator[tuple[HistoryEntry, str]]:
        with self._txn.cursor(db=self._databases["history"]) as cursor:
            for key, sealed in cursor.iterprev():
                data = unseal("history", key, sealed)
                yield HistoryEntry.from_json(json.loads(data)), sha256(data).hexdigest()

    def _check_refs_are_whole(self) -> None:
        """Tell a ref that does not exist from one whose key or page is damaged."""
        self._verified_refs()

    def _verified_refs(self) -> dict[str, str]:
        # All are verified, since damage to a key may have moved a ref anywhere.
        if self._refs is None:
            found = {
                key.decode(): unseal("refs", key, sealed).decode()
                for key, sealed in self._items("refs")
            }
            self._check_count("refs", len(found))
            self._refs = found
        return self._refs

    def _check_count(self, database: str, found: int) -> None:
        expected = self._txn.stat(self._databases[database])["entries"]
        if found != expected:
            raise IntegrityError(
                f"the catalogue shows {found} entries of {database}, expected {expected};"
                " run `moma-cl verify --repair`"
            )

    def _get(self, database: str, key: bytes) -> bytes | None:
        value: bytes | None = self._txn.get(key, db=self._databases[database])
        return value

    def _items(self, database: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor(db=self._databases[database]) as cursor:
            if not cursor.set_range(prefix):
                return
            for key, value in cursor:
                if not key.startswith(prefix):
                    return
                yield key, value


class Writer(Snapshot):
    """A snapshot in a write transaction: what it stores is committed when its block ends."""

    def put_record(self, digest: str, data: bytes) -> None:
        """Store a record in its canonical form."""
        self._put("records", digest.encode(), data)

    def put_memo(self, key: str, memo: Memo) -> None:
        """Remember a result, replacing what was remembered."""
        name = check_name("memo", key)
        self._put("memo", name, seal_json("memo", name, memo.to_json()))

    def set_ref(self, name: str, digest: str | None) -> None:
        """Point a ref at a record, or remove it."""
        self._refs = None
        key = check_name("ref", name)
        if digest is None:
            self._txn.delete(key, db=self._databases["refs"])
        else:
            self._put("refs", key, seal("refs", key, digest.encode()))

    def append_history(
        self, *, action: str, detail: JsonObject, at: str, changes: tuple[RefChange, ...]
    ) -> None:
        """Add an entry that carries the digest of the newest one."""
        newest = self.history(limit=1)
        entry = HistoryEntry(
            counter=newest[0].counter + 1 if newest else 0,
            action=action,
            detail=detail,
            at=at,
            changes=changes,
            previous=newest[0].digest if newest else None,
        )
        self.put_history(entry)

    def put_history(self, entry: HistoryEntry) -> None:
        """Store an entry as it is; for copies of a hub."""
        key = entry.counter.to_bytes(8, "big")
        self._put("history", key, seal_json("history", key, entry.to_json()))

    def forget(self, database: str, keys: Iterable[str]) -> None:
        """Remove records or memos."""
        for key in keys:
            self._txn.delete(key.encode(), db=self._databases[database])

    def put_meta(self, doc: JsonObject) -> None:
        """Store the format version and the hub's id."""
        self._put("meta", _HUB, seal_json("meta", _HUB, doc))

    def _check_refs_are_whole(self) -> None:
        # Whoever commits has read the ref in a snapshot before.
        return

    def _put(self, database: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._databases[database])
