"""Taking an archive into a hub: everything is verified before the first ref moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_store import records
from moma_store.archives import HISTORY, HUB, MEMOS, RECORDS, Archive, Summary
from moma_store.blob_reader import BlobReader
from moma_store.entries import HistoryEntry, Memo, RefChange, check_name
from moma_store.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
)
from moma_store.manifest import ITEM_BYTES, Manifest
from moma_store.records import BlobLink, JsonObject
from moma_store.scan import replay

if TYPE_CHECKING:
    from moma_store.store import Store

_MOST_EXPANSION = 1000  # decoded bytes for each byte of a blob file
_ALWAYS_ALLOWED = 1 << 26  # decoded bytes: a constant array of this size is no attack

_LONGEST_SECONDS = 1e12  # that a derivation can have taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came in.

    Attributes
    ----------
    refs
        Refs that were made.
    present
        Refs that were there already, naming the same.
    records
        Records that are new.
    blobs
        Blobs that are new.
    """

    refs: tuple[str, ...]
    present: tuple[str, ...]
    records: int
    blobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an archive holds: verified, but nothing of it is in the hub yet.

    Attributes
    ----------
    summary
        What the archive says of itself.
    records
        Records by digest.
    memos
        Memos by key.
    open_blob
        Opens one of the blobs that the records refer to.
    """

    summary: Summary
    records: Mapping[str, JsonObject]
    memos: Mapping[str, Memo]
    open_blob: Callable[[str], AbstractContextManager[BlobReader]]


@dataclass(slots=True, kw_only=True)
class _Arrival:
    """What an archive holds, as far as it has been verified."""

    docs: dict[str, JsonObject] = field(default_factory=dict)
    links: dict[str, set[BlobLink]] = field(default_factory=dict)
    drafts: dict[str, Path] = field(default_factory=dict)
    memos: dict[str, Memo] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)


def import_contents(
    store: Store, archive: Archive, *, check: Callable[[Contents], None] | None = None
) -> Imported:
    """Take everything in an archive into a hub.

    Parameters
    ----------
    store
        A hub open for writing; an empty one if the archive is of a whole hub.
    archive
        The archive.
    check
        Raises an error if the contents are not what they claim to be; by default they are trusted.

    Returns
    -------
    Imported
        What was new.

    Raises
    ------
    AlreadyExistsError
        If a ref of that name names something else, or a whole hub meets one that is not empty.
    InvalidInputError
        If the archive is malformed or incomplete.
    IntegrityError
        If a blob in it is damaged.
    StorageError
        If the disk refuses. Whatever the error, no ref has moved.
    """
    present = store.refs()
    _refuse_strange(store, archive, present)
    arrival = _read(archive)
    new = _publish_blobs(store, archive, arrival, check)
    summary = archive.summary
    fresh = [name for name in summary.refs if name not in present]
    if summary.kind == HUB:
        n_records = _restore(store, archive, arrival)
    else:
        n_records = _add(store, archive, arrival, fresh)
    return Imported(
        refs=tuple(sorted(fresh)),
        present=tuple(sorted(summary.refs.keys() - set(fresh))),
        records=n_records,
        blobs=len(new),
    )


def _refuse_strange(store: Store, archive: Archive, present: dict[str, str]) -> None:
    """Refuse an archive that does not go with the hub, whose refs are given."""
    summary = archive.summary
    if summary.kind == HUB and present:
        raise AlreadyExistsError(
            f"the archive is a whole hub and {store.path} is not empty; import it into a new folder"
        )
    for name, digest in summary.refs.items():
        if present.get(name, digest) != digest:
            raise AlreadyExistsError(
                f"the hub has another {name!r}, {present[name][:12]}, than the archive,"
                f" {digest[:12]}; remove or rename one of them"
            )


def _publish_blobs(
    store: Store,
    archive: Archive,
    arrival: _Arrival,
    check: Callable[[Contents], None] | None,
) -> dict[str, BlobLink]:
    """Verify the blobs that are new, then store them; give one link of each."""
    try:
        new = _verify_blobs(store, archive, arrival)
        if check is not None:
            contents = Contents(
                summary=archive.summary,
                records=arrival.docs,
                memos=arrival.memos,
                open_blob=_opener(store, arrival),
            )
            check(contents)
        for digest in sorted(new):
            store.objects.adopt(arrival.drafts[digest], new[digest])
    finally:
        for draft in arrival.drafts.values():
            store.files.remove(draft)
    return new


def _read(archive: Archive) -> _Arrival:
    """Read the records; check that everything they refer to is in the archive."""
    arrival = _Arrival()
    wanted: set[str] = set(archive.summary.refs.values())
    for doc in archive.lines(RECORDS):
        records.check_record(doc)
        arrival.docs[records.digest(doc)] = doc
        linked, blobs = records.links(doc)
        wanted |= linked
        for link in blobs:
            arrival.links.setdefault(link.digest, set()).add(link)
            if link.base is not None:
                arrival.links.setdefault(link.base, set())
    lacking = sorted(wanted - arrival.docs.keys()) + sorted(arrival.links.keys() - archive.objects)
    if lacking:
        raise InvalidInputError(f"the archive is incomplete: it lacks {lacking[0]}")
    if archive.summary.kind == HUB:
        _read_past(archive, arrival)
    return arrival


def _read_past(archive: Archive, arrival: _Arrival) -> None:
    """Read what only the archive of a whole hub holds, and compare it with the rest."""
    arrival.history, arrival.memos = _history(archive), _memos(archive)
    if replay(arrival.history) != archive.summary.refs:
        raise InvalidInputError("the archive's refs are not where its history leaves them")
    lost = sorted(m.result for m in arrival.memos.values() if m.result not in arrival.docs)
    if lost:
        raise InvalidInputError(f"the archive is incomplete: it lacks {lost[0]}")


def _opener(store: Store, arrival: _Arrival) -> Callable[[str], AbstractContextManager[BlobReader]]:
    """Open blobs where they are: new ones as drafts, the others in the store."""

    @contextmanager
    def opened(digest: str) -> Iterator[BlobReader]:
        place = arrival.drafts.get(digest) or store.objects.path(digest)
        with BlobReader(place, digest, opened, store.files) as reader:
            yield reader

    return opened


def _verify_blobs(store: Store, archive: Archive, arrival: _Arrival) -> dict[str, BlobLink]:
    """Copy the blobs that are new out and verify them; give one link of each."""
    new: dict[str, BlobLink] = {}
    for digest in sorted(arrival.links):
        if store.objects.is_whole(digest):
            continue
        draft = store.objects.draft()
        arrival.drafts[digest] = draft
        with store.files.write_new(draft) as stream:
            archive.copy_object(digest, stream)
        links = arrival.links[digest]
        found, n_bytes = store.files.sha256(draft), draft.stat().st_size
        if links and (found, n_bytes) not in {(link.file, link.n_bytes) for link in links}:
            raise IntegrityError(
                f"blob {digest} in the archive has the file digest {found}, expected"
                f" {min(link.file for link in links)}"
            )
        new[digest] = BlobLink(digest=digest, file=found, n_bytes=n_bytes)
    opened = _opener(store, arrival)
    for digest, link in new.items():
        with opened(digest) as reader:
            _check_expansion(reader.manifest, link)
            _check_base(reader.manifest, arrival.links[digest], digest)
            reader.verify()
    return new


def _check_expansion(manifest: Manifest, link: BlobLink) -> None:
    decoded = 0
    for spec in manifest.arrays.values():
        count = 1
        for length in spec.shape:
            count *= length
        decoded += count * ITEM_BYTES[spec.dtype]
    if decoded > max(_ALWAYS_ALLOWED, _MOST_EXPANSION * link.n_bytes):
        raise InvalidInputError(
            f"blob {link.digest} would grow from {link.n_bytes} bytes to {decoded}; the archive is"
            " refused",
            code="invalid-input.archive",
        )


def _check_base(manifest: Manifest, links: set[BlobLink], digest: str) -> None:
    if any(link.base != manifest.base for link in links):
        raise InvalidInputError(
            f"blob {digest} in the archive is stored as the difference from {manifest.base};"
            " its record says otherwise"
        )


def _add(store: Store, archive: Archive, arrival: _Arrival, refs: list[str]) -> int:
    with store.snapshot() as view:
        known = set(view.records())
    with store.transaction("import", {"refs": sorted(refs)}) as transaction:
        for digest in _after_what_they_need(arrival.docs):
            transaction.put_record(arrival.docs[digest])
        for name in sorted(refs):
            transaction.move_ref(name, archive.summary.refs[name], expected=None)
    return len(arrival.docs.keys() - known)


def _restore(store: Store, archive: Archive, arrival: _Arrival) -> int:
    """Make an empty hub the one that was exported, history and memos included."""
    with store.maintain() as writer:
        for digest, doc in arrival.docs.items():
            writer.put_record(digest, records.canonical_json(doc))
        for key, memo in arrival.memos.items():
            writer.put_memo(key, memo)
        for entry in arrival.history:
            writer.put_history(entry)
        for name, digest in archive.summary.refs.items():
            writer.set_ref(name, digest)
    return len(arrival.docs)


def _history(archive: Archive) -> list[HistoryEntry]:
    """Read the history, oldest first; refuse one whose entries do not follow one another."""
    entries: list[HistoryEntry] = []
    previous: str | None = None
    for number, doc in enumerate(archive.lines(HISTORY)):
        entry = _built(HISTORY, lambda: _checked_entry(HistoryEntry.from_json(doc)))  # noqa: B023  called at once
        if (entry.counter, entry.previous) != (number, previous):
            raise InvalidInputError(f"{HISTORY}: entry {number} does not follow the one before")
        previous = entry.digest
        entries.append(entry)
    return entries


def _memos(archive: Archive) -> dict[str, Memo]:
    """Read the memos by key."""
    memos: dict[str, Memo] = {}
    for doc in archive.lines(MEMOS):
        key = doc.pop("key", None)
        check_name("memo", key)
        memos[str(key)] = _built(MEMOS, lambda: _checked_memo(Memo(**doc)))  # noqa: B023  called at once
    return memos


def _checked_entry(entry: HistoryEntry) -> HistoryEntry:
    texts = (entry.action, entry.at)
    if not all(isinstance(text, str) for text in texts) or type(entry.counter) is not int:
        raise TypeError("action and time must be texts, the counter an integer")
    if not isinstance(entry.detail, dict):
        raise TypeError("the detail must be an object")
    for change in entry.changes:
        _check_change(change)
    return entry


def _check_change(change: RefChange) -> None:
    check_name("ref", change.name)
    for digest in (change.old, change.new):
        if digest is not None:
            records.check_digest(digest)


def _checked_memo(memo: Memo) -> Memo:
    records.check_digest(memo.result)
    right = type(memo.seconds) in {int, float} and 0 <= memo.seconds < _LONGEST_SECONDS
    if not right or not isinstance(memo.at, str):
        raise TypeError("seconds must be a number, the time a text")
    return memo


def _built(name: str, make: Any) -> Any:
    try:
        return make()
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} is malformed: {error!r}") from error


def _after_what_they_need(docs: dict[str, JsonObject]) -> list[str]:
    """Order records so that each comes after those it refers to."""
    ordered: dict[str, None] = {}
    ahead = [(digest, False) for digest in sorted(docs, reverse=True)]
    while ahead:
        digest, needs_are_done = ahead.pop()
        if digest in ordered:
            continue
        if needs_are_done:
            ordered[digest] = None
            continue
        ahead.append((digest, True))
        needed, _ = records.links(docs[digest])
        ahead.extend((need, False) for need in sorted(needed) if need not in ordered)
    return list(ordered)
