"""The workspace: rows of one hub and the encoders of its backbones, read once and kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import torch

from moma_cl.datasets.segments import LiveRows
from moma_cl.graphs.cache import ByteCache
from moma_cl.progress import Progress
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Dataset
from moma_cl.structures.crystals import Crystal
from moma_cl.workspace.dataset_rows import DatasetRows
from moma_cl.workspace.encoders import Encoders
from moma_cl.workspace.readable import Readable

_CPU = torch.device("cpu")


@dataclass(slots=True, kw_only=True)
class Workspace:
    """What derivations read of a hub, loaded once and kept while the pass lasts.

    Attributes
    ----------
    store
        The hub's store, or the part of it that a job carries.
    progress
        Called with the progress of long steps.
    device
        Where encoders are; graphs and all results are on the CPU.
    """

    store: Readable
    progress: Progress
    device: torch.device = _CPU
    _rows: DatasetRows = field(init=False)
    _encoders: dict[str, Encoders] = field(init=False, default_factory=dict)
    _graph_cache: ByteCache = field(init=False)
    _embedding_cache: ByteCache = field(init=False)

    def __post_init__(self) -> None:
        self._rows = DatasetRows(store=self.store)
        self._graph_cache = ByteCache(self.store.cache_dir / "graphs")
        self._embedding_cache = ByteCache(self.store.cache_dir / "embeddings")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the caches."""
        self._graph_cache.close()
        self._embedding_cache.close()

    def dataset(self, digest: str) -> Dataset:
        """Read a dataset's record."""
        return Dataset.from_doc(self.store.record(digest))

    def rows(self, dataset: str) -> LiveRows:
        """Read the live rows of a dataset."""
        return self._rows.of(dataset)

    def crystals(self, rows: LiveRows, indices: Iterable[int]) -> list[Crystal]:
        """Give the structures of some live rows."""
        return self._rows.crystals(rows, indices)

    def encoders(self, backbone: str) -> Encoders:
        """Give what is made of a backbone, by the digest of its record."""
        if backbone not in self._encoders:
            self._encoders[backbone] = Encoders(
                store=self.store,
                rows=self._rows,
                record=backbone_record(self.store, backbone),
                progress=self.progress,
                device=self.device,
                graph_cache=self._graph_cache,
                embedding_cache=self._embedding_cache,
            )
        return self._encoders[backbone]
