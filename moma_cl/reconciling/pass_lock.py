"""The pass lock: one pass at a time over a hub, while rows come and tasks change beside it.

It is not the writer lock, which a pass holds only for the moments in which it stores something.
What takes records or files away, `gc` and `verify --repair`, holds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moma_store.clock import utc_now
from moma_store.errors import BusyError
from moma_store.locking import FileLock

LOCK = "pass.lock"

ENDING = 0.2
"""Time in which a pass that takes up nothing more lets go of the lock, s.

Who has stored something and cannot have the lock for so long has stored it before the pass looked
whether something had changed.
"""


class PassRunningError(BusyError):
    """Another process makes a pass over the hub, or tidies it."""

    code = "busy.pass"


@contextmanager
def only_pass(hub: Path, *, wait: float) -> Iterator[None]:
    """Hold the pass lock of a hub for the block; ``PassRunningError`` if another still does."""
    try:
        lock = FileLock.acquire(
            hub / LOCK, wait=wait, now=utc_now(), doing="is being brought up to date by"
        )
    except BusyError as error:
        raise PassRunningError(error.message) from error
    try:
        yield
    finally:
        lock.release()
