"""``verify``, ``gc``, ``migrate`` and ``pin``: checking and tidying a hub.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.learners import learners_at_hand
from moma_cl.reconciling.pass_lock import only_pass
from moma_cl.reconciling.reasons import Reason
from moma_cl.reconciling.walk import walk
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import Reads
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_store import hub_layout
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
    """A visitor of the walk that notes which results a pass would look up, and does nothing."""

    view: Snapshot
    results: set[str] = field(default_factory=set)

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Look the derivation up."""
        del why
        memo = self.view.memo(derivation.key)
        if memo is not None:
            self.results.add(memo.result)
        return None if memo is None else memo.result

    def derive_all(self, derivations: Sequence[Derivation], why: str) -> list[str | None]:
        """Look each up."""
        return [self.derive(derivation, why) for derivation in derivations]

    def gives_up(self, derivation: Derivation) -> bool:
        """Say that nothing more will be there."""
        del derivation
        return True

    def compose(self, task: str, composition: str) -> None:
        """Leave refs where they are."""

    def add_module(self, task: str, module: str) -> None:
        """Leave refs where they are."""

    def promote(self, task: str, predictor: str, *, first: bool) -> None:
        """Leave refs where they are."""

    def leave(
        self,
        task: str,
        kind: DerivationKind,
        reason: Reason,
        *,
        expected: Sequence[Derivation] = (),
    ) -> None:
        """Do nothing: no result is looked up."""

    def fail(self, task: str, error: MomaError) -> None:
        """Raise the error: what a task needs is not known, so nothing may be removed."""
        del task
        raise error


def live_results(view: Snapshot) -> set[str]:
    """Give the digests of the results that a pass would look up rather than derive."""
    keeper = _Keeper(view=view)
    reads: Reads = view
    walk(reads, keeper)
    learners = (learners_at_hand(view, task_state(view, name)) for name in task_names(view))
    return keeper.results.union(*learners)


def verify(
    path: Path,
    *,
    deep: bool = False,
    repair: bool = False,
    wait: float = 0.0,
    catalogue: Path | None = None,
) -> Verification:
    """Verify everything in a hub; a repair lets no pass go on beside it."""
    alone = repair and (path / hub_layout.OBJECTS).is_dir()
    with only_pass(path, wait=wait) if alone else nullcontext():
        return verify_store(
            path, deep=deep, repair=repair, wait=wait, catalogue=catalogue, roots=live_results
        )


def gc(path: Path, *, dry_run: bool = False, wait: float = 0.0) -> Collected:
    """Remove what nothing needs any more; no pass goes on beside it, which may need it."""
    with Store.open(path) as store, only_pass(path, wait=wait), store.writing(wait=wait):
        with store.snapshot() as view:
            roots = live_results(view)
        return collect(store, roots=roots, dry_run=dry_run)


def migrate(path: Path, target: Path) -> Migrated:
    """Copy a hub of an earlier format into the present one; the original stays as it is."""
    from moma_store import hub_file, migrations

    before = migrations.format_of(path)
    if before == hub_file.FORMAT:
        raise InvalidInputError(
            f"{path} is in format {before}, the present one; there is nothing to migrate"
        )
    migrations.migrate(path, target)
    return Migrated(path=target, before=before, after=hub_file.FORMAT)


def pin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Keep a record, and all it reaches, whatever becomes of its refs."""
    return _set_pin(path, name, pinned=True, wait=wait)


def unpin(path: Path, name: str, *, wait: float = 0.0) -> Pinned:
    """Let ``gc`` remove a record again once nothing else needs it."""
    return _set_pin(path, name, pinned=False, wait=wait)


def _set_pin(path: Path, name: str, *, pinned: bool, wait: float) -> Pinned:
    from moma_cl.views.show import show

    with Store.open(path) as store:
        task = store.ref(RefKind.PREDICTOR.of(name)) is not None
    shown = show(path, RefKind.PREDICTOR.of(name) if task else name)
    ref = PINS + shown.digest
    with Store.open(path, write=True, wait=wait) as store:
        present = store.ref(ref)
        target = shown.digest if pinned else None
        if present != target:
            detail = {"kind": shown.kind, "name": name}
            action = HistoryAction.PIN if pinned else HistoryAction.UNPIN
            with store.transaction(action, detail) as transaction:
                transaction.move_ref(ref, target, expected=present)
    return Pinned(digest=shown.digest, kind=shown.kind, changed=present != target)
