"""Upkeep of a hub: verifying, collecting and pinning.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.reasons import Reason
from moma_cl.reconciling.walk import walk
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import Reads
from moma_cl.records.refs import RefKind
from moma_store.catalogue import Snapshot
from moma_store.collection import Collected, collect
from moma_store.errors import InvalidInputError, MomaError
from moma_store.store import Store
from moma_store.verification import Verification
from moma_store.verification import verify as verify_store

PINS = "pins/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A record that ``gc`` keeps until it is unpinned."""

    digest: str
    kind: str  # of the record
    changed: bool  # whether it was otherwise before


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """A hub that was copied into the present format."""

    path: Path  # of the copy
    before: int  # format of the original
    after: int


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """A visitor of the walk that only notes which results a pass would look up."""

    view: Snapshot
    results: set[str] = field(default_factory=set)

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up."""
        del why
        memo = self.view.memo(derivation.key)
        if memo is not None:
            self.results.add(memo.result)
        return None if memo is None else memo.result

    def compose(self, task: str, composition: str) -> None:
        """Leave refs where they are."""

    def add_module(self, task: str, module: str) -> None:
        """Leave refs where they are."""

    def promote(self, task: str, predictor: str, *, first: bool) -> None:
        """Leave refs where they are."""

    def leave(self, task: str, kind: DerivationKind, reason: Reason) -> None:
        """Do nothing: no result is looked up."""

    def fail(self, task: str, error: MomaError) -> None:
        """Refuse to call results unneeded while those of a task cannot be told."""
        del task
        raise error


def live_results(view: Snapshot) -> set[str]:
    """Find the results that a pass would look up rather than derive.

    Parameters
    ----------
    view
        A snapshot of the hub.

    Returns
    -------
    set[str]
        Digests of records, such as the estimates of present modules.
    """
    keeper = _Keeper(view=view)
    reads: Reads = view
    walk(reads, keeper)
    return keeper.results


def verify(
    path: Path,
    *,
    deep: bool = False,
    repair: bool = False,
    wait: float = 0.0,
    catalogue: Path | None = None,
) -> Verification:
    """Verify everything in a hub.

    Parameters
    ----------
    path
        The hub.
    deep
        Whether to decode all arrays rather than hash files only.
    repair
        Whether to put damaged blobs into quarantine and to restore a damaged catalogue.
    wait
        How long to wait for a writer, s.
    catalogue
        The catalogue's folder, for the repair of a ``hub.toml`` that does not tell.

    Returns
    -------
    Verification
        What was found.

    Raises
    ------
    NotFoundError
        If there is no hub.
    InvalidInputError
        If `catalogue` is not this hub's.
    IntegrityError
        If what should be repaired cannot be.
    """
    return verify_store(
        path, deep=deep, repair=repair, wait=wait, catalogue=catalogue, roots=live_results
    )


def gc(path: Path, *, dry_run: bool = False, wait: float = 0.0) -> Collected:
    """Take away what nothing needs any more.

    Kept are what refs and pins reach, the last five predictors of each task, and what a pass
    would look up.

    Parameters
    ----------
    path
        The hub.
    dry_run
        Whether only to say what would go.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Collected
        What went.

    Raises
    ------
    IntegrityError
        If the catalogue is damaged; nothing was taken away.
    """
    with Store.open(path, write=True, wait=wait) as store:
        with store.snapshot() as view:
            roots = live_results(view)
        return collect(store, roots=roots, dry_run=dry_run)


def migrate(path: Path, target: Path) -> Migrated:
    """Copy a hub of an earlier format into the present one; the original is left as it is.

    Parameters
    ----------
    path
        The hub.
    target
        The copy; absent.

    Returns
    -------
    Migrated
        The copy.

    Raises
    ------
    NotFoundError
        If there is no hub.
    AlreadyExistsError
        If there is something at the target.
    InvalidInputError
        If the hub is in the present format.
    FormatError
        If a newer version made the hub.
    IntegrityError
        If the hub is damaged.
    """
    from moma_store import hub_file, migrations

    before = migrations.format_of(path)
    if before == hub_file.FORMAT:
        raise InvalidInputError(
            f"{path} is in format {before}, the present one; there is nothing to migrate"
        )
    migrations.migrate(path, target)
    return Migrated(path=target, before=before, after=hub_file.FORMAT)


def pin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Keep a record, and all it reaches, whatever becomes of its refs.

    Parameters
    ----------
    path
        The hub.
    name
        A task, whose champion is meant; a ref; or the digest of a record, or its beginning.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Pinned
        What is pinned.

    Raises
    ------
    NotFoundError
        If there is nothing of that name.
    """
    return _set_pin(path, name, pinned=True, wait=wait)


def unpin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Let ``gc`` take a record again once nothing else needs it.

    Parameters
    ----------
    path
        The hub.
    name
        As in `pin`.
    wait
        How long to wait for another writer, s.

    Returns
    -------
    Pinned
        What is no longer pinned.

    Raises
    ------
    NotFoundError
        If there is nothing of that name.
    """
    return _set_pin(path, name, pinned=False, wait=wait)


def _set_pin(path: Path, name: str, *, pinned: bool, wait: float) -> Pinned:
    from moma_cl.views.show import show

    task = False
    with Store.open(path) as store:
        task = store.ref(RefKind.PREDICTOR.of(name)) is not None
    shown = show(path, RefKind.PREDICTOR.of(name) if task else name)
    ref = PINS + shown.digest
    with Store.open(path, write=True, wait=wait) as store:
        present = store.ref(ref)
        wanted = shown.digest if pinned else None
        if present != wanted:
            detail = {"kind": shown.kind, "name": name}
            action = HistoryAction.PIN if pinned else HistoryAction.UNPIN
            with store.transaction(action, detail) as transaction:
                transaction.move_ref(ref, wanted, expected=present)
    return Pinned(digest=shown.digest, kind=shown.kind, changed=present != wanted)
