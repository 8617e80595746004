"""Verifying a hub: files, records, refs, memos and history; and repairing what can be repaired.

The catalogue comes first, its pages before its values, since nothing can be said of blobs without
it. A blob's file is compared with the digest in the records that refer to it; `deep` decodes the
arrays, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from moma_store import hub_file, hub_layout
from moma_store.backups import list_backups
from moma_store.catalogue import Snapshot
from moma_store.clock import utc_now
from moma_store.environment import DATA_FILE, DATABASES
from moma_store.errors import (
    FormatError,
    IntegrityError,
    InvalidInputError,
    MomaError,
    NotFoundError,
)
from moma_store.files import Files
from moma_store.hub_file import HubFile
from moma_store.locking import writer_lock
from moma_store.objects import Objects
from moma_store.open_catalogue import Catalogue
from moma_store.pages import check_pages
from moma_store.records import BlobLink
from moma_store.restoration import (
    hub_in_catalogue,
    hub_in_copies,
    quarantine,
    restore_catalogue,
    restore_hub_file,
)
from moma_store.scan import Content, Problem, check_links, scan
from moma_store.store import Store

Roots = Callable[[Snapshot], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What verifying a hub found.

    Attributes
    ----------
    problems
        What is not as it was written.
    deep
        Whether arrays were decoded.
    records, refs, memos, entries
        How many are whole, entries being those of the history.
    blobs
        Blob files that records refer to.
    bytes
        Their size.
    unreachable_records, unreachable_files, unreachable_bytes
        What `gc` would take away.
    strays
        Files among the blobs that the store did not put there.
    """

    problems: tuple[Problem, ...]
    deep: bool
    records: int = 0
    refs: int = 0
    memos: int = 0
    entries: int = 0
    blobs: int = 0
    bytes: int = 0
    unreachable_records: int = 0
    unreachable_files: int = 0
    unreachable_bytes: int = 0
    strays: tuple[str, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether something is wrong that was not repaired."""
        return any(problem.repaired is None for problem in self.problems)


def verify(
    path: Path,
    *,
    deep: bool = False,
    repair: bool = False,
    wait: float = 0.0,
    catalogue: Path | None = None,
    roots: Roots | None = None,
    files: Files | None = None,
) -> Verification:
    """Verify everything in a hub.

    Parameters
    ----------
    path
        The hub's folder.
    deep
        Whether to decode all arrays rather than hash files only.
    repair
        Whether to mend what is damaged: blobs go into quarantine, the catalogue is made anew from
        what is whole of it and of its copies, ``hub.toml`` from the catalogue.
    wait
        How long to wait for a writer, s; nobody may write meanwhile.
    catalogue
        Folder of the catalogue, for a repair whose ``hub.toml`` no longer says where it is.
    roots
        Gives further records that `gc` would keep.
    files
        The file system.

    Returns
    -------
    Verification
        What is whole and what is not.

    Raises
    ------
    NotFoundError, BusyError
        If there is no hub, or another process writes to it.
    InvalidInputError
        If `catalogue` does not go with the other arguments or the hub.
    IntegrityError
        If ``hub.toml`` is damaged, or what should be repaired cannot be.
    """
    path, files = Path(path).absolute(), files or Files()
    if catalogue is not None and not repair:
        raise InvalidInputError("a catalogue is named for a repair only; give --repair, too")
    mended = _repair_hub_file(path, catalogue, wait=wait, files=files) if repair else []
    check = _Check(path=path, hub=HubFile.read(path), repair=repair, files=files, problems=mended)
    return check.everything(roots, deep=deep, wait=wait)


def _repair_hub_file(path: Path, home: Path | None, *, wait: float, files: Files) -> list[Problem]:
    """Make ``hub.toml`` say what the catalogue says, if it does not; tell what was wrong."""
    home = None if home is None else Path(home).absolute()
    wrong = None
    try:
        hub = HubFile.read(path)
    except (NotFoundError, IntegrityError) as error:
        hub, wrong = None, error.message
    if hub is not None and hub.catalogue is not None and home is None:
        return []
    said = hub_in_catalogue(path, home)
    if said is None and home is not None:
        raise InvalidInputError(f"{home} holds no catalogue that is whole; name its folder")
    if said is None or said == hub:
        return []
    lock = writer_lock(path, wait=wait, now=utc_now())
    try:
        if home is not None:
            _check_home(path, home, said)
        done = restore_hub_file(path, said, files=files)
    finally:
        lock.release()
    wrong = wrong or f"it does not say what the catalogue says, that of hub {said.hub_id}"
    return [Problem(kind="hub-file", subject=hub_file.NAME, text=wrong, repaired=done)]


def _check_home(path: Path, home: Path, said: HubFile) -> None:
    """Refuse a catalogue that somebody named by mistake."""
    hub_layout.refuse_network(home)
    known = hub_in_copies(path)
    if known not in (None, said.hub_id):
        raise InvalidInputError(
            f"the catalogue {home} belongs to hub {said.hub_id}, expected hub {known}, of which"
            f" {path / hub_layout.BACKUPS} has copies; name the folder of its catalogue"
        )


@dataclass(slots=True, kw_only=True)
class _Check:
    path: Path
    hub: HubFile
    repair: bool
    files: Files
    problems: list[Problem] = field(default_factory=list)

    def everything(self, roots: Roots | None, *, deep: bool, wait: float) -> Verification:
        """Check the catalogue and the blobs; after a repair, a backup is written."""
        lock = writer_lock(self.path, wait=wait, now=utc_now())
        try:
            content, kept = self.catalogue(roots)
            counts = Verification(problems=(), deep=deep)
            if content is not None:
                counts = self.blobs(content, kept, deep=deep)
        finally:
            lock.release()
        if any(problem.repaired for problem in self.problems):
            with Store.open(self.path, write=True, wait=wait) as store:
                store.backup()
        return replace(counts, problems=tuple(self.problems))

    def catalogue(self, roots: Roots | None) -> tuple[Content | None, set[str]]:
        """Check the catalogue and its copies; give what it holds and what `gc` would keep of it."""
        self._backups()
        content, kept = self._read_catalogue(roots)
        if content is not None and not content.problems:
            return content, kept
        if not self.repair:
            return content, kept
        done = restore_catalogue(self.path, self.hub, files=self.files)
        before, self.problems = self.problems, []
        content, kept = self._read_catalogue(roots)
        remaining = {(problem.kind, problem.subject) for problem in self.problems}
        mended = [
            replace(problem, repaired=problem.repaired or done)
            for problem in before
            if (problem.kind, problem.subject) not in remaining
        ]
        self.problems = mended + self.problems
        return content, kept

    def blobs(self, content: Content, kept: set[str], *, deep: bool) -> Verification:
        """Check the files of all blobs, those of unreachable records included."""
        objects = Objects(self.path / hub_layout.OBJECTS, self.path / hub_layout.TMP, self.files)
        known = content.blobs(content.records)
        listing = {file.path: file for file in objects.listing()}
        n_bytes = 0
        for digest, links in sorted(known.items()):
            file = listing.get(objects.path(digest))
            n_bytes += file.n_bytes if file else 0
            self._blob(objects, digest, links, present=file is not None, deep=deep)
        needed = content.blobs(kept)
        spare = [f for f in listing.values() if f.digest is not None and f.digest not in needed]
        return Verification(
            problems=(),
            deep=deep,
            records=len(content.records),
            refs=len(content.refs),
            memos=len(content.memos),
            entries=len(content.history),
            blobs=len(known),
            bytes=n_bytes,
            unreachable_records=len(content.records.keys() - kept),
            unreachable_files=len(spare),
            unreachable_bytes=sum(file.n_bytes for file in spare),
            strays=tuple(
                str(f.path.relative_to(self.path)) for f in listing.values() if f.digest is None
            ),
        )

    def _backups(self) -> None:
        for backup in list_backups(self.path):
            try:
                check_pages(backup, databases=DATABASES)
            except IntegrityError as error:
                done = None
                if self.repair:
                    done = f"moved to {quarantine(backup, self.path, files=self.files)}"
                self._note("damaged-backup", backup.name, error.message, done)

    def _read_catalogue(self, roots: Roots | None) -> tuple[Content | None, set[str]]:
        home = self.hub.catalogue or self.path / hub_layout.CATALOGUE
        try:
            # LMDB might not survive pages that are not sound.
            if os.path.lexists(home / DATA_FILE):
                check_pages(home / DATA_FILE, databases=DATABASES)
            catalogue = Catalogue.open(home, self.hub, writing=True)
        except FormatError:
            raise
        except MomaError as error:
            if not isinstance(error, IntegrityError):
                raise
            self._note("catalogue", str(home), error.message)
            return None, set()
        try:
            with catalogue.snapshot() as view:
                content = scan(view)
                check_links(content)
                kept = content.roots()
                if roots is not None and not content.problems:
                    kept.update(roots(view))
        finally:
            catalogue.close()
        self.problems.extend(content.problems)
        return content, content.reachable(kept)

    def _blob(
        self, objects: Objects, digest: str, links: set[BlobLink], *, present: bool, deep: bool
    ) -> None:
        path = objects.path(digest)
        if not present:
            self._note("missing-blob", digest, f"there is no {path}")
            return
        wrong = self._wrong_with(objects, digest, links, deep=deep)
        if wrong is None:
            return
        done = f"moved to {quarantine(path, self.path, files=self.files)}" if self.repair else None
        self._note("damaged-blob", digest, wrong, done)

    def _wrong_with(
        self, objects: Objects, digest: str, links: set[BlobLink], *, deep: bool
    ) -> str | None:
        path = objects.path(digest)
        expected = {link.file for link in links}
        if expected and (found := self.files.sha256(path)) not in expected:
            return f"{path} has the digest {found}, expected {' or '.join(sorted(expected))}"
        if not deep and expected:
            return None
        try:
            with objects.open(digest) as reader:
                reader.verify()
        except IntegrityError as error:
            return error.message
        return None

    def _note(self, kind: str, subject: str, text: str, repaired: str | None = None) -> None:
        self.problems.append(Problem(kind=kind, subject=subject, text=text, repaired=repaired))
