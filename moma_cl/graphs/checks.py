"""Structures whose graph would be too large, or cannot be built: each is the status of its row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from moma_cl.backbones.base import Backbone
from moma_cl.core.pyg import Data
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.structures.checks import RowError
from moma_cl.structures.crystals import Crystal

MAX_GRAPH_SIZE = 300_000
"""Graphs with more edges and angles are not built. Encoding takes some 2 kB for each, learning
several times as much; a cell of 1,000 atoms of copper has 200,000."""

_AT_ONCE = 256

logger = logging.getLogger(__name__)


def check_graph_size(crystal: Crystal, size: int) -> RowError | None:
    """Refuse a structure whose graph, of so many edges and angles, would not fit in memory."""
    if size <= MAX_GRAPH_SIZE:
        return None
    return RowError(
        code="graph-too-large",
        message=f"the graph has at least {size:,} edges and angles; the limit is "
        f"{MAX_GRAPH_SIZE:,}: check the lattice and its unit, as the cell has "
        f"{crystal.volume / crystal.n_atoms:.3g} Å³ per atom, or use a smaller cell",
    )


def known_elements(backbones: Sequence[type[Backbone]]) -> frozenset[int]:
    """Give the atomic numbers that every one of the backbones knows."""
    return frozenset.intersection(*(backbone.elements for backbone in backbones))


def graph_size(
    crystal: Crystal, backbones: Sequence[type[Backbone]]
) -> tuple[int, RowError | None]:
    """Count edges and angles of a structure's graphs for all backbones; refuse one too large."""
    sizes = [backbone.graph_size(crystal, MAX_GRAPH_SIZE) for backbone in backbones]
    return sum(sizes), check_graph_size(crystal, max(sizes))


def graphs_or_errors(
    crystals: Sequence[Crystal], backbone: type[Backbone]
) -> list[Data | RowError]:
    """Build the graph of each structure; one that cannot be built costs no other."""
    try:
        return list(backbone.to_graphs(crystals))
    except Exception:
        logger.debug("graphs are built one by one", exc_info=True)
    return [_graph_or_error(crystal, backbone) for crystal in crystals]


def _graph_or_error(crystal: Crystal, backbone: type[Backbone]) -> Data | RowError:
    try:
        (graph,) = backbone.to_graphs([crystal])
    except Exception as error:  # noqa: BLE001  a backbone may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return RowError(
            code="graph-failed",
            message=f"the backbone cannot build the graph ({reason}): check the structure",
        )
    return graph


def check_graphs(
    crystals: Sequence[Crystal],
    backbones: Sequence[type[Backbone]],
    cache: ByteCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[RowError | None]:
    """Build the graph of each structure, to see which cannot be.

    Parameters
    ----------
    crystals
        The structures.
    backbones
        Whose graphs.
    cache
        Keeps them; without one they are dropped.
    progress
        Told the number of graphs done.

    Returns
    -------
    list[RowError | None]
        What is wrong with each structure.
    """
    errors = [graph_size(crystal, backbones)[1] for crystal in crystals]
    n_done = 0

    def told(done: int) -> None:
        if progress is not None:
            progress(n_done + done)

    for backbone in backbones:
        places = [place for place, error in enumerate(errors) if error is None]
        good = [crystals[place] for place in places]
        failed = _failed_graphs(good, backbone, cache, told)
        for place, error in zip(places, failed, strict=True):
            errors[place] = error
        n_done += len(good)
    return errors


def _failed_graphs(
    crystals: Sequence[Crystal],
    backbone: type[Backbone],
    cache: ByteCache | None,
    progress: Callable[[int], None],
) -> list[RowError | None]:
    """Build the graphs of one backbone, to see which cannot be."""
    if cache is not None:
        try:
            graphs_of(crystals, backbone, cache, progress=progress)
        except Exception:
            logger.debug("graphs are built without the cache", exc_info=True)
        else:
            return [None] * len(crystals)
    graphs = [
        graph
        for start in range(0, len(crystals), _AT_ONCE)
        for graph in graphs_or_errors(crystals[start : start + _AT_ONCE], backbone)
    ]
    return [graph if isinstance(graph, RowError) else None for graph in graphs]
