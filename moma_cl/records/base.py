"""What all records have in common: their form as the store's JSON documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Self

from moma_store.errors import FormatError
from moma_store.records import BlobLink, record_link

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records: to and from the store's JSON documents."""

    kind: ClassVar[str]
    record_fields: ClassVar[frozenset[str]] = frozenset()  # digests of records
    blob_fields: ClassVar[frozenset[str]] = frozenset()
    words: ClassVar[Mapping[str, type[StrEnum]]] = MappingProxyType({})  # fields of few values

    def to_doc(self) -> dict[str, Any]:
        """Write as a JSON document with ``kind`` and ``format``, digests as links."""
        doc: dict[str, Any] = {"kind": self.kind, "format": FORMAT}
        for entry in fields(self):
            doc[entry.name] = self._write(entry.name, getattr(self, entry.name))
        return doc

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> Self:
        """Read a document that :meth:`to_doc` wrote; `check_doc` refuses any other."""
        cls.check_doc(doc)
        return cls(**{name: cls._read(name, doc[name]) for name in _names(cls)[0] & doc.keys()})

    @classmethod
    def check_doc(cls, doc: Mapping[str, Any]) -> None:
        """Refuse a document that :meth:`to_doc` did not write, for whoever reads a part of it."""
        missing = sorted(_names(cls)[1] - doc.keys())
        if missing:
            raise FormatError(
                f"a record of kind {cls.kind!r} lacks {missing[0]!r}: another version of moma-cl "
                "wrote it; use that version"
            )

    def with_blob(self, link: BlobLink) -> Self:
        """Give the same record with the link of its blob, once that is written."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return type(self)(**{**given, "blob": link})

    @classmethod
    def _write(cls, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in cls.record_fields:
            return (
                [record_link(digest) for digest in value]
                if isinstance(value, tuple)
                else record_link(value)
            )
        if name in cls.blob_fields:
            return value.to_json()
        if isinstance(value, StrEnum):
            return value.value
        return list(value) if isinstance(value, tuple) else value

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in cls.record_fields:
            return (
                tuple(link["$record"] for link in value)
                if isinstance(value, list)
                else value["$record"]
            )
        if name in cls.blob_fields:
            return BlobLink.from_json(value)
        if name in cls.words:
            return cls.words[name](value)
        return tuple(value) if isinstance(value, list) else value


_NAMES: dict[type[Record], tuple[frozenset[str], frozenset[str]]] = {}


def _names(kind: type[Record]) -> tuple[frozenset[str], frozenset[str]]:
    """Name all fields of a kind of record, and those without a default, worked out once."""
    if kind not in _NAMES:
        every = fields(kind)
        # a field that came later has a default, since earlier documents lack it
        needed = frozenset(entry.name for entry in every if entry.default is MISSING)
        _NAMES[kind] = frozenset(entry.name for entry in every), needed
    return _NAMES[kind]
