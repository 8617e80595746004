"""What a backbone is: an encoder from crystal graphs to the node features of every block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from moma_cl.core.pyg import Batch, Data
from moma_cl.structures.crystals import Crystal

# Adapters must not depend on what else has drawn random numbers: they are averaged later.
_ADAPTER_SEED = 20250


class CrystalGraph(Data):  # type: ignore[misc]  # torch_geometric is untyped
    """A graph whose indices say what they count, so that batches shift them correctly.

    No attribute but ``node_weight`` has *node* in its name: torch_geometric counts the nodes by it.

    Attributes
    ----------
    counted_by
        For each attribute that holds indices, the attribute whose length they run over.
    """

    counted_by: ClassVar[Mapping[str, str]] = MappingProxyType({"edge_index": "node_weight"})

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Make a graph, ten times faster than the constructor does.

        Parameters
        ----------
        tensors
            Attributes by name.

        Returns
        -------
        Self
            The graph.
        """
        graph = cls()
        graph._store._mapping.update(tensors)
        return graph

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
        """Add the bottleneck's correction.

        Parameters
        ----------
        features
            Node features, shape ``(n_nodes, feature_dim)``.

        Returns
        -------
        Tensor
            Corrected node features, shape ``(n_nodes, feature_dim)``.
        """
        correction: Tensor = self.up(nn.functional.silu(self.down(features)))
        return features + correction


class Backbone(nn.Module, ABC):
    """A pretrained encoder; its parameters are what modules specialise and compositions average.

    A graph is a :class:`torch_geometric.data.Data` whose node-level attributes include
    ``node_weight``, shape ``(n_nodes,)``: how many atoms of the cell the node stands for. Poolings
    weight nodes by it, so that a graph may merge atoms whose surroundings are identical.

    Attributes
    ----------
    name
        Name in the entry-point group ``moma_cl.backbones``.
    version
        Version of the pretrained parameters.
    graph_version
        Increased whenever :meth:`to_graph` gives other arrays for the same structure.
    feature_dim
        Width of the node features of every block.
    n_blocks
        Number of interaction blocks, each of which gives node features.
    cutoff
        Largest distance at which atoms see each other, Å.
    elements
        Atomic numbers the backbone was made for.
    graph_class
        Class of the graphs; its constructor takes their tensors by name.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    graph_version: ClassVar[int]
    feature_dim: ClassVar[int]
    n_blocks: ClassVar[int]
    cutoff: ClassVar[float]
    elements: ClassVar[frozenset[int]]
    graph_class: ClassVar[type[Data]]

    def __init__(self) -> None:
        super().__init__()
        self.adapters: nn.ModuleList | None = None

    @classmethod
    @abstractmethod
    def pretrained(cls) -> Backbone:
        """Make the backbone with its pretrained parameters.

        Returns
        -------
        Backbone
            The encoder in evaluation mode, on the CPU, in float32.
        """

    @classmethod
    @abstractmethod
    def empty(cls) -> Backbone:
        """Make the backbone's shape with arbitrary parameters, to be filled from a store.

        Returns
        -------
        Backbone
            The encoder; whatever made the pretrained parameters is not needed.
        """

    @classmethod
    @abstractmethod
    def to_graph(cls, crystal: Crystal) -> Data:
        """Build the graph of one structure; depends on the structure alone.

        Parameters
        ----------
        crystal
            The structure; an atom without neighbours, or no edge at all, is allowed.

        Returns
        -------
        Data
            Tensors only, with ``node_weight`` among them.
        """

    @classmethod
    def to_graphs(cls, crystals: Sequence[Crystal]) -> list[Data]:
        """Build the graphs of several structures; a backbone may do better than one by one.

        Parameters
        ----------
        crystals
            The structures.

        Returns
        -------
        list[Data]
            What :meth:`to_graph` gives for each.
        """
        return [cls.to_graph(crystal) for crystal in crystals]

    @abstractmethod
    def forward(self, batch: Batch) -> list[Tensor]:
        """Encode a batch of graphs.

        Parameters
        ----------
        batch
            Graphs made by :meth:`to_graph`, collated.

        Returns
        -------
        list[Tensor]
            Node features after each block, ``n_blocks`` tensors of shape
            ``(n_nodes, feature_dim)``.
        """

    def add_adapters(self, width: int) -> None:
        """Freeze the backbone and put an adapter, at first the identity, after every block.

        Parameters
        ----------
        width
            Width of the bottleneck.
        """
        self.requires_grad_(requires_grad=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_ADAPTER_SEED)
            self.adapters = nn.ModuleList(
                [Adapter(self.feature_dim, width) for _ in range(self.n_blocks)]
            )
        like = next(self.parameters())
        self.adapters.to(device=like.device, dtype=like.dtype)

    def adapt(self, block: int, features: Tensor) -> Tensor:
        """Apply the adapter of a block, if there is one; every forward pass calls it.

        Parameters
        ----------
        block
            Index of the block, from 0.
        features
            Its node features, shape ``(n_nodes, feature_dim)``.

        Returns
        -------
        Tensor
            The features that go on, same shape.
        """
        if self.adapters is None:
            return features
        adapted: Tensor = self.adapters[block](features)
        return adapted

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device
