"""Building the next graphs in a second process while the model works on the last ones.

For streams, whose length nobody knows; what is known beforehand is built by
`moma_cl.graphs.build`. Graphs, their order and the chunks are the same as with one process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from typing import TypeVar

from moma_cl.backbones.base import Backbone
from moma_cl.core.cores import n_cores
from moma_cl.core.pyg import Data
from moma_cl.graphs.build import GraphWorkers, startable
from moma_cl.graphs.checks import graphs_or_errors
from moma_cl.graphs.lookup import graphs_from
from moma_cl.structures.checks import RowError
from moma_cl.structures.crystals import Crystal

_ALONE = 4  # chunks after which a stream is taken for a long one
_AHEAD = 2  # chunks that are built or wait, which bounds the memory

Chunk = TypeVar("Chunk")
Crystals = Sequence[Crystal]
_Built = tuple[Chunk, Crystals, dict[str, list[Data | RowError]]]

logger = logging.getLogger(__name__)


def with_graphs_of(
    chunks: Iterable[tuple[Chunk, Crystals]], backbones: Sequence[type[Backbone]]
) -> Generator[tuple[Chunk, dict[str, list[Data | RowError]]]]:
    """Build the graphs of a stream of structures for several backbones, by their names.

    Close the iterator to stop early. What is said of `with_graphs` holds.
    """
    with ExitStack() as stack:
        built: Iterable[tuple[_Built[Chunk], Crystals]]
        built = (((chunk, crystals, {}), crystals) for chunk, crystals in chunks)
        for backbone in backbones:
            built = stack.enter_context(closing(_with_graphs_beside(built, backbone)))
        for (chunk, _, graphs), _ in built:
            yield chunk, graphs


def _with_graphs_beside(
    chunks: Iterable[tuple[_Built[Chunk], Crystals]], backbone: type[Backbone]
) -> Generator[tuple[_Built[Chunk], Crystals]]:
    """Build the graphs for one more backbone beside those that are built."""
    with closing(with_graphs(chunks, backbone)) as built:
        for (chunk, crystals, graphs), own in built:
            yield (chunk, crystals, {**graphs, backbone.name: own}), crystals


def with_graphs(
    chunks: Iterable[tuple[Chunk, Crystals]], backbone: type[Backbone]
) -> Generator[tuple[Chunk, list[Data | RowError]]]:
    """Build the graphs of a stream of structures; close the iterator to stop early.

    A graph that cannot be built is an error in its place. Chunks are some hundreds of structures
    each, with whatever shall come with their graphs.
    """
    stream = iter(chunks)
    yield from _built_here(islice(stream, _ALONE), backbone)
    first = next(stream, None)
    if first is None:
        return
    yield from _built_here([first], backbone)
    if n_cores() < 2 or not startable(backbone):
        yield from _built_here(stream, backbone)
        return
    with GraphWorkers(backbone, 1) as workers, ThreadPoolExecutor(1) as thread:
        # it takes seconds to import what it needs: until it has answered, we go on here
        started = thread.submit(workers.entries, first[1][:1])
        yield from _built_here(_until(started, stream), backbone)
        yield from _built_there(
            stream, backbone, lambda crystals: thread.submit(workers.entries, crystals)
        )


def _until(
    started: Future[list[bytes]], chunks: Iterator[tuple[Chunk, Crystals]]
) -> Iterator[tuple[Chunk, Crystals]]:
    while not started.done() and (chunk := next(chunks, None)) is not None:
        yield chunk


def _built_here(
    chunks: Iterable[tuple[Chunk, Crystals]], backbone: type[Backbone]
) -> Iterator[tuple[Chunk, list[Data | RowError]]]:
    return ((chunk, graphs_or_errors(crystals, backbone)) for chunk, crystals in chunks)


def _built_there(
    chunks: Iterable[tuple[Chunk, Crystals]],
    backbone: type[Backbone],
    build: Callable[[Crystals], Future[list[bytes]]],
) -> Iterator[tuple[Chunk, list[Data | RowError]]]:
    waiting: deque[tuple[Chunk, Crystals, Future[list[bytes]]]] = deque()
    try:
        for chunk, crystals in chunks:
            waiting.append((chunk, crystals, build(crystals)))
            if len(waiting) > _AHEAD:
                yield _next_graphs(waiting, backbone)
        while waiting:
            yield _next_graphs(waiting, backbone)
    finally:
        for *_, entries in waiting:
            entries.cancel()


def _next_graphs(
    waiting: deque[tuple[Chunk, Crystals, Future[list[bytes]]]], backbone: type[Backbone]
) -> tuple[Chunk, list[Data | RowError]]:
    chunk, crystals, entries = waiting.popleft()
    try:
        return chunk, list(graphs_from(entries.result(), backbone))
    except Exception:
        logger.debug("graphs of a chunk are built here", exc_info=True)
    return chunk, graphs_or_errors(crystals, backbone)
