"""Garbage collection: what nothing reaches any more is taken away.

Order does not rest on clocks. Records leave the catalogue first, in one transaction; a file goes
only when no living snapshot, of any process, is older than the last commit, since an older one
might still reach it. A run that is killed in between leaves files without records, which the next
run finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_store.errors import IntegrityError, StorageError
from moma_store.files import is_full
from moma_store.objects import ObjectFile
from moma_store.scan import Content, scan

if TYPE_CHECKING:
    from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was taken away, or would be.

    Attributes
    ----------
    records
        Records.
    memos
        Memos whose result has gone.
    blobs
        Files.
    bytes
        What they take.
    waiting
        Files that must stay until a reader that is older than the last commit has ended.
    kept
        Records that stay.
    """

    records: int
    memos: int
    blobs: int
    bytes: int
    waiting: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Garbage:
    records: frozenset[str]
    memos: frozenset[str]
    orphans: tuple[ObjectFile, ...]  # files of which no record knows
    expired: tuple[ObjectFile, ...]  # files of records that go


def collect(store: Store, *, roots: Iterable[str] = (), dry_run: bool = False) -> Collected:
    """Take away what neither refs, pins, recent history nor other roots reach.

    Parameters
    ----------
    store
        A hub open for writing.
    roots
        Digests of further records to keep, with all they reach.
    dry_run
        Whether only to say what would go.

    Returns
    -------
    Collected
        What went.

    Raises
    ------
    IntegrityError
        If the catalogue is damaged: what is unreadable might name something to keep.
    StorageError
        If the disk refuses; a full disk does not keep records and files from going.
    """
    with store.snapshot() as view:
        content = scan(view)
    if content.problems:
        first = content.problems[0]
        raise IntegrityError(
            f"nothing was collected, since the catalogue is damaged: {first.subject}:"
            f" {first.text}; run `moma-cl verify --repair`"
        )
    kept = content.reachable(content.roots().union(roots))
    garbage = _garbage(store, content, kept)
    files = (*garbage.orphans, *garbage.expired)
    waiting: tuple[ObjectFile, ...] = ()
    if not dry_run:
        waiting = _remove(store, garbage)
    gone = [file for file in files if file not in waiting]
    return Collected(
        records=len(garbage.records),
        memos=len(garbage.memos),
        blobs=len(gone),
        bytes=sum(file.n_bytes for file in gone),
        waiting=len(waiting),
        kept=len(kept),
    )


def _garbage(store: Store, content: Content, kept: set[str]) -> _Garbage:
    needed = content.blobs(kept)
    known = content.blobs(content.records)
    spare = [
        file
        for file in store.objects.listing()
        if file.digest is not None and file.digest not in needed
    ]
    return _Garbage(
        records=frozenset(content.records.keys() - kept),
        memos=frozenset(key for key, memo in content.memos.items() if memo.result not in kept),
        orphans=tuple(file for file in spare if file.digest not in known),
        expired=tuple(file for file in spare if file.digest in known),
    )


def _remove(store: Store, garbage: _Garbage) -> tuple[ObjectFile, ...]:
    """Remove everything that may go; give the files that must wait."""
    # First what needs no commit, which on a full disk makes room for one.
    waiting = _remove_files(store, garbage.orphans)
    if garbage.records or garbage.memos:
        _forget(store, garbage)
    return waiting + _remove_files(store, garbage.expired)


def _remove_files(store: Store, files: Collection[ObjectFile]) -> tuple[ObjectFile, ...]:
    if not files:
        return ()
    if store.has_old_readers():
        return tuple(files)
    for file in files:
        store.files.remove(file.path)
    return ()


def _forget(store: Store, garbage: _Garbage) -> None:
    """Take records and memos out of the catalogue, on a full disk after making room."""
    for make_room in (_empty_cache, _drop_old_backup):
        try:
            _forget_once(store, garbage)
        except StorageError as error:
            if not is_full(store.cache_dir, error):
                raise
            make_room(store)
        else:
            return
    _forget_once(store, garbage)


def _forget_once(store: Store, garbage: _Garbage) -> None:
    with store.maintain() as writer:
        writer.forget("records", garbage.records)
        writer.forget("memo", garbage.memos)


def _empty_cache(store: Store) -> None:
    for path in sorted(store.cache_dir.rglob("*"), reverse=True):
        if not path.is_dir():
            store.files.remove(path)


def _drop_old_backup(store: Store) -> None:
    backups: list[Path] = store.backups()
    for path in backups[:-1]:
        store.files.remove(path)
