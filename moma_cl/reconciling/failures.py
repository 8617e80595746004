"""Failures: which derivations went wrong, how often, and when they are tried again.

A failure is a record under a ref that is named after the derivation's key, so that it survives
restarts, shows in the history, and frees whatever has other inputs. Passes count, not clocks: a
derivation is tried in the next pass, then after leaving one out, then not any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Failure
from moma_cl.records.refs import RefKind

if TYPE_CHECKING:
    from moma_cl.records.hub import Reads
    from moma_store.errors import MomaError
    from moma_store.store import Store
    from moma_store.transactions import Transaction

MAX_TRIES = 3
"""Tries after which a derivation is set aside until its inputs change or the user asks."""


def failed_too_often(failure: Failure) -> bool:
    """Say whether a derivation is set aside: only the user, or other inputs, bring it back."""
    return failure.tries >= MAX_TRIES


def is_set_aside(store: Reads, key: str) -> bool:
    """Say whether the derivation of a key is set aside."""
    digest = store.ref(RefKind.FAILURE.of(key))
    return digest is not None and failed_too_often(Failure.from_doc(store.record(digest)))


@dataclass(slots=True, kw_only=True)
class Failures:
    """The failures of a hub, read once."""

    by_key: dict[str, Failure] = field(default_factory=dict)  # by the key of their derivation

    @classmethod
    def of(cls, store: Reads) -> Self:
        """Read all failures that were not mended since."""
        return cls(
            by_key={
                RefKind.FAILURE.name_in(name): Failure.from_doc(store.record(digest))
                for name, digest in store.refs(RefKind.FAILURE.prefix).items()
            }
        )

    def count(self, store: Store, key: str, task: str, subject: str, error: MomaError) -> None:
        """Remember one more failed try of the derivation of a key."""
        before = self.by_key.get(key)
        tries = 1 if before is None else before.tries + 1
        failure = Failure(
            key=key,
            task=task,
            subject=subject,
            tries=tries,
            wait=0 if tries >= MAX_TRIES else 2 ** (tries - 1) - 1,
            code=error.code,
            message=error.message,
        )
        self._write(store, failure, {"task": task, "tries": tries, "code": error.code})

    def wait(self, store: Store, key: str) -> None:
        """Count one of the passes that the derivation of a key waits for."""
        failure = replace(self.by_key[key], wait=self.by_key[key].wait - 1)
        self._write(store, failure, {"task": failure.task, "wait": failure.wait})

    def mended(self, transaction: Transaction, key: str) -> None:
        """Forget the failure of a key in the transaction that stores the result."""
        if not key:
            return
        self.by_key.pop(key, None)
        name = RefKind.FAILURE.of(key)
        present = transaction.ref(name)  # another process may have counted one
        if present is not None:
            transaction.move_ref(name, None, expected=present)

    def forget(self, store: Store, keys: set[str], action: HistoryAction) -> None:
        """Forget failures whose derivations are tried again, or are not needed any more."""
        if not keys:
            return
        detail = {"failures": len(keys)}
        with store.writing(), store.transaction(action, detail) as transaction:
            for key in sorted(keys):
                self.mended(transaction, key)

    def _write(self, store: Store, failure: Failure, detail: dict[str, object]) -> None:
        name = RefKind.FAILURE.of(failure.key)
        with store.writing(), store.transaction(HistoryAction.FAIL, detail) as transaction:
            digest = transaction.put_record(failure.to_doc())
            transaction.move_ref(name, digest, expected=transaction.ref(name))
        self.by_key[failure.key] = failure
