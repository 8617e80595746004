"""Building the graphs of many crystals, on all cores where there is enough to do.

Each worker is a process of its own that is sent crystals and sends back entries of the cache, the
same bytes as this process would make. Only this process opens the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Self

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.registry import backbone_class, backbone_names
from moma_cl.core.cores import n_cores
from moma_cl.core.worker_process import Worker
from moma_cl.graphs import build_worker
from moma_cl.graphs.build_worker import entries_of, request_of
from moma_cl.structures.crystals import Crystal

# A worker takes seconds to import what it needs: it must have several times as long to work.
_ATOMS_PER_WORKER = 100_000

logger = logging.getLogger(__name__)


def built(chunks: Sequence[Sequence[Crystal]], backbone: type[Backbone]) -> Generator[list[bytes]]:
    """Build graphs of chunks of some hundreds of structures; close the iterator to stop early.

    Each chunk gives the entry of each graph, in order.
    """
    count = _n_workers(chunks, backbone)
    if count < 2:
        yield from (entries_of(chunk, backbone) for chunk in chunks)
        return
    logger.info("building graphs in %d processes", count)
    with GraphWorkers(backbone, count) as workers, ThreadPoolExecutor(count) as threads:
        yield from threads.map(workers.entries, chunks)


def _n_workers(chunks: Sequence[Sequence[Crystal]], backbone: type[Backbone]) -> int:
    """Say how many processes are worth starting; one means none."""
    n_atoms = sum(crystal.n_atoms for chunk in chunks for crystal in chunk)
    worthwhile = n_atoms // _ATOMS_PER_WORKER
    return min(worthwhile, n_cores()) if worthwhile > 1 and startable(backbone) else 1


def startable(backbone: type[Backbone]) -> bool:
    """Say whether a worker would find a backbone, which it knows by its name only."""
    return backbone.name in backbone_names() and backbone_class(backbone.name) is backbone


class GraphWorkers:
    """Processes that build graphs of one backbone; a context manager that kills them."""

    def __init__(self, backbone: type[Backbone], count: int) -> None:
        self._backbone = backbone
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        with ExitStack() as stack:
            for _ in range(count):
                self._idle.put(stack.enter_context(_started(backbone.name)))
            self._running = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def entries(self, chunk: Sequence[Crystal]) -> list[bytes]:
        """Build the entries of a chunk in a process, or here if that has ended."""
        worker = self._idle.get()
        try:
            worker.send(request_of(chunk))
            return [worker.receive() for _ in chunk]
        except (OSError, EOFError):
            logger.debug("a process that builds graphs has ended; its work is done here")
            return entries_of(chunk, self._backbone)
        finally:
            self._idle.put(worker)


def _started(name: str) -> Worker:
    return Worker(build_worker.__name__, name)
