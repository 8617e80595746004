"""Building the graphs of many crystals, on all cores where there is enough to do.

Each worker is a process of its own that is sent crystals and sends back entries of the cache, the
same bytes as this process would make. Only this process opens the cache.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.registry import backbone_class, backbone_names
from moma_cl.core.threads import n_cores
from moma_cl.core.worker_process import start_worker
from moma_cl.graphs import build_worker as graph_worker
from moma_cl.graphs.build_worker import entries_of, receive, request_of, send
from moma_cl.structures.crystals import Crystal

# A worker takes seconds to import what it needs: it must have several times as long to work.
_ATOMS_PER_WORKER = 100_000

logger = logging.getLogger(__name__)


def built(chunks: Sequence[Sequence[Crystal]], backbone: type[Backbone]) -> Generator[list[bytes]]:
    """Build graphs chunk by chunk; close the iterator to stop early.

    Parameters
    ----------
    chunks
        Some hundreds of structures each.
    backbone
        The backbone's class.

    Yields
    ------
    list[bytes]
        The entry of each graph of a chunk, in the order of the chunks.
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
    wanted = n_atoms // _ATOMS_PER_WORKER
    return min(wanted, n_cores()) if wanted > 1 and startable(backbone) else 1


def startable(backbone: type[Backbone]) -> bool:
    """Say whether a worker would find a backbone, which it knows by its name only.

    Parameters
    ----------
    backbone
        The backbone's class.

    Returns
    -------
    bool
        Whether it is installed under its name.
    """
    return backbone.name in backbone_names() and backbone_class(backbone.name) is backbone


class GraphWorkers:
    """Processes that build graphs; a context manager that ends them.

    Parameters
    ----------
    backbone
        The backbone's class.
    count
        How many processes.
    """

    def __init__(self, backbone: type[Backbone], count: int) -> None:
        self._backbone = backbone
        self._all = [_started(backbone.name) for _ in range(count)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._all:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._all:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            process.wait()

    def entries(self, chunk: Sequence[Crystal]) -> list[bytes]:
        """Have a chunk built; what no worker can do is done here, or fails here.

        Parameters
        ----------
        chunk
            Some hundreds of structures.

        Returns
        -------
        list[bytes]
            The entry of each graph.
        """
        process = self._idle.get()
        try:
            entries = _answer(process, chunk)
        finally:
            self._idle.put(process)
        if entries is None:
            logger.debug("a process that builds graphs has ended; its work is done here")
            return entries_of(chunk, self._backbone)
        return entries


def _answer(process: subprocess.Popen[bytes], chunk: Sequence[Crystal]) -> list[bytes] | None:
    """Ask a worker, or give nothing if it has ended."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        send(process.stdin, request_of(chunk))
        process.stdin.flush()
        replies = [receive(process.stdout) for _ in chunk]
    except OSError:
        return None
    entries = [reply for reply in replies if reply is not None]
    return entries if len(entries) == len(chunk) else None


def _started(name: str) -> subprocess.Popen[bytes]:
    return start_worker(f"from {graph_worker.__name__} import main; main({name!r})")
