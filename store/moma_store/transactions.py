"""Transactions: changes collected in memory, then written to the catalogue at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from moma_store import records
from moma_store.catalogue import Writer
from moma_store.entries import Memo, RefChange, check_name
from moma_store.errors import ConflictError, InvalidInputError, NotFoundError
from moma_store.open_catalogue import Catalogue
from moma_store.records import JsonObject


class Transaction:
    """Changes that will be made together; reads see them already. Made by `Store.transaction`."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        action: str,
        detail: JsonObject,
        at: str,
        has_blob: Callable[[str], bool],
    ) -> None:
        records.canonical_json(detail)
        self._catalogue = catalogue
        self._action = action
        self._detail = detail
        self._at = at
        self._has_blob = has_blob
        self._records: dict[str, bytes] = {}
        self._memos: dict[str, Memo] = {}
        self._moves: dict[str, RefChange] = {}
        self._ended = False

    def put_record(self, doc: Mapping[str, Any]) -> str:
        """Store a record.

        Parameters
        ----------
        doc
            A JSON object with at least ``kind`` and ``format``.

        Returns
        -------
        str
            Its digest.

        Raises
        ------
        InvalidInputError
            If it is no record, or refers to a record or blob that is not stored.
        """
        self._require_open()
        records.check_record(doc)
        data = records.canonical_json(doc)
        wanted, blobs = records.links(doc)
        for digest in sorted(wanted):
            if not self._has_record(digest):
                raise InvalidInputError(
                    f"record of kind {doc['kind']!r} refers to record {digest}, which is not"
                    " stored; store that first"
                )
        named = [name for link in blobs for name in (link.digest, link.base) if name is not None]
        for blob in sorted(set(named)):
            if not self._has_blob(blob):
                raise InvalidInputError(
                    f"record of kind {doc['kind']!r} refers to blob {blob}, which is not"
                    " stored; store that first"
                )
        digest = records.digest(doc)
        self._records[digest] = data
        return digest

    def move_ref(self, name: str, new: str | None, *, expected: str | None) -> None:
        """Point a ref at another record.

        Parameters
        ----------
        name
            The ref.
        new
            Digest of the record, None to remove the ref.
        expected
            Where the caller found the ref, None if it did not exist.

        Raises
        ------
        ConflictError
            If the ref is elsewhere.
        NotFoundError
            If the record is not stored.
        """
        self._require_open()
        current = self.ref(name)
        if current != expected:
            raise _conflict(name, current, expected)
        if new is not None and not self._has_record(new):
            raise NotFoundError(
                f"ref {name!r} cannot move to record {new}, which was never stored or has expired"
            )
        first = self._moves.get(name)
        self._moves[name] = RefChange(name=name, old=first.old if first else expected, new=new)

    def put_memo(self, key: str, result: str, seconds: float) -> None:
        """Remember the result of a derivation.

        Parameters
        ----------
        key
            Key of the derivation.
        result
            Digest of the result.
        seconds
            How long it took.

        Raises
        ------
        InvalidInputError
            If an argument is malformed.
        """
        self._require_open()
        check_name("memo", key)
        if not math.isfinite(seconds):
            raise InvalidInputError(f"memo {key!r}: {seconds!r} is no duration in seconds")
        self._memos[key] = Memo(
            result=records.check_digest(result), seconds=float(seconds), at=self._at
        )

    def record(self, digest: str) -> JsonObject:
        """Read a record, those of this transaction included; see `Snapshot.record`."""
        self._require_open()
        if digest in self._records:
            return records.load_record(digest, self._records[digest])
        with self._catalogue.snapshot() as view:
            return view.record(digest)

    def ref(self, name: str) -> str | None:
        """Read a ref as this transaction leaves it; see `Snapshot.ref`."""
        self._require_open()
        if name in self._moves:
            return self._moves[name].new
        with self._catalogue.snapshot() as view:
            return view.ref(name)

    def memo(self, key: str) -> Memo | None:
        """Look a derivation up, those of this transaction included; see `Snapshot.memo`."""
        self._require_open()
        if key in self._memos:
            return self._memos[key]
        with self._catalogue.snapshot() as view:
            return view.memo(key)

    def commit(self) -> bool:
        """Write everything; called by `Store.transaction` when its block ends.

        Returns
        -------
        bool
            Whether there was anything to write.

        Raises
        ------
        ConflictError
            If a ref has moved since `move_ref`.
        """
        self._require_open()
        if not (self._records or self._memos or self._moves):
            return False
        with self._catalogue.write() as writer:
            for digest, data in self._records.items():
                writer.put_record(digest, data)
            for key, memo in self._memos.items():
                writer.put_memo(key, memo)
            self._commit_moves(writer)
        return True

    def end(self) -> None:
        """Refuse further use."""
        self._ended = True

    def _commit_moves(self, writer: Writer) -> None:
        for move in self._moves.values():
            current = writer.ref(move.name)
            if current != move.old:
                raise _conflict(move.name, current, move.old)
            writer.set_ref(move.name, move.new)
        changes = tuple(self._moves[name] for name in sorted(self._moves))
        moved = tuple(change for change in changes if change.new != change.old)
        if moved:
            writer.append_history(
                action=self._action, detail=self._detail, at=self._at, changes=moved
            )

    def _has_record(self, digest: str) -> bool:
        if digest in self._records:
            return True
        with self._catalogue.snapshot() as view:
            return view.has_record(digest)

    def _require_open(self) -> None:
        if self._ended:
            raise InvalidInputError("the transaction has ended; begin another one")


def _conflict(name: str, current: str | None, expected: str | None) -> ConflictError:
    return ConflictError(
        f"ref {name!r} has moved: it names {current or 'nothing'}, expected"
        f" {expected or 'nothing'}; read it again and retry"
    )
