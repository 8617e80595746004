"""The encoders of one backbone in a hub: parameters, graphs and embeddings, read once and kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from moma_cl.arraytypes import ParameterVector
from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import ParameterManifest, load_vector, rounded, to_vector
from moma_cl.backbones.registry import backbone_class
from moma_cl.core.pyg import Data
from moma_cl.datasets.segments import LiveRows
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.embedding import embed
from moma_cl.learning.merge import merge
from moma_cl.learning.readout import READOUTS, LinearReadouts, Readout
from moma_cl.progress import Progress
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import BackboneRecord, Composition, Module, ModuleKind
from moma_cl.workspace.dataset_rows import DatasetRows
from moma_cl.workspace.readable import Readable
from moma_store.records import BlobLink


@dataclass(slots=True, kw_only=True)
class Encoders:
    """One backbone with all that is made of it in a hub.

    Attributes
    ----------
    store
        Where records and parameters are read.
    rows
        Rows of the hub's datasets.
    record
        The backbone's record.
    progress
        Called with the progress of long steps.
    device
        Where encoders are; graphs and all results are on the CPU.
    graph_cache, embedding_cache
        What was built or computed before.
    backbone
        Class of the backbone.
    """

    store: Readable
    rows: DatasetRows
    record: BackboneRecord
    progress: Progress
    device: torch.device
    graph_cache: ByteCache
    embedding_cache: ByteCache
    backbone: type[Backbone] = field(init=False)
    _graphs: dict[str, list[Data]] = field(init=False, default_factory=dict)
    _embedders: dict[ModuleKind, Backbone] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.backbone = backbone_class(self.record.name)

    # graphs

    def graphs(self, rows: LiveRows) -> list[Data]:
        """Give the graph of every live row, in order."""
        return [
            self._segment_graphs(digest)[row]
            for digest, kept in zip(rows.segments, rows.kept, strict=True)
            for row in kept
        ]

    def _segment_graphs(self, digest: str) -> list[Data]:
        if digest not in self._graphs:
            content = self.rows.segment(digest)
            n_rows = len(content.ids)
            self.progress("graphs", 0, n_rows)
            self._graphs[digest] = graphs_of(
                content.crystals,
                self.backbone,
                self.graph_cache,
                progress=lambda done: self.progress("graphs", done, n_rows),
            )
            self.progress("graphs", n_rows, n_rows)
        return self._graphs[digest]

    # parameters

    def parameters(self, module_digest: str | None, kind: ModuleKind) -> ParameterVector:
        """Read a module's parameters; the backbone's, or the initial adapter, for none."""
        link = self.base(kind) if module_digest is None else self._parameters_link(module_digest)
        vector = self.store.blob(link, ["parameters"]).arrays["parameters"]
        return np.asarray(vector, dtype=np.float32)

    def _parameters_link(self, module_digest: str) -> BlobLink:
        return Module.from_doc(self.store.record(module_digest)).blob

    def readout(self, module_digest: str) -> Readout | None:
        """Read a module's readout, where it has one."""
        return Readout.from_arrays(self.store.blob(self._parameters_link(module_digest)).arrays)

    def linear_readouts(self, module_digest: str) -> LinearReadouts | None:
        """Read the readouts of a multitask module, where it has any."""
        arrays = self.store.blob(self._parameters_link(module_digest)).arrays
        return LinearReadouts.from_array(arrays[READOUTS]) if READOUTS in arrays else None

    def merged(self, composition: Composition) -> ParameterVector:
        """Merge a composition's modules, read one after the other in the order of digests."""
        weighted = dict(zip(composition.modules, composition.weights, strict=True))
        links = [(weighted[digest], self._parameters_link(digest)) for digest in sorted(weighted)]
        if composition.backbone_weight > 0:
            # module zero first: the order must not depend on what is in the composition
            links.insert(0, (composition.backbone_weight, self.base(composition.module)))
        size = self.manifest(composition.module).size
        return merge(size, ((w, self.store.blob_pieces(link, "parameters")) for w, link in links))

    def round_parameters(self, encoder: Backbone, kind: ModuleKind, bits: int) -> ParameterVector:
        """Round an encoder's trained parameters in place to what is stored, and give them."""
        manifest = self.manifest(kind)
        vector = rounded(to_vector(encoder, manifest), self.parameters(None, kind), bits)
        load_vector(encoder, vector, manifest)
        return vector

    def manifest(self, kind: ModuleKind) -> ParameterManifest:
        """Read which parameters a vector of this kind holds."""
        adapter = kind == ModuleKind.ADAPTER
        manifest = self.record.adapter_manifest if adapter else self.record.manifest
        return ParameterManifest.from_json(manifest)

    def base(self, kind: ModuleKind) -> BlobLink:
        """Give the blob that parameter vectors of this kind are stored as a difference from."""
        return self.record.adapter if kind == ModuleKind.ADAPTER else self.record.parameters

    # encoders

    def encoder(self, kind: ModuleKind, vector: ParameterVector) -> Backbone:
        """Make an encoder with these parameters, for an adapter round the backbone's own.

        It is on the workspace's device.
        """
        encoder = self.backbone.empty()
        if kind == ModuleKind.ADAPTER:
            manifest = self.manifest(ModuleKind.FULL)
            load_vector(encoder, self.parameters(None, ModuleKind.FULL), manifest)
            encoder.add_adapters(self.record.adapter_width)
        load_vector(encoder, vector, self.manifest(kind))
        return encoder.to(self.device)

    def adaptable(self, vector: ParameterVector) -> Backbone:
        """Make a full encoder with these parameters, frozen, with adapters that change nothing."""
        encoder = self.encoder(ModuleKind.FULL, vector)
        encoder.add_adapters(self.record.adapter_width)
        return encoder

    # embeddings

    def embeddings(
        self, kind: ModuleKind, vector: ParameterVector, rows: LiveRows, settings: EmbeddingSettings
    ) -> NDArray[np.float32]:
        """Embed the live rows of a dataset; segments that were embedded before are looked up."""
        encoder_digest = hashlib.sha256(f"{kind}:".encode() + vector.tobytes()).digest()
        encoder: Backbone | None = None
        parts = []
        for digest, kept in zip(rows.segments, rows.kept, strict=True):
            key = self._embedding_key(encoder_digest, digest, settings)
            (stored,) = self.embedding_cache.get_many([key])
            if stored is None:
                encoder = encoder or self.embedder(kind, vector)
                embedded = self._embed_segment(encoder, digest, settings)
                self.embedding_cache.put_many({key: embedded.tobytes()})
            else:
                n_rows = len(self.rows.segment(digest).ids)
                embedded = np.frombuffer(stored, np.float32).reshape(n_rows, -1)
            parts.append(embedded[kept])
        return np.concatenate(parts)

    def embedder(self, kind: ModuleKind, vector: ParameterVector) -> Backbone:
        """Load parameters into an encoder that is kept, for this call: making one takes 10 ms."""
        if kind not in self._embedders:
            self._embedders[kind] = self.encoder(kind, vector)
        load_vector(self._embedders[kind], vector, self.manifest(kind))
        return self._embedders[kind]

    def _embed_segment(
        self, encoder: Backbone, digest: str, settings: EmbeddingSettings
    ) -> NDArray[np.float32]:
        graphs = self._segment_graphs(digest)
        return embed(
            encoder,
            graphs,
            settings,
            progress=lambda done: self.progress("embedding", done, len(graphs)),
        )

    def _embedding_key(
        self, encoder_digest: bytes, segment: str, settings: EmbeddingSettings
    ) -> bytes:
        version = f"{self.backbone.name}/{self.backbone.graph_version}"
        parts = f"{settings}:{version}:{segment}:{torch.get_num_threads()}"
        if self.device.type != "cpu":  # its rounding must not come into what the CPU computes
            parts += f":{self.device.type}"
        return hashlib.sha256(encoder_digest + parts.encode()).digest()
