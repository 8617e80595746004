"""The fresh head that fine-tuning puts on an encoder, and the pooling it shares with embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moma_cl.arraytypes import ParameterVector
from moma_cl.core.pyg import Batch
from moma_store.errors import BackboneError

MIN_VARIANCE = 1e-6  # keeps the gradient of a deviation finite where all atoms are alike


class Head(nn.Module):
    """From node features to one number per structure, as the sum of two parts.

    One reads the mean and deviation over the atoms of every block's features, the other reads
    each atom's last features and averages what it finds: some properties belong to the structure
    as a whole, others are made up of what each atom adds.

    Parameters
    ----------
    feature_dim
        Width of the node features.
    n_blocks
        Number of blocks.
    width
        Width of the hidden layers.
    seed
        Of the initial parameters; the global generator is left alone.
    """

    def __init__(self, feature_dim: int, n_blocks: int, width: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.whole = _layers(2 * feature_dim * n_blocks, width)
            self.atoms = _layers(feature_dim, width)

    def forward(self, blocks: Sequence[Tensor], batch: Batch) -> Tensor:
        """Predict normalised targets, shape ``(n_structures,)``, dimensionless.

        ``blocks`` are the node features after each block, each of shape ``(n_nodes, feature_dim)``.
        """
        pooled = [statistic for block in blocks for statistic in mean_and_deviation(block, batch)]
        whole: Tensor = self.whole(torch.cat(pooled, dim=1))
        answer = whole + node_mean(self.atoms(blocks[-1]), batch)
        return answer[:, 0]


def _layers(n_features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(n_features),
        nn.Linear(n_features, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 1),
    )


def head_size(feature_dim: int, n_blocks: int, width: int) -> int:
    """Count the parameters of a head, without making one."""
    return _n_parameters(2 * feature_dim * n_blocks, width) + _n_parameters(feature_dim, width)


def _n_parameters(n_features: int, width: int) -> int:
    """Count those of `_layers`: norm, first, middle and last layer."""
    return 2 * n_features + (n_features + 1) * width + (width + 1) * width + width + 1


def head_vector(head: Head) -> ParameterVector:
    """Flatten a head's parameters, in their order, shape ``(n_parameters,)``."""
    return nn.utils.parameters_to_vector(head.parameters()).detach().cpu().numpy().copy()


def load_head_vector(head: Head, vector: ParameterVector) -> None:
    """Fill a head's parameters from what :func:`head_vector` gave.

    Raises ``BackboneError`` if the vector belongs to a head of another shape.
    """
    parameters = list(head.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    size = sum(sizes)
    if len(vector) != size:
        raise BackboneError(f"the head has {size:,} parameters, the vector {len(vector):,}")
    pieces = torch.split(torch.from_numpy(vector.copy()).to(parameters[0].device), sizes)
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def mean_and_deviation(features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the atoms of each structure.

    Features have shape ``(n_nodes, feature_dim)``, both results ``(n_structures, feature_dim)``.
    """
    mean = node_mean(features, batch)
    centred = features - mean.index_select(0, batch.batch)
    variance = node_mean(centred * centred, batch)
    return mean, torch.sqrt(variance + MIN_VARIANCE)


def node_mean(features: Tensor, batch: Batch) -> Tensor:
    """Mean over the atoms of each structure, nodes counted as often as they stand for an atom.

    Features have shape ``(n_nodes, feature_dim)``, the means ``(n_structures, feature_dim)``.
    """
    weight = batch.node_weight.to(features.dtype)
    size = features.new_zeros(batch.num_graphs).index_add(0, batch.batch, weight)
    total = features.new_zeros(batch.num_graphs, features.shape[1]).index_add(
        0, batch.batch, features * weight[:, None]
    )
    return total / size[:, None]
