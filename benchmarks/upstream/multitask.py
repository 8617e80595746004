"""One backbone for all upstream tasks at once, the usual alternative to a module for each.

``python -m benchmarks.upstream.multitask`` trains it, on the rows of the modules and with as many
visits of each row, a head for every task.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.upstream.rows import benchmark_materials, upstream_rows
from benchmarks.upstream.tasks import TASKS, UpstreamTask
from benchmarks.upstream.train import SETTINGS, parts_of
from moma_cl import service
from moma_cl.backbones.chgnet import CHGNetBackbone
from moma_cl.graphs.batching import GraphCache, graphs_of
from moma_cl.head import Head
from moma_cl.pyg import Batch, Data
from moma_cl.targets import Normaliser
from moma_cl.training import TrainingSet, train
from moma_store.store import Store

FILE = Path("build/upstream/multitask.safetensors")
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


def multitask_backbone() -> CHGNetBackbone:
    """Load what the training left.

    Returns
    -------
    CHGNetBackbone
        The encoder, in evaluation mode.
    """
    backbone = CHGNetBackbone.empty()
    backbone.load_state_dict(load_file(FILE))
    return backbone


def main() -> int:
    """Train it and keep its parameters."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    shipped = _shipped()
    tasks = [task for task in TASKS if task.name in shipped]
    data = _joined(tasks)
    settings = replace(SETTINGS, epochs=EPOCHS)
    encoder = CHGNetBackbone.pretrained()
    sizes = (encoder.feature_dim, encoder.n_blocks, settings.head_width)
    heads = Heads([Head(*sizes, seed=seed) for seed in range(len(tasks))])
    print(f"{len(data.train)} visits an epoch", flush=True)
    report = train(
        encoder,
        heads,
        data,
        settings,
        progress=lambda done, total: print(
            f"epoch {done} of {total}, {time.perf_counter() - start:.0f} s", flush=True
        ),
    )
    save_file(encoder.state_dict(), FILE)
    print(f"validation error {report.validation_mae:.4g}, {time.perf_counter() - start:.0f} s")
    return 0


def _shipped() -> set[str]:
    """Name the modules that a new hub starts with."""
    with tempfile.TemporaryDirectory() as folder:
        service.init(Path(folder) / "hub")
        with Store.open(Path(folder) / "hub") as store:
            return {ref.removeprefix("modules/") for ref in store.refs("modules/")}


def _joined(tasks: Sequence[UpstreamTask]) -> TrainingSet:
    """Put the rows of all tasks one after the other."""
    materials = benchmark_materials()
    graphs: list[Data] = []
    targets, training, validation = [], [], []
    for number, task in enumerate(tasks):
        rows = upstream_rows(task, CHGNetBackbone.elements, materials)
        parts = parts_of(rows)
        normaliser = Normaliser.fit(rows.values[parts == 0], task.transform)
        first = len(graphs)
        with GraphCache(Path("build/upstream/graphs")) as cache:
            own = graphs_of(rows.crystals, CHGNetBackbone, cache)
        graphs += [_of_task(graph, number) for graph in own]
        targets.append(normaliser.forward(rows.values))
        training.append(_repeated(first + np.flatnonzero(parts == 0), task.epochs / EPOCHS))
        validation.append(first + np.flatnonzero(parts == 1))
    return TrainingSet(
        graphs=graphs,
        targets=np.concatenate(targets),
        train=np.concatenate(training),
        validation=np.concatenate(validation),
    )


def _of_task(graph: Data, number: int) -> Data:
    graph.task = torch.tensor([number])
    return graph


def _repeated(rows: NDArray[np.int64], times: float) -> NDArray[np.int64]:
    """Repeat rows, some of them once more where the number is no integer."""
    order = np.random.default_rng(0).permutation(rows)
    return np.resize(order, round(times * len(rows)))


if __name__ == "__main__":
    sys.exit(main())
