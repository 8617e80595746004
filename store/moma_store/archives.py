"""A hub, or some of its refs with all they reach, as one file; and back.

The file is a zip archive whose members are stored uncompressed:

====================== ==========================================================================
``moma-cl.json``       format, what it is, refs, and the number of records
``records.jsonl``      records in canonical form, one a line
``history.jsonl``      history, oldest first; of a whole hub only
``memos.jsonl``        memos with their keys; of a whole hub only
``objects/D.zarr.zip`` blob files
====================== ==========================================================================

An archive comes from outside: any other member, or one that is compressed, a link or a device, is
refused before anything is written, and everything is verified before the first ref moves. Nothing
in it names a path.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moma_store import records
from moma_store.entries import check_name
from moma_store.errors import (
    AlreadyExistsError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    MomaError,
    NotFoundError,
    StorageError,
)
from moma_store.files import reported
from moma_store.objects import SUFFIX
from moma_store.records import BlobLink, JsonObject
from moma_store.scan import Content, scan

if TYPE_CHECKING:
    from moma_store.catalogue import Snapshot
    from moma_store.store import Store

FORMAT = 1
HUB = "hub"
PART = "part"

SUMMARY, RECORDS, HISTORY, MEMOS = (
    "moma-cl.json",
    "records.jsonl",
    "history.jsonl",
    "memos.jsonl",
)
_OBJECT = re.compile(r"objects/([0-9a-f]{64})\.zarr\.zip")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same archive
_MOST_JSON = 1 << 30  # bytes of any of the JSON members
_COPIED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What went into an archive."""

    path: str
    refs: tuple[str, ...]
    records: int
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What an archive says of itself.

    Attributes
    ----------
    kind
        `HUB` for a whole hub, `PART` for some refs and what they reach.
    refs
        Digests by name.
    """

    kind: str
    refs: dict[str, str]


def export(
    store: Store, target: Path, *, refs: Mapping[str, str] | None = None, roots: Iterable[str] = ()
) -> Exported:
    """Write a hub, or a part of it, into one archive.

    Parameters
    ----------
    store
        The hub.
    target
        The archive; nothing may be there.
    refs
        Refs to export, as digests by name, with all they reach; the whole hub if None.
    roots
        Further records that the archive of a whole hub holds.

    Returns
    -------
    Exported
        What it holds.

    Raises
    ------
    AlreadyExistsError
        If there is a file already.
    IntegrityError
        If something that belongs into the archive is damaged or missing.
    StorageError
        If the disk refuses; nothing is left behind.
    """
    target = _free(target)
    with store.snapshot() as view:  # one for all, so that no file goes while it is copied
        content = _whole_content(view)
        chosen = dict(content.refs if refs is None else refs)
        kept = content.reachable(content.roots().union(roots) if refs is None else chosen.values())
        links = _links(content, kept)
        with _published(store, target) as archive:
            _add_json(archive, SUMMARY, [_summary(chosen, whole=refs is None)])
            _add_json(archive, RECORDS, (view.record(digest) for digest in sorted(kept)))
            if refs is None:
                _add_past(archive, content, kept)
            for digest in sorted(links):
                _add_object(archive, store, digest, links[digest])
    return Exported(
        path=str(target),
        refs=tuple(sorted(chosen)),
        records=len(kept),
        blobs=len(links),
        bytes=target.stat().st_size,
    )


class Archive:
    """An archive from outside, whose list of members has been checked; a context manager.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    NotFoundError
        If there is no file.
    InvalidInputError
        If it is no archive of this kind.
    FormatError
        If a newer version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise NotFoundError(f"there is no archive {path}")
        with _refused(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self.objects = self._checked_members()
            self.summary = self._read_summary()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def lines(self, name: str) -> Iterator[JsonObject]:
        """Parse one of the members of lines.

        Parameters
        ----------
        name
            ``records.jsonl`` or another.

        Yields
        ------
        JsonObject
            One document after the other.

        Raises
        ------
        InvalidInputError
            If a line is not in canonical form.
        """
        with _refused(self._path), self._zip.open(name) as stream:
            for line in stream:
                yield _parsed(self._path, name, line.rstrip(b"\n"))

    def copy_object(self, digest: str, stream: Any) -> None:
        """Copy a blob's file out.

        Parameters
        ----------
        digest
            The blob.
        stream
            Where it goes.

        Raises
        ------
        InvalidInputError
            If the archive is damaged there.
        """
        with _refused(self._path), self._zip.open(f"objects/{digest}{SUFFIX}") as member:
            shutil.copyfileobj(member, stream, _COPIED_AT_ONCE)

    def _checked_members(self) -> frozenset[str]:
        found: list[str] = []
        for member in self._zip.infolist():
            name = member.filename
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
            known = _OBJECT.fullmatch(name) or name in (SUMMARY, RECORDS, HISTORY, MEMOS)
            if not known or not plain or kind not in (0, stat.S_IFREG):
                raise InvalidInputError(
                    f"{self._path}: member {name!r} is none that moma-cl writes; the archive was"
                    " made by something else and is refused",
                    code="invalid-input.archive",
                )
            if not _OBJECT.fullmatch(name) and member.file_size > _MOST_JSON:
                raise InvalidInputError(
                    f"{self._path}: {name} has {member.file_size} bytes, at most {_MOST_JSON} are"
                    " read",
                    code="invalid-input.archive",
                )
            found.append(name)
        if len(set(found)) != len(found) or not {SUMMARY, RECORDS} <= set(found):
            raise InvalidInputError(
                f"{self._path} is no archive of moma-cl: it lacks {SUMMARY} or {RECORDS}, or has"
                " a member twice",
                code="invalid-input.archive",
            )
        return frozenset(match[1] for name in found if (match := _OBJECT.fullmatch(name)))

    def _read_summary(self) -> Summary:
        (doc,) = self.lines(SUMMARY)
        try:
            if doc["format"] > FORMAT:
                raise FormatError(
                    f"{self._path} is in format {doc['format']}, this version of moma-cl knows up"
                    f" to {FORMAT}; install a newer one"
                )
            for name, digest in doc["refs"].items():
                check_name("ref", name)
                records.check_digest(digest)
            return Summary(kind=doc["kind"], refs=doc["refs"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidInputError(f"{self._path}: {SUMMARY} is malformed: {error!r}") from error


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turn whatever the block raises over a malformed archive into an `InvalidInputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, EINVAL):
            raise StorageError(
                f"cannot read {path}: {error.strerror}", errno=error.errno
            ) from error
        raise InvalidInputError(f"{path} is no archive of moma-cl: {error}") from error
    except (MomaError, MemoryError):
        raise
    except Exception as error:  # a malformed archive makes zipfile raise almost anything
        raise InvalidInputError(f"{path} is no archive of moma-cl: {error!r}") from error


def _parsed(path: Path, name: str, line: bytes) -> JsonObject:
    try:
        doc = json.loads(line)
        if isinstance(doc, dict) and records.canonical_json(doc) == line:
            return doc
        reason = "a line is not in canonical form"
    except (ValueError, RecursionError, MomaError) as error:
        reason = str(error)
    raise InvalidInputError(f"{path}: {name} is malformed: {reason}")


def _free(target: Path) -> Path:
    """Refuse a place where something is."""
    if target.exists():
        raise AlreadyExistsError(f"{target.absolute()} exists; name another file")
    return target.absolute()


@contextmanager
def _published(store: Store, target: Path) -> Iterator[zipfile.ZipFile]:
    """Give an archive to write, which gets its name once the block has ended well."""
    # A name of its own: another run may be writing the same archive, or have been killed doing so.
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    with (
        store.files.write_published(draft, target) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive,
    ):
        yield archive


def _summary(refs: Mapping[str, str], *, whole: bool) -> JsonObject:
    return {
        "format": FORMAT,
        "kind": HUB if whole else PART,
        "refs": dict(refs),
    }


def _whole_content(view: Snapshot) -> Content:
    content = scan(view)
    if content.problems:
        raise IntegrityError(
            f"the hub is damaged: {content.problems[0].text}; run `moma-cl verify --repair`"
        )
    return content


def _links(content: Content, kept: Iterable[str]) -> dict[str, set[BlobLink]]:
    kept = set(kept)
    missing = sorted(
        digest
        for name in kept
        for digest in content.records[name].records
        if digest not in content.records
    )
    if missing:
        raise IntegrityError(f"record {missing[0]} is missing; run `moma-cl verify`")
    return content.blobs(kept)


def _add_past(archive: zipfile.ZipFile, content: Content, kept: set[str]) -> None:
    """Add what only the archive of a whole hub holds."""
    _add_json(archive, HISTORY, (entry.to_json() for entry in content.history))
    memos = sorted(content.memos.items())
    docs = ({"key": key, **memo.to_json()} for key, memo in memos if memo.result in kept)
    _add_json(archive, MEMOS, docs)


def _add_json(archive: zipfile.ZipFile, name: str, docs: Iterable[JsonObject]) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as stream:
        for doc in docs:
            stream.write(records.canonical_json(doc) + b"\n")


def _add_object(archive: zipfile.ZipFile, store: Store, digest: str, links: set[BlobLink]) -> None:
    path = store.objects.path(digest)
    expected = {link.file for link in links}
    if not path.exists() or (expected and store.files.sha256(path) not in expected):
        raise IntegrityError(f"blob {digest} is missing or damaged: {path}; run `moma-cl verify`")
    member = _member(f"objects/{digest}{SUFFIX}")
    with (
        reported("read", path),
        store.files.open(path) as source,
        archive.open(member, "w", force_zip64=True) as stream,
    ):
        shutil.copyfileobj(source, stream, _COPIED_AT_ONCE)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, date_time=_DATE)
    member.create_system = 3  # Unix, on whatever system this runs
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    return member
