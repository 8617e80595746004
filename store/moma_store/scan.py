"""Reading a whole catalogue: everything it holds, what of it is damaged, and what reaches what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

from moma_store import records
from moma_store.catalogue import Snapshot
from moma_store.entries import HistoryEntry, Memo, unseal
from moma_store.errors import MomaError
from moma_store.records import BlobLink

KEPT_IN_HISTORY: Mapping[str, int] = {"predictors/": 5}
"""How many past values of refs that begin so `gc` keeps, so that a rollback finds them."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it was written.

    Attributes
    ----------
    kind
        Stable name: ``damaged-`` or ``missing-`` and what it is, ``broken-history``,
        ``misplaced-ref``, ``catalogue`` or ``hub``.
    subject
        Name, digest or path of it.
    text
        What is wrong, for people.
    repaired
        What was done about it; None if nothing.
    """

    kind: str
    subject: str
    text: str
    repaired: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What a record refers to."""

    records: frozenset[str]
    blobs: frozenset[BlobLink]


@dataclass(slots=True, kw_only=True)
class Content:
    """What a catalogue holds, as far as it is whole.

    Attributes
    ----------
    records
        What each record refers to, by digest.
    refs
        Digests by name.
    memos
        Memos by key.
    history
        Entries, oldest first.
    problems
        What is damaged, or does not fit together.
    """

    records: dict[str, Links] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    memos: dict[str, Memo] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def reachable(self, roots: Iterable[str]) -> set[str]:
        """Follow the links of records.

        Parameters
        ----------
        roots
            Digests of records to begin at; unknown ones are skipped.

        Returns
        -------
        set[str]
            All records that are reached, the roots included.
        """
        reached: set[str] = set()
        ahead = [digest for digest in roots if digest in self.records]
        while ahead:
            digest = ahead.pop()
            if digest not in reached:
                reached.add(digest)
                ahead.extend(self.records[digest].records & self.records.keys())
        return reached

    def roots(self) -> set[str]:
        """Give the records that `gc` keeps in any case.

        Returns
        -------
        set[str]
            What refs name, pins included, and the last few values in history of some refs that
            exist.
        """
        kept = set(self.refs.values())
        seen: dict[str, list[str]] = {}
        for entry in reversed(self.history):
            for change in entry.changes:
                limit = _past_values(change.name)
                values = seen.setdefault(change.name, []) if limit else []
                if change.new in values or change.new is None or change.name not in self.refs:
                    continue
                if len(values) < limit:
                    values.append(change.new)
        return kept.union(*seen.values())

    def blobs(self, digests: Iterable[str]) -> dict[str, set[BlobLink]]:
        """Collect the blobs that records refer to.

        Parameters
        ----------
        digests
            The records.

        Returns
        -------
        dict[str, set[BlobLink]]
            Links by the blob's digest. A blob that is only the base of another one has none.
        """
        found: dict[str, set[BlobLink]] = {}
        for digest in digests:
            for link in self.records[digest].blobs:
                found.setdefault(link.digest, set()).add(link)
                if link.base is not None:
                    found.setdefault(link.base, set())
        return found


def scan(view: Snapshot) -> Content:
    """Read everything in a catalogue and verify it.

    Parameters
    ----------
    view
        A snapshot.

    Returns
    -------
    Content
        What is whole, and what is not.
    """
    content = Content()
    for key, data in view.pairs("records"):
        links = _tried(content, "record", key, lambda: _links(key, data))  # noqa: B023  called at once
        if links is not None:
            content.records[key.decode()] = links
    for key, sealed in view.pairs("refs"):
        digest = _tried(content, "ref", key, lambda: unseal("refs", key, sealed).decode())  # noqa: B023  as above
        if digest is not None:
            content.refs[key.decode()] = digest
    for key, sealed in view.pairs("memo"):
        memo = _tried(content, "memo", key, lambda: Memo(**json.loads(unseal("memo", key, sealed))))  # noqa: B023  as above
        if memo is not None:
            content.memos[key.decode()] = memo
    _scan_history(view, content)
    return content


def check_links(content: Content) -> None:
    """Check that what refers to something finds it, and that refs are where history left them.

    Parameters
    ----------
    content
        What `scan` gave; problems are added.
    """
    for digest, links in content.records.items():
        for missing in sorted(links.records - content.records.keys()):
            _add(content, "missing-record", missing, f"record {digest} refers to it")
    for name, digest in content.refs.items():
        if digest not in content.records:
            _add(content, "missing-record", digest, f"ref {name!r} names it")
    for key, memo in content.memos.items():
        if memo.result not in content.records:
            _add(content, "missing-record", memo.result, f"memo {key!r} names it")
    replayed = replay(content.history)
    for name in sorted(replayed.keys() | content.refs.keys()):
        if replayed.get(name) != content.refs.get(name):
            text = (
                f"it names {content.refs.get(name) or 'nothing'}; by the history it should name"
                f" {replayed.get(name) or 'nothing'}"
            )
            _add(content, "misplaced-ref", name, text)


def replay(history: Iterable[HistoryEntry]) -> dict[str, str]:
    """Work out where refs are from how they moved.

    Parameters
    ----------
    history
        Entries, oldest first.

    Returns
    -------
    dict[str, str]
        Digests by name.
    """
    refs: dict[str, str | None] = {}
    for entry in history:
        refs.update((change.name, change.new) for change in entry.changes)
    return {name: digest for name, digest in refs.items() if digest is not None}


def _scan_history(view: Snapshot, content: Content) -> None:
    previous: str | None = None
    for number, (key, sealed) in enumerate(view.pairs("history")):
        data = _tried(content, "history", key, lambda: unseal("history", key, sealed))  # noqa: B023  called at once
        if data is None:
            previous = None
            continue
        entry = HistoryEntry.from_json(json.loads(data))
        if entry.counter != number or (previous or entry.previous) != entry.previous:
            _add(content, "broken-history", str(entry.counter), "it does not follow the one before")
        previous = sha256(data).hexdigest()
        content.history.append(entry)


def _links(key: bytes, data: bytes) -> Links:
    found, blobs = records.links(records.load_record(key.decode(errors="replace"), data))
    return Links(records=frozenset(found), blobs=frozenset(blobs))


def _tried(content: Content, what: str, key: bytes, read: Callable[[], _Value]) -> _Value | None:
    try:
        return read()
    except (MomaError, UnicodeDecodeError) as error:
        number = str(int.from_bytes(key, "big"))
        shown = number if what == "history" else key.decode(errors="replace")
        text = error.message if isinstance(error, MomaError) else str(error)
        _add(content, f"damaged-{what}", shown, text)
        return None


def _past_values(name: str) -> int:
    return next((n for prefix, n in KEPT_IN_HISTORY.items() if name.startswith(prefix)), 0)


def _add(content: Content, kind: str, subject: str, text: str) -> None:
    content.problems.append(Problem(kind=kind, subject=subject, text=text))
