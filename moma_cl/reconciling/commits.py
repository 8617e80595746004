"""Commits: what a pass stores, each under a short hold of the writer lock.

Between two commits rows may come, recipes change, champions be rolled back and tasks go. A
derivation is named by the digests of what it was computed from, so its result is stored in any
case; but refs move only for a task that is as the round of the pass began with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.refs import RefKind
from moma_store.errors import MomaError

if TYPE_CHECKING:
    from moma_cl.derivations.derived import Derived
    from moma_cl.derivations.keys import Derivation
    from moma_cl.reconciling.failures import Failures
    from moma_cl.records.hub import Reads
    from moma_cl.records.records import Hold
    from moma_store.store import Store

Inputs = dict[str, str | None]
"""Digest of a task, its dataset, recipe and champion, by the names of their refs."""

_INPUTS = (RefKind.TASK, RefKind.DATASET, RefKind.RECIPE, RefKind.PREDICTOR)


class StaleError(MomaError):
    """What a derivation was for has changed meanwhile: no failure, the pass comes back to it."""

    code = "stale"


def inputs_of(store: Reads, task: str) -> Inputs:
    """Read what a task is derived from, and compared with, now."""
    return {kind.of(task): store.ref(kind.of(task)) for kind in _INPUTS}


@dataclass(slots=True, kw_only=True)
class Commits:
    """The writes of a pass."""

    store: Store  # of the hub
    failures: Failures  # which a stored result mends
    begun: dict[str, Inputs] = field(default_factory=dict)  # by task, with the refs moved since

    def is_stale(self, task: str) -> bool:
        """Say whether somebody else has changed a task since the round began, or removed it."""
        return inputs_of(self.store, task) != self.begun.get(task)

    def check(self, task: str) -> None:
        """Raise ``StaleError`` if somebody else has changed a task since the round began."""
        if self.is_stale(task):
            raise StaleError(f"task {task!r} has changed meanwhile, and is derived anew")

    def put(self, derivation: Derivation, derived: Derived, seconds: float) -> None:
        """Store a result, unless its task has gone, or another process was faster."""
        with self.store.writing():
            if self.store.ref(RefKind.TASK.of(derivation.task)) is None:
                raise StaleError(f"task {derivation.task!r} has gone meanwhile")
            if self.store.memo(derivation.key) is not None:
                return
            record = derived.record
            if derived.arrays:
                header = {"kind": f"{derivation.kind}-arrays", "format": 1}
                link = self.store.put_blob(derived.arrays, header, base=derived.base)
                record = record.with_blob(link)
            action = f"{HistoryAction.DERIVE}-{derivation.kind}"
            with self.store.transaction(action) as transaction:
                digest = transaction.put_record(record.to_doc())
                transaction.put_memo(derivation.key, digest, seconds)
                self.failures.mended(transaction, derivation.key)

    def move(
        self,
        task: str,
        action: HistoryAction,
        moves: Mapping[str, str],
        detail: dict[str, Any],
        *,
        mended: str = "",
        hold: Hold | None = None,
    ) -> None:
        """Move refs of a task that nobody else has changed; a hold is stored with them."""
        with self.store.writing():
            self.check(task)
            with self.store.transaction(action, {"task": task, **detail}) as transaction:
                moves = dict(moves)
                if hold is not None:
                    moves[RefKind.HOLD.of(task)] = transaction.put_record(hold.to_doc())
                for name, digest in moves.items():
                    transaction.move_ref(name, digest, expected=transaction.ref(name))
                self.failures.mended(transaction, mended)
        begun = self.begun[task]
        begun.update({name: digest for name, digest in moves.items() if name in begun})
