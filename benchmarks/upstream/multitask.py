"""One encoder for all upstream tasks at once: the usual alternative to a module for each.

It ships as a module too, which is fine-tuned beside a task's composed encoder. It is trained on the
rows of the modules that ship, with as many visits of each row, and a head for every task. The heads
are thrown away; a linear readout of each task, fitted to the trained encoder's embeddings, stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.upstream.answers import GRAPHS, folds_of
from benchmarks.upstream.rows import Materials, parts_of, upstream_rows
from benchmarks.upstream.tasks import TASKS, UpstreamTask
from benchmarks.upstream.train import SETTINGS, counting
from benchmarks.upstream.upstream_hub import put_module, the_encoders
from moma_cl.backbones.base import Backbone
from moma_cl.core.pyg import Batch, Data
from moma_cl.core.software import software
from moma_cl.derivations.derived import PENDING_BLOB
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.embedding import embed
from moma_cl.learning.head import Head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import READOUTS, LinearReadouts, linear_readout
from moma_cl.learning.training import TrainingReport, TrainingSet, train
from moma_cl.progress import quiet
from moma_cl.properties.table import canonical_property
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import Module, ModuleKind
from moma_cl.records.refs import RefKind
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import NotFoundError
from moma_store.records import digest
from moma_store.store import Store

NAME = "multitask"
EPOCHS = 8  # of the largest tasks; rows of the others come several times in each


class Heads(nn.Module):
    """A head for each task; a graph says which of them reads it.

    Parameters
    ----------
    heads
        In the order of the tasks.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, blocks: Sequence[Tensor], batch: Batch) -> Tensor:
        """Let every graph's own head predict.

        Parameters
        ----------
        blocks
            Node features after each block, each of shape ``(n_nodes, feature_dim)``.
        batch
            The graphs they belong to, each with the number of its ``task``.

        Returns
        -------
        Tensor
            Normalised predictions, shape ``(n_structures,)``, dimensionless.
        """
        answers = torch.stack([head(blocks, batch) for head in self.heads], dim=1)
        own: Tensor = answers.gather(1, batch.task[:, None])[:, 0]
        return own


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Rows:
    """The rows of all tasks, one after the other."""

    data: TrainingSet
    fingerprints: NDArray[np.uint64]  # of those trained on or validated by, each once
    n_train: int


def train_multitask(hub: Path, tasks: Sequence[UpstreamTask], materials: Materials) -> Module:
    """Train it and put it into a hub.

    Parameters
    ----------
    hub
        The hub that the modules are shipped from.
    tasks
        What to train on.
    materials
        What it must not see.

    Returns
    -------
    Module
        The record.
    """
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        encoders = the_encoders(workspace)
        rows = _joined(tasks, encoders.backbone, materials)
        encoder = encoders.encoder(ModuleKind.FULL, encoders.parameters(None, ModuleKind.FULL))
        report = _train(encoder, len(tasks), rows.data)
        vector = encoders.round_parameters(encoder, ModuleKind.FULL, SETTINGS.rounded_bits)
        readouts = _readouts(encoder, tasks, materials)
    record = _record(digest(encoders.record.to_doc()), tasks, rows, report)
    arrays: dict[str, NDArray[Any]] = {"parameters": vector, "fingerprints": rows.fingerprints}
    return put_module(hub, NAME, record, {**arrays, **readouts}, encoders)


def renew_multitask(hub: Path, materials: Materials) -> Module:
    """Fit the readouts of a trained multitask module anew; its parameters stay as they are.

    Parameters
    ----------
    hub
        The hub with the module.
    materials
        What it must not have seen.

    Returns
    -------
    Module
        The new record, which has the module's name from now on.
    """
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        encoders = the_encoders(workspace)
        found = store.ref(RefKind.MODULE.on(NAME, encoders.record.name))
        if found is None:
            raise NotFoundError(f"hub {hub} has no module {NAME!r} to renew")
        record = Module.from_doc(store.record(found))
        kept = store.blob(record.blob, ["parameters", "fingerprints"]).arrays
        encoder = encoders.encoder(ModuleKind.FULL, encoders.parameters(found, ModuleKind.FULL))
        tasks = {task.name: task for task in TASKS}
        readouts = _readouts(encoder, [tasks[name] for name in record.source["tasks"]], materials)
    return put_module(hub, NAME, record, {**kept, **readouts}, encoders)


def _readouts(
    encoder: Backbone, tasks: Sequence[UpstreamTask], materials: Materials
) -> dict[str, NDArray[Any]]:
    """Fit a linear readout of each task to the rows that the encoder was trained on."""
    fitted = []
    for task in tasks:
        rows = upstream_rows(task, type(encoder).elements, materials)
        training, validation, _ = folds_of(rows)
        known = np.sort(np.concatenate([training, validation]))
        with ByteCache(GRAPHS) as cache:
            crystals = [rows.crystals[row] for row in known]
            graphs = graphs_of(crystals, type(encoder), cache)
        embedded = embed(encoder, graphs, EmbeddingSettings())
        normaliser = Normaliser.fit(rows.values[training], task.transform)
        fitted.append(linear_readout(embedded, normaliser.forward(rows.values[known])))
    return {READOUTS: LinearReadouts.of(fitted).to_array()}


def _train(encoder: Backbone, n_tasks: int, data: TrainingSet) -> TrainingReport:
    settings = replace(SETTINGS, epochs=EPOCHS)
    sizes = (encoder.feature_dim, encoder.n_blocks, settings.head_width)
    return train(
        encoder,
        Heads([Head(*sizes, seed=seed) for seed in range(n_tasks)]),
        data,
        settings,
        progress=counting(NAME),
    )


def _record(
    backbone: str, tasks: Sequence[UpstreamTask], rows: _Rows, report: TrainingReport
) -> Module:
    return Module(
        backbone=backbone,
        module=ModuleKind.MULTITASK,
        property="several",
        dataset=None,
        blob=PENDING_BLOB,
        n_train=rows.n_train,
        n_validation=len(rows.data.validation),
        validation_mae=report.validation_mae,
        unit="1",  # in deviations of each task's targets
        epochs=report.epochs,
        settings={"module": asdict(replace(SETTINGS, epochs=EPOCHS)), "threads": 1},
        made_by=dict(software()),
        source={
            "data": sorted({source for task in tasks for source in task.sources}),
            "tasks": [task.name for task in tasks],
            "properties": sorted({canonical_property(task.column) for task in tasks}),
        },
    )


def _joined(tasks: Sequence[UpstreamTask], backbone: type[Backbone], materials: Materials) -> _Rows:
    graphs: list[Data] = []
    targets, training, validation, fingerprints = [], [], [], []
    n_train = 0
    for number, task in enumerate(tasks):
        rows = upstream_rows(task, backbone.elements, materials)
        parts = parts_of(rows)
        normaliser = Normaliser.fit(rows.values[parts == 0], task.transform)
        first = len(graphs)
        with ByteCache(GRAPHS) as cache:
            own = graphs_of(rows.crystals, backbone, cache)
        graphs += [_of_task(graph, number) for graph in own]
        targets.append(normaliser.forward(rows.values))
        training.append(_repeated(first + np.flatnonzero(parts == 0), task.epochs / EPOCHS))
        validation.append(first + np.flatnonzero(parts == 1))
        fingerprints.append(rows.fingerprints[parts < 2])
        n_train += int((parts == 0).sum())
    data = TrainingSet(
        graphs=graphs,
        targets=np.concatenate(targets),
        train=np.concatenate(training),
        validation=np.concatenate(validation),
    )
    return _Rows(data=data, fingerprints=np.unique(np.concatenate(fingerprints)), n_train=n_train)


def _of_task(graph: Data, number: int) -> Data:
    graph.task = torch.tensor([number])
    return graph


def _repeated(rows: NDArray[np.int64], times: float) -> NDArray[np.int64]:
    """Repeat rows, some of them once more where the number is no integer."""
    order = np.random.default_rng(0).permutation(rows)
    return np.resize(order, round(times * len(rows)))
