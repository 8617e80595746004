"""The interface of a backbone: an encoder from crystal graphs to node features of every block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from moma_cl.core.pyg import Batch, Data
from moma_cl.structures.crystals import Crystal

# Adapters are averaged later, so all of a backbone must start from the same random numbers.
_ADAPTER_SEED = 20250

_PER_EDGE = 16  # angles beside each edge; hardly any crystal has more


class CrystalGraph(Data):  # type: ignore[misc]  # torch_geometric is untyped
    """A graph that names what each of its indices counts, so that batches shift them correctly.

    No attribute except ``node_weight`` may have *node* in its name, because torch_geometric takes
    the number of nodes from the attribute of such a name.

    Attributes
    ----------
    counted_by
        For each attribute that holds indices, the attribute whose length they run over.
    """

    counted_by: ClassVar[Mapping[str, str]] = MappingProxyType({"edge_index": "node_weight"})

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Make a graph of attributes by name, ten times faster than the constructor does."""
        graph = cls()
        graph._store._mapping.update(tensors)
        return graph

    @property
    def load(self) -> int:
        """Edges, or what fills the memory like so many where that is more.

        A dense cell has far more angles than edges.
        """
        longest = max(
            (len(tensor) for tensor in self.to_dict().values() if tensor.dim() == 1), default=0
        )
        return max(int(self.num_edges), longest // _PER_EDGE)

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        counted = self.counted_by.get(key)
        if counted is None:
            return super().__inc__(key, value, *args, **kwargs)
        return len(self[counted])

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return -1 if key in self.counted_by else super().__cat_dim__(key, value, *args, **kwargs)


class Adapter(nn.Module):
    """A bottleneck with a residual connection, the identity until it is trained.

    Parameters
    ----------
    feature_dim
        Width of the node features.
    width
        Width of the bottleneck.

    References
    ----------
    Houlsby et al., *Parameter-Efficient Transfer Learning for NLP*, arXiv 1902.00751, figure 2.
    """

    def __init__(self, feature_dim: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(feature_dim, width)
        self.up = nn.Linear(width, feature_dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Correct node features, shape ``(n_nodes, feature_dim)``."""
        correction: Tensor = self.up(nn.functional.silu(self.down(features)))
        return features + correction


class Backbone(nn.Module, ABC):
    """A pretrained encoder, whose parameters modules specialise and compositions average.

    A graph is a :class:`torch_geometric.data.Data` with an attribute ``node_weight``, shape
    ``(n_nodes,)``: the number of atoms of the cell that each node stands for. Means over atoms
    weight the nodes by it, so that one node may stand for all atoms with identical surroundings.

    Attributes
    ----------
    name
        Name in the entry-point group ``moma_cl.backbones``.
    version
        Version of the pretrained parameters.
    graph_version
        Must be increased whenever :meth:`to_graph` gives other arrays for the same structure.
    feature_dim
        Width of the node features of every block.
    n_blocks
        Number of interaction blocks, each of which gives node features.
    elements
        Atomic numbers of the elements that the backbone can encode.
    graph_class
        Class of the graphs; its constructor takes their tensors by name.
    learning_rate_factor
        What a recipe's rate for whole encoders is multiplied by: parameters of another size learn
        at another rate. Adapters have a rate of their own.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    graph_version: ClassVar[int]
    feature_dim: ClassVar[int]
    n_blocks: ClassVar[int]
    elements: ClassVar[frozenset[int]]
    graph_class: ClassVar[type[Data]]
    learning_rate_factor: ClassVar[float] = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.adapters: nn.ModuleList | None = None

    @classmethod
    @abstractmethod
    def pretrained(cls) -> Backbone:
        """Make the encoder with its pretrained parameters: evaluation mode, CPU, float32."""

    @classmethod
    def empty(cls) -> Self:
        """Make the encoder with arbitrary parameters, which are then filled from a store.

        This must not need the package that the pretrained parameters come from.

        Returns
        -------
        Self
            The encoder in evaluation mode. No random numbers of the caller are used up.
        """
        with torch.random.fork_rng(devices=[]):
            return cls().eval()

    @classmethod
    @abstractmethod
    def to_graph(cls, crystal: Crystal) -> Data:
        """Build the graph of one structure, which must depend on nothing else.

        Parameters
        ----------
        crystal
            The structure. Atoms may lack neighbours, and there may be no edge at all.

        Returns
        -------
        Data
            The graph. All its attributes are tensors, and ``node_weight`` is one of them.
        """

    @classmethod
    def graph_size(cls, crystal: Crystal, enough: int) -> int:  # noqa: ARG003  for those that need it
        """Count the edges and angles of a graph that may not fit in memory, before it is built.

        To be overridden where a cell of few atoms can have so many; others need no limit.

        Parameters
        ----------
        crystal
            The structure.
        enough
            Up to here the number may be any bound, and beyond it any part of the count.

        Returns
        -------
        int
            More than ``enough`` if and only if the graph, before it is merged, has more.
        """
        return 0

    @classmethod
    def to_graphs(cls, crystals: Sequence[Crystal]) -> list[Data]:
        """Build the graph of each structure; to be overridden where many at once are faster."""
        return [cls.to_graph(crystal) for crystal in crystals]

    @abstractmethod
    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs.

        Parameters
        ----------
        batch
            Graphs made by :meth:`to_graph`, joined by `moma_cl.graphs.batching.collate`.

        Returns
        -------
        list[Tensor]
            Node features after each block, ``n_blocks`` tensors of shape
            ``(n_nodes, feature_dim)``. Each has gone through :meth:`adapt`.
        """

    def add_adapters(self, width: int) -> None:
        """Freeze the backbone and put an adapter of a width after every block."""
        self.requires_grad_(requires_grad=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_ADAPTER_SEED)
            self.adapters = nn.ModuleList(
                [Adapter(self.feature_dim, width) for _ in range(self.n_blocks)]
            )
        like = next(self.parameters())
        self.adapters.to(device=like.device, dtype=like.dtype)

    def adapt(self, block: int, features: Tensor) -> Tensor:
        """Apply the adapter of a block, if there is one, to the features of the block.

        Parameters
        ----------
        block
            Index of the block, from 0.
        features
            Node features, shape ``(n_nodes, feature_dim)``.

        Returns
        -------
        Tensor
            The features that the next block takes, same shape.
        """
        if self.adapters is None:
            return features
        adapted: Tensor = self.adapters[block](features)
        return adapted

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device
