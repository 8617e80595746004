"""Embeddings: statistics of node features, one row per structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moma_cl.arraytypes import IntArray
from moma_cl.backbones.base import Backbone
from moma_cl.core.denormals import without_denormals
from moma_cl.core.pyg import Batch, Data
from moma_cl.graphs.batching import batches_by_size, collate_for, load_of
from moma_cl.learning.head import mean_and_deviation
from moma_cl.recipe import EmbeddingSettings

N_STATISTICS = 4  # mean, deviation, smallest, largest

Embeddings = NDArray[np.float32]


@without_denormals()
def embed(
    encoder: Backbone,
    graphs: Sequence[Data],
    settings: EmbeddingSettings,
    *,
    progress: Callable[[int], None] | None = None,
) -> Embeddings:
    """Embed structures: four statistics over the atoms, of every block.

    Parameters
    ----------
    encoder
        The encoder, on whose device all is computed.
    graphs
        One graph per structure, on the CPU.
    settings
        How large a batch is.
    progress
        Called with the number of structures done.

    Returns
    -------
    Embeddings
        Shape ``(n_structures, n_blocks * 4 * feature_dim)``; block by block the mean, the
        deviation, the smallest and the largest of each feature.
    """
    width = encoder.n_blocks * N_STATISTICS * encoder.feature_dim
    rows = np.zeros((len(graphs), width), dtype=np.float32)
    parts = _batches(graphs, settings)
    if encoder.training:
        encoder.eval()  # walks through all layers, which takes as long as a small block
    done = 0
    with torch.inference_mode():
        for part in parts:
            batch = collate_for(encoder, [graphs[index] for index in part])
            statistics = torch.cat([_statistics(b, batch) for b in encoder(batch)], dim=1)
            rows[part] = statistics.cpu().numpy()
            done += len(part)
            if progress is not None:
                progress(done)
    return rows


def last_mean(embeddings: NDArray[np.floating], feature_dim: int) -> NDArray[np.float64]:
    """Take the mean of the last block's features, the embedding of the paper.

    It is cut out of what :func:`embed` gave, and has shape ``(n_structures, feature_dim)``.
    """
    start = embeddings.shape[1] - N_STATISTICS * feature_dim
    return embeddings[:, start : start + feature_dim].astype(np.float64)


def moment_columns(n_features: int, feature_dim: int) -> IntArray:
    """List the columns of an embedding that are means or deviations, of all blocks."""
    columns = np.arange(n_features)
    return columns[columns // feature_dim % N_STATISTICS < 2]


def last_extremes(embeddings: NDArray[np.floating], feature_dim: int) -> NDArray[np.float64]:
    """Take the smallest and the largest of the last block's features.

    They are cut out of what :func:`embed` gave, and have shape ``(n_structures, 2 * feature_dim)``.
    """
    return embeddings[:, embeddings.shape[1] - 2 * feature_dim :].astype(np.float64)


def _batches(graphs: Sequence[Data], settings: EmbeddingSettings) -> list[NDArray[np.int64]]:
    n_edges = np.array([load_of(graph) for graph in graphs], dtype=np.int64)
    parts = batches_by_size(n_edges, settings.max_edges)
    # the largest first, so that what it leaves behind has room for all others
    return sorted(parts, key=lambda part: int(n_edges[part].sum()), reverse=True)


def _statistics(features: Tensor, batch: Batch) -> Tensor:
    mean, deviation = mean_and_deviation(features, batch)
    index = batch.batch[:, None].expand_as(features)
    empty = features.new_empty(batch.num_graphs, features.shape[1])
    smallest = empty.scatter_reduce(0, index, features, "amin", include_self=False)
    largest = empty.scatter_reduce(0, index, features, "amax", include_self=False)
    return torch.cat([mean, deviation, smallest, largest], dim=1)
