"""Records: immutable JSON documents named by their own digest, and how they refer to one another.

A record is a JSON object with at least ``kind`` (a string) and ``format`` (an integer, the version
of that kind). Anywhere inside, ``{"$record": digest}`` refers to another record and
``{"$blob": digest, "file": sha256, "bytes": n}`` to a blob, with ``"base": digest`` where its file
is stored as the difference from another blob.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moma_store.errors import IntegrityError, InvalidInputError

JsonObject = dict[str, Any]

MOST_DEPTH = 64
"""Objects and arrays inside one another that a document may have."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTAINERS = (dict, list, tuple)  # what JSON is written from
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLink:
    """How a record refers to a blob.

    Attributes
    ----------
    digest
        SHA-256 of the blob's logical content, which is also its name.
    file
        SHA-256 of the file, by which it can be verified without being decoded.
    n_bytes
        Size of the file.
    base
        Digest of the blob that the file is stored as a difference from, None if it is stored
        whole. What must be kept follows from the catalogue alone this way.
    """

    digest: str
    file: str
    n_bytes: int
    base: str | None = None

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_digest(self.file)
        if self.base is not None:
            check_digest(self.base)
        if type(self.n_bytes) is not int or self.n_bytes < 0:
            raise InvalidInputError(f"blob {self.digest}: {self.n_bytes!r} is no size in bytes")

    def to_json(self) -> JsonObject:
        """Give the link as it stands in a record.

        Returns
        -------
        JsonObject
            ``{"$blob": digest, "file": sha256, "bytes": n}``, and ``"base"`` where there is one.
        """
        doc: JsonObject = {"$blob": self.digest, "file": self.file, "bytes": self.n_bytes}
        return doc if self.base is None else {**doc, "base": self.base}

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> BlobLink:
        """Read a link out of a record.

        Parameters
        ----------
        doc
            What `to_json` gives.

        Returns
        -------
        BlobLink
            The link.

        Raises
        ------
        InvalidInputError
            If `doc` is anything else.
        """
        if doc.keys() - {"base"} != {"$blob", "file", "bytes"}:
            raise InvalidInputError(
                f"a blob link has the keys $blob, file, bytes and perhaps base, got {sorted(doc)}"
            )
        base = check_digest(doc["base"]) if "base" in doc else None
        return cls(digest=doc["$blob"], file=doc["file"], n_bytes=doc["bytes"], base=base)


def record_link(digest: str) -> JsonObject:
    """Refer to a record.

    Parameters
    ----------
    digest
        Name of the record.

    Returns
    -------
    JsonObject
        ``{"$record": digest}``.

    Raises
    ------
    InvalidInputError
        If `digest` is none.
    """
    return {"$record": check_digest(digest)}


def check_digest(digest: object) -> str:
    """Refuse anything but a digest.

    Parameters
    ----------
    digest
        What should be a SHA-256.

    Returns
    -------
    str
        The same.

    Raises
    ------
    InvalidInputError
        If it is not 64 lower-case hexadecimal digits.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidInputError(
            f"{digest!r} is no digest; expected 64 lower-case hexadecimal digits"
        )
    return digest


def canonical_json(doc: object) -> bytes:
    """Serialise a document in the one form that is hashed and stored.

    Keys are sorted by code point, nothing is padded, text is UTF-8.

    Parameters
    ----------
    doc
        Objects with string keys, arrays, strings, finite numbers, booleans and null.

    Returns
    -------
    bytes
        The same bytes for equal documents.

    Raises
    ------
    InvalidInputError
        If the document holds something JSON has no form for, NaN and infinity included, or is
        nested more than `MOST_DEPTH` deep.
    """
    try:
        text = json.dumps(
            doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        _check_form(doc)  # afterwards, when it is known that nothing contains itself
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the document cannot be stored as JSON: {error}") from error


def digest(doc: object) -> str:
    """Name a document.

    Parameters
    ----------
    doc
        As in `canonical_json`.

    Returns
    -------
    str
        SHA-256 of its canonical form, hexadecimal.
    """
    return hashlib.sha256(canonical_json(doc)).hexdigest()


def check_record(doc: Mapping[str, Any]) -> None:
    """Refuse a document that is no record.

    Parameters
    ----------
    doc
        The document.

    Raises
    ------
    InvalidInputError
        If ``kind`` or ``format`` is missing or of another type.
    """
    if not isinstance(doc, dict) or not isinstance(doc.get("kind"), str):
        raise InvalidInputError("a record is a JSON object with a string under 'kind'")
    if type(doc.get("format")) is not int:
        raise InvalidInputError(
            f"record of kind {doc['kind']!r}: 'format' must be an integer,"
            f" got {doc.get('format')!r}"
        )


def load_record(name: str, data: bytes) -> JsonObject:
    """Parse a stored record after verifying it.

    Parameters
    ----------
    name
        Digest under which it is stored.
    data
        Its canonical form.

    Returns
    -------
    JsonObject
        The record.

    Raises
    ------
    IntegrityError
        If the data does not have that digest.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != name:
        raise IntegrityError(
            f"record {name} is damaged: its content has the digest {found};"
            " run `moma-cl verify --repair`"
        )
    # Canonical JSON has nothing around it that `json.loads` would look for.
    doc: JsonObject = _DECODER.raw_decode(data.decode())[0]
    return doc


def links(doc: object) -> tuple[set[str], set[BlobLink]]:
    """Collect everything a document refers to.

    Parameters
    ----------
    doc
        A record, or part of one.

    Returns
    -------
    tuple[set[str], set[BlobLink]]
        Digests of records; blobs.

    Raises
    ------
    InvalidInputError
        If a link is malformed.
    """
    records: set[str] = set()
    blobs: set[BlobLink] = set()
    for value in _objects(doc):
        if "$blob" in value:
            blobs.add(BlobLink.from_json(value))
        elif "$record" in value:
            if len(value) != 1:
                raise InvalidInputError(f"a record link has no other keys, got {sorted(value)}")
            records.add(check_digest(value["$record"]))
    return records, blobs


def _objects(doc: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(doc, dict | Mapping):
        yield doc
        inner: Iterable[object] = doc.values()
    elif isinstance(doc, list | tuple):
        inner = doc
    else:
        return
    for value in inner:
        # Most values are neither; a generator for each would take most of the time.
        if isinstance(value, dict | list | tuple | Mapping):
            yield from _objects(value)


def _check_form(doc: object, depth: int = 1) -> None:
    # json.dumps would turn 1, True and None into strings, so that unlike documents coincide.
    if not isinstance(doc, _CONTAINERS):
        return
    if depth > MOST_DEPTH:
        raise InvalidInputError(f"the document is nested more than {MOST_DEPTH} deep")
    inner: Iterable[object] = doc
    if isinstance(doc, dict):
        for key in doc:
            if not isinstance(key, str):
                raise InvalidInputError(f"the document has the key {key!r}; keys must be strings")
        inner = doc.values()
    for value in inner:
        # Most values hold nothing; a call for each would take most of the time.
        if isinstance(value, _CONTAINERS):
            _check_form(value, depth + 1)
