"""What the catalogue keeps besides records: memos and history, and the checksum over each value.

LMDB has no page checksums. A record proves itself by its digest; every other value is stored
behind a BLAKE2b checksum over its database, its key and itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from moma_store import records
from moma_store.errors import IntegrityError, InvalidInputError
from moma_store.records import JsonObject

_CHECKSUM_BYTES = 16
_LONGEST_NAME = 400  # bytes; LMDB's limit for a key is 511


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """The known result of a derivation.

    Attributes
    ----------
    result
        Digest of the result.
    seconds
        How long it took to derive.
    at
        When it was derived, UTC, ISO 8601; for people, nothing depends on it.
    """

    result: str
    seconds: float
    at: str

    def to_json(self) -> JsonObject:
        """Give the memo as it is stored."""
        return {"result": self.result, "seconds": self.seconds, "at": self.at}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefChange:
    """One ref's move.

    Attributes
    ----------
    name
        The ref.
    old
        Digest it named before, None if it did not exist.
    new
        Digest it names now, None if it was removed.
    """

    name: str
    old: str | None
    new: str | None

    def to_json(self) -> JsonObject:
        """Give the change as it is stored."""
        return {"name": self.name, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One transaction that moved refs.

    Attributes
    ----------
    counter
        Position in the history, from 0; the only thing that orders it.
    action
        What was done, such as ``add-task``.
    detail
        Whatever the action wants remembered.
    at
        When, UTC, ISO 8601; for people, since clocks err.
    changes
        The refs that moved, by name.
    previous
        Digest of the entry before, None in the first.
    """

    counter: int
    action: str
    detail: JsonObject
    at: str
    changes: tuple[RefChange, ...]
    previous: str | None

    @property
    def digest(self) -> str:
        """Digest that the next entry carries."""
        return records.digest(self.to_json())

    def to_json(self) -> JsonObject:
        """Give the entry as it is stored and hashed."""
        return {
            "counter": self.counter,
            "action": self.action,
            "detail": self.detail,
            "at": self.at,
            "changes": [change.to_json() for change in self.changes],
            "previous": self.previous,
        }

    @classmethod
    def from_json(cls, doc: JsonObject) -> HistoryEntry:
        """Read an entry as `to_json` gives it."""
        changes = tuple(RefChange(**change) for change in doc["changes"])
        return cls(**{**doc, "changes": changes})


def seal(database: str, key: bytes, value: bytes) -> bytes:
    """Put a value's checksum before it.

    Parameters
    ----------
    database
        Name of the LMDB database.
    key
        Key of the value.
    value
        The value.

    Returns
    -------
    bytes
        Checksum and value, as they are stored.
    """
    return _checksum(database, key, value) + value


def unseal(database: str, key: bytes, sealed: bytes) -> bytes:
    """Verify a stored value and take its checksum off.

    Parameters
    ----------
    database
        Name of the LMDB database.
    key
        Key under which it was found.
    sealed
        What `seal` gave.

    Returns
    -------
    bytes
        The value.

    Raises
    ------
    IntegrityError
        If the checksum differs.
    """
    checksum, value = sealed[:_CHECKSUM_BYTES], sealed[_CHECKSUM_BYTES:]
    if checksum != _checksum(database, key, value):
        raise IntegrityError(
            f"the catalogue's {database} entry {key!r} is damaged: its checksum differs;"
            " run `moma-cl verify --repair`"
        )
    return value


def seal_json(database: str, key: bytes, doc: JsonObject) -> bytes:
    """Seal a document in its canonical form."""
    return seal(database, key, records.canonical_json(doc))


def unseal_json(database: str, key: bytes, sealed: bytes) -> JsonObject:
    """Verify and parse a document that `seal_json` sealed."""
    doc: JsonObject = json.loads(unseal(database, key, sealed))
    return doc


def check_name(what: str, name: Any) -> bytes:
    """Encode the name of a ref or memo as a key.

    Parameters
    ----------
    what
        ``ref`` or ``memo``, for the message.
    name
        Parts of printable characters without spaces, joined by slashes.

    Returns
    -------
    bytes
        The key.

    Raises
    ------
    InvalidInputError
        If the name is malformed or too long.
    """
    if (
        not isinstance(name, str)
        or not {"", ".", ".."}.isdisjoint(name.split("/"))  # some name folders
        or not name.isprintable()
        or " " in name
    ):
        raise InvalidInputError(
            f"{name!r} cannot name a {what}; expected printable characters without spaces,"
            " in parts joined by '/', none of them '.' or '..'"
        )
    key = name.encode()
    if len(key) > _LONGEST_NAME:
        raise InvalidInputError(
            f"the {what} name {name[:40]!r}… has {len(key)} bytes, at most {_LONGEST_NAME} fit"
        )
    return key


def _checksum(database: str, key: bytes, value: bytes) -> bytes:
    # The length keeps apart pairs whose key and value run together the same way.
    data = len(key).to_bytes(4, "big") + key + value
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES, person=database.encode()).digest()
