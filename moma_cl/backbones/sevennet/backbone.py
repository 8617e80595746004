"""The SevenNet backbones: a learned encoder of crystals whose features turn with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from moma_cl.backbones.base import Backbone
from moma_cl.backbones.sevennet.convolution import Edges, Rows
from moma_cl.backbones.sevennet.graph import SevenNetGraph, graph_size, sevennet_graph
from moma_cl.backbones.sevennet.layers import Convolution, Envelope, RadialBasis, norms_of
from moma_cl.backbones.sevennet.weights import checkpoint, current_layout, encoder_state
from moma_cl.core.pyg import Batch
from moma_cl.structures.crystals import Crystal

CUTOFF = 5.0
"""Largest length of an edge, Å."""

N_SCALARS = 128
"""Features of degree 0 after every layer."""

_N_LAYERS = 5
# the 89 elements of the data that SevenNet was trained on
_ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))


class SevenNetBackbone(Backbone):
    """SevenNet's layers, from whose last features the published model reads the energy.

    A block is a layer. Its features are the scalars and the norms of higher degrees, which the last
    layer does not have. Subclasses name a published set of parameters.

    References
    ----------
    Park et al., J. Chem. Theory Comput. 20, 4857 (2024), arXiv 2402.03789.
    """

    graph_version: ClassVar[int] = 1
    n_blocks: ClassVar[int] = _N_LAYERS
    elements: ClassVar[frozenset[int]] = _ELEMENTS
    graph_class: ClassVar[type[SevenNetGraph]] = SevenNetGraph
    learning_rate_factor: ClassVar[float] = 3.0  # docs/pilot.md: its parameters are of order one

    channels: ClassVar[tuple[int, ...]]
    """Channels of the features of each degree between layers."""

    envelope_start: ClassVar[float | None]
    """Length from which messages are damped, Å; none stands for a polynomial of all lengths."""

    neighbors: ClassVar[float]
    """Mean number of neighbours in the data that the parameters were trained on."""

    checkpoint_file: ClassVar[tuple[str, str]]
    """Where the parameters lie in the package, and the file's SHA-256."""

    rows_of_elements: Tensor

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.tensor(sorted(self.elements))
        rows = torch.full((int(numbers.max()) + 1,), -1)
        rows[numbers] = torch.arange(len(numbers))
        self.register_buffer("rows_of_elements", rows, persistent=False)
        widths = self._widths()
        self.embedding = nn.Embedding(len(numbers), self.channels[0])
        self.basis = RadialBasis(Envelope(CUTOFF, self.envelope_start))
        self.convolutions = nn.ModuleList(
            Convolution(n_in, n_out, self.degree, self.neighbors)
            for n_in, n_out in pairwise(widths)
        )

    @property
    def degree(self) -> int:
        """Largest degree of harmonics and features."""
        return len(self.channels) - 1

    def _invariants(self, features: Sequence[Tensor], rows: Rows) -> Tensor:
        """Give what no rotation changes: scalars, and the norms of higher degrees or zeros."""
        scalars = features[0]
        norms = [
            norms_of(one, owners, len(scalars))
            for one, owners in zip(features[1:], rows.owners[1:], strict=False)
        ]
        width = scalars.shape[1] + sum(norm.shape[1] for norm in norms)
        rest = scalars.new_zeros(len(scalars), self.feature_dim - width)
        return torch.cat([scalars, *norms, rest], dim=1)

    @classmethod
    def _widths(cls) -> list[tuple[int, ...]]:
        """Give the channels of each degree before each layer, and after the last."""
        scalars = cls.channels[:1]
        return [scalars, *[cls.channels] * (_N_LAYERS - 1), scalars]

    @classmethod
    def pretrained(cls) -> Self:
        """Make the encoder with the parameters of the package ``sevenn``."""
        backbone = cls.empty()
        backbone.load_state_dict(backbone.published_state())
        return backbone

    def published_state(self) -> dict[str, Tensor]:
        """Give the published parameters, in float64."""
        layers = [cast("Convolution", convolution) for convolution in self.convolutions]
        paths = [layer.paths for layer in layers]
        source = current_layout(checkpoint(*self.checkpoint_file), paths)
        return encoder_state(source, self._widths(), paths)

    @classmethod
    def graph_size(cls, crystal: Crystal, enough: int) -> int:
        """Count edges, each by the size of its tensor."""
        return graph_size(crystal, CUTOFF, len(cls.channels) - 1, enough)

    @classmethod
    def to_graph(
        cls, crystal: Crystal, *, quotient: bool = True, dtype: torch.dtype = torch.float32
    ) -> SevenNetGraph:
        """Build the graph of one structure, with edge tensors in a precision.

        The symmetry quotient, if taken, makes the structure exactly symmetric, which moves atoms by
        what the data were rounded by, and leaves the features of atoms as they are.
        """
        degree = len(cls.channels) - 1
        return sevennet_graph(crystal, CUTOFF, degree, merged=quotient, dtype=dtype)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs; a block is a layer."""
        rows = Rows.of(batch.row_counts)
        edges = Edges(
            index=torch.cat([batch.edge_index, batch.edge_distance[None]]),
            tensors=batch.edge_tensor.to(self.embedding.weight.dtype),
        )
        basis = self.basis(batch.distance)
        factor = 1.0 / math.sqrt(len(self.elements))
        features = [self.embedding(self.rows_of_elements[batch.atomic_numbers]) * factor]
        blocks: list[Tensor] = []
        for block, convolution in enumerate(self.convolutions):
            features = convolution(features, basis, rows, edges)
            invariants = self.adapt(block, self._invariants(features, rows))
            features[0] = invariants[:, :N_SCALARS]
            blocks.append(invariants)
        return blocks


class SevenNet0Backbone(SevenNetBackbone):
    """SevenNet-0 of 11 July 2024: harmonics up to degree 2."""

    name: ClassVar[str] = "sevennet-0"
    version: ClassVar[str] = "11Jul2024"
    feature_dim: ClassVar[int] = 224
    channels: ClassVar[tuple[int, ...]] = (N_SCALARS, 64, 32)
    envelope_start: ClassVar[float | None] = 4.5
    neighbors: ClassVar[float] = 35.98957443237305
    checkpoint_file: ClassVar[tuple[str, str]] = (
        "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    )


class SevenNetL3i5Backbone(SevenNetBackbone):
    """SevenNet-l3i5: harmonics up to degree 3."""

    name: ClassVar[str] = "sevennet-l3i5"
    version: ClassVar[str] = "l3i5"
    feature_dim: ClassVar[int] = 256
    channels: ClassVar[tuple[int, ...]] = (N_SCALARS, 64, 32, 32)
    envelope_start: ClassVar[float | None] = None
    neighbors: ClassVar[float] = 35.984718322753906
    checkpoint_file: ClassVar[tuple[str, str]] = (
        "SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
    )
