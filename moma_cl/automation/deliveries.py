"""Adding the rows of deliveries, each exactly once, and putting the delivery away with a report.

The digest of a delivery is stored in its segment, in the transaction that adds its rows. A pass
that was killed between that and putting the delivery away finds the digest, and only puts it away.
Those whose rows may replace stored ones are read again instead: the same content may be needed
once more, after other corrections, and rows that are stored already make no difference.

Deliveries of one task are stored together, many in one segment, so that each costs the same
however many there are; rows count as if every delivery had been stored by itself, in its turn.

They wait for no pass: only a process that takes deliveries in as well keeps them waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from moma_cl.automation.delivery_batches import Batch, Tools
from moma_cl.automation.inbox import Delivery
from moma_cl.progress import Progress
from moma_cl.reconciling.pass_actions import Done
from moma_cl.records.hub import backbones_of
from moma_store.clock import utc_now
from moma_store.errors import BusyError
from moma_store.locking import FileLock

if TYPE_CHECKING:
    from moma_store.store import Store

LOCK = "inbox.lock"


def add_deliveries(
    store: Store, deliveries: Sequence[Delivery], *, progress: Progress
) -> list[Done]:
    """Add the rows of complete deliveries; one that fails does not stop the others.

    Those that have changed since `moma_cl.automation.inbox.settled` gave them wait for the next
    pass; all are left alone while another process takes them in. An error that concerns all is
    raised: the disk refuses, or somebody else writes for an hour.
    """
    if not deliveries:
        return []
    try:
        lock = FileLock.acquire(store.path / LOCK, wait=0.0, now=utc_now())
    except BusyError:
        return []
    try:
        return _add_all(store, deliveries, progress)
    finally:
        lock.release()


def _add_all(store: Store, deliveries: Sequence[Delivery], progress: Progress) -> list[Done]:
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.graphs.cache import ByteCache
    from moma_cl.readers.dispatch import Limits, Reader, Reading
    from moma_cl.readers.text_parser import StructureParser

    done = []
    backbones = [backbone_class(name) for name in backbones_of(store)]
    # One process and one open cache for all that need them.
    with StructureParser(Limits()) as parser, ByteCache(store.cache_dir / "graphs") as graphs:
        tools = Tools(
            reader=Reader(parser, Reading()), backbones=backbones, graphs=graphs, progress=progress
        )
        for _, group in groupby(deliveries, key=lambda delivery: delivery.task):
            batch = Batch(store=store, tools=tools)
            for delivery in group:
                batch.read(delivery)
                if batch.is_full:
                    done += batch.finished()
                    batch = batch.another()
            done += batch.finished()
    return done
