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
    backbone: type[Backbone],
    cache: ByteCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[RowError | None]:
    """Build the graph of each structure, to see which cannot be.

    Parameters
    ----------
    crystals
        The structures.
    backbone
        Whose graphs.
    cache
        Keeps them; without one they are dropped.
    progress
        Told the number of structures done.

    Returns
    -------
    list[RowError | None]
        What is wrong with each structure.
    """
    errors = [
        check_graph_size(crystal, backbone.graph_size(crystal, MAX_GRAPH_SIZE))
        for crystal in crystals
    ]
    places = [place for place, error in enumerate(errors) if error is None]
    if cache is not None:
        try:
            graphs_of([crystals[place] for place in places], backbone, cache, progress=progress)
        except Exception:
            logger.debug("graphs are built without the cache", exc_info=True)
        else:
            return errors
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        graphs = graphs_or_errors([crystals[place] for place in part], backbone)
        for place, graph in zip(part, graphs, strict=True):
            errors[place] = graph if isinstance(graph, RowError) else None
    return errors
