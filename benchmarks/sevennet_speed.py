"""Speed, memory and scaling of SevenNet against the package the parameters come from.

Same structures, threads and precision on both sides, and answers are compared before anything is
timed. Graphs are made beforehand and collation is part of what is timed, but for the one-shot
embedding. The package runs without its output of forces, and the allocator is tuned for both sides
(`benchmarks.sevennet_package`). Both sides run in turn, and medians count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import (
    BATCH,
    at_most,
    batches,
    in_a_process,
    medians,
    peak,
    reset_peak,
    resident,
    row,
    stepper,
)
from benchmarks.sevennet_package import Package, tune_allocator
from benchmarks.sevennet_readout import SevenNetReadout
from benchmarks.structures import crystal_of, shuffled, triclinic
from benchmarks.trainer import Trainer
from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.sevennet.backbone import (
    SevenNet0Backbone,
    SevenNetBackbone,
    SevenNetL3i5Backbone,
)
from moma_cl.core.denormals import without_denormals
from moma_cl.graphs.batching import collate
from moma_cl.learning.embedding import embed
from moma_cl.recipe import EmbeddingSettings
from moma_cl.structures.crystals import Crystal
from moma_cl.testing.crystals import example_crystals, supercell

COUNT = 128
# name, bar of an embedding and of a training step
SETS = (
    ("paper/mp_phonons", 45.0, 40.0),
    ("paper/jarvis_2d_eform", 27.0, 22.0),
    ("paper/mp_poisson_ratio", 110.0, 90.0),
)
FIRST = SETS[0][0]
MANY = 30_000


def run() -> list[dict[str, Any]]:
    """Measure everything; a quarter of an hour on a quiet core."""
    warnings.filterwarnings("ignore")
    tune_allocator()
    torch.set_num_threads(1)
    with without_denormals():
        torch.ones(1 << 20).exp()
    rows: list[dict[str, Any]] = []
    for name, embedding, training in SETS:
        rows += _against_package(SevenNet0Backbone, _crystals(name), name, embedding, training)
    rows += _against_package(SevenNetL3i5Backbone, _crystals(FIRST, 64), FIRST, 40.0, 40.0)
    cells = [triclinic(100, seed) for seed in range(4)]
    rows += _against_package(SevenNet0Backbone, cells, "P1 cells of 100 atoms", 12.0, 12.0)
    rows += [*_one_shot(), *_against_chgnet(), _memory(), _many(), _supercells(), _determinism()]
    return [*rows, *_starts()]


class _Ours(Trainer):
    @without_denormals()
    def embed(self, graphs: Sequence[CrystalGraph]) -> list[Tensor]:
        """Give the features of every layer."""
        batch = collate(graphs)
        with torch.no_grad():
            return self.encoder(batch)


def _crystals(name: str, count: int = COUNT) -> list[Crystal]:
    crystals = [crystal_of(one) for one in shuffled(name, count)]
    return [one for one in crystals if set(one.atomic_numbers) <= SevenNetBackbone.elements]


def _against_package(
    backbone: type[SevenNetBackbone],
    crystals: list[Crystal],
    name: str,
    embedding: float,
    training: float,
) -> list[dict[str, Any]]:
    size = min(BATCH, len(crystals))
    package, ours = Package(backbone), _Ours(backbone)
    theirs = batches([package.graph(one) for one in crystals], size)
    mine = batches([backbone.to_graph(one) for one in crystals], size)
    _require_equal(backbone, package, theirs[0], mine[0])
    rows = []
    for action, bar in (("embed", embedding), ("train", training)):
        steps = [
            stepper(getattr(side, action), chosen)
            for side, chosen in ((ours, mine), (package, theirs))
        ]
        found, its = medians(steps, rounds=max(5, 2 * len(mine)), warm=min(2, len(mine)))
        what = "training step" if action == "train" else "embedding"
        label = f"{what}, {backbone.name}, {name}, batch {size}"
        rows.append(row(label, 1e3 * found, 1e3 * its, "ms", its / found, bar))
    return rows


def _require_equal(
    backbone: type[SevenNetBackbone], package: Package, theirs: list[Any], mine: list[Any]
) -> None:
    encoder, readout = backbone.pretrained(), SevenNetReadout.pretrained(backbone).float()
    batch = collate(mine)
    with torch.no_grad():
        energies = readout(encoder(batch)[-1], batch, encoder.rows_of_elements)
    torch.testing.assert_close(energies, package.embed(theirs), rtol=1e-4, atol=1e-3)


def _one_shot() -> list[dict[str, Any]]:
    """Embed structures that were never seen, from arrays to features."""
    crystals = _crystals(FIRST)
    package, ours = Package(SevenNet0Backbone), _Ours(SevenNet0Backbone)
    chosen = batches(crystals)

    def mine(some: Sequence[Crystal]) -> None:
        ours.embed([SevenNet0Backbone.to_graph(one) for one in some])

    def its(some: Sequence[Crystal]) -> None:
        package.embed([package.graph(one) for one in some])

    fast, slow = medians([stepper(mine, chosen), stepper(its, chosen)], rounds=12)
    rows = [row(f"one-shot embedding, {FIRST}", 1e3 * fast, 1e3 * slow, "ms", slow / fast, 8.0)]
    for name, *_ in SETS:
        (seconds,) = medians(
            [stepper(SevenNet0Backbone.to_graph, _crystals(name))], rounds=COUNT, warm=COUNT
        )
        label = f"preprocessing of a structure, {name}, median"
        rows.append(at_most(label, 1e3 * seconds, None, "ms", 1e3 * seconds, 1.0))
    return rows


def _against_chgnet() -> list[dict[str, Any]]:
    """Compare with our other backbone, on the same structures."""
    crystals = _crystals(FIRST)
    kinds: tuple[type[Backbone], ...] = (SevenNet0Backbone, SevenNetL3i5Backbone, CHGNetBackbone)
    sides = [(_Ours(kind), batches([kind.to_graph(one) for one in crystals])) for kind in kinds]
    rows = []
    for action in ("embed", "train"):
        steps = [stepper(getattr(side, action), chosen) for side, chosen in sides]
        *found, chgnet = medians(steps, rounds=4 * len(sides[0][1]), warm=2)
        for kind, seconds, bar in zip(kinds, found, (1.5, 3.0), strict=False):
            label = f"{action}, {FIRST}, {kind.name} against chgnet"
            rows.append(at_most(label, 1e3 * seconds, 1e3 * chgnet, "ms", seconds / chgnet, bar))
    return rows


def _memory() -> dict[str, Any]:
    """Peak resident memory of a step above what was resident before, in fresh processes."""
    ours, theirs = (
        in_a_process("sevennet_speed", f"print_memory({side!r})")[0] for side in ("ours", "package")
    )
    label = f"peak memory of a training step, {FIRST}, batch {BATCH}"
    return at_most(label, ours, theirs, "MB", ours / theirs, 0.1)


def _many() -> dict[str, Any]:
    """Memory of embedding many structures against few, above graphs and rows."""
    many, few = (
        in_a_process("sevennet_speed", f"print_embedding({count})")[0] for count in (MANY, 1_000)
    )
    label = f"peak memory of embedding {MANY} structures against 1,000, above graphs and rows"
    return at_most(label, many, few, "MB", many / few, 1.2)


def _supercells() -> dict[str, Any]:
    """Time per atom over supercells of one crystal, as many atoms in a batch, no quotient."""
    cell = example_crystals()["rock salt"]
    ours = _Ours(SevenNet0Backbone)
    repeats = ((1, 1, 1), (2, 1, 1), (3, 2, 1), (3, 3, 2), (4, 3, 3))
    steps = []
    for repeat in repeats:
        graph = SevenNet0Backbone.to_graph(supercell(cell, repeat), quotient=False)
        steps.append(stepper(ours.embed, [[graph] * (288 // graph.num_nodes)]))
    seconds = medians(steps, rounds=9)
    spread = max(seconds) / min(seconds)
    label = "embedding 288 atoms as 36 cells of 8 to 1 of 288, no quotient, slowest to fastest"
    return at_most(label, 1e3 * max(seconds), 1e3 * min(seconds), "ms", spread, 1.15)


def _determinism() -> dict[str, Any]:
    """Two trainings of six steps from the same start, byte for byte."""
    graphs = [SevenNet0Backbone.to_graph(one) for one in _crystals(FIRST)]
    states = []
    for _ in range(2):
        ours = _Ours(SevenNet0Backbone)
        for batch in batches(graphs):
            ours.train(batch)
        states.append(b"".join(p.detach().numpy().tobytes() for p in ours.trained))
    same = states[0] == states[1]
    found = "same bits" if same else "different bits"
    label = "parameters after six steps, run twice"
    return row(label, 0.0, None, "", None, None) | {
        "ours": found,
        "bar": "same bits",
        "holds": same,
    }


def _starts() -> list[dict[str, Any]]:
    """Measure the first use after installing, which compiles kernels, and later starts."""
    with tempfile.TemporaryDirectory() as folder:
        first = _start("sevennet-0", folder)
        later = [_start("sevennet-0", folder) for _ in range(5)]
        chgnet = [_start("chgnet", folder) for _ in range(5)]
    mine, its = sorted(later)[2], sorted(chgnet)[2]
    return [
        at_most("first graph and step of a process, first use", first, None, "s", first, 20.0),
        at_most("later starts, more than chgnet's", mine - its, None, "s", mine - its, 0.5),
    ]


def _start(name: str, folder: str) -> float:
    code = f"from benchmarks import sevennet_speed; sevennet_speed.print_start({name!r})"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": folder},
    )
    return float(ended.stdout.split()[-1])


def print_start(name: str) -> None:
    """Print how long it takes to import a backbone, build a graph and take a step."""
    from moma_cl.backbones.registry import backbone_class

    crystal = example_crystals()["rock salt"]
    start = time.perf_counter()
    encoder = backbone_class(name).empty()
    blocks = encoder(collate([encoder.to_graph(crystal)]))
    blocks[-1].sum().backward()
    print(time.perf_counter() - start)


def print_memory(side: str) -> None:
    """Print how many MB a training step takes above what was resident before the first."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    crystals = _crystals(FIRST)[:BATCH]
    trainer: _Ours | Package
    graphs: list[Any]
    if side == "ours":
        trainer = _Ours(SevenNet0Backbone)
        graphs = [SevenNet0Backbone.to_graph(one) for one in crystals]
    else:
        trainer = Package(SevenNet0Backbone)
        graphs = [trainer.graph(one) for one in crystals]
    trainer.train(graphs[:1])
    reset_peak()
    before = resident()
    trainer.train(graphs)
    print((peak() - before) / 1e6)


def print_embedding(count: int) -> None:
    """Print how many MB it takes to embed structures, above graphs and rows."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    crystals = _crystals(FIRST, 1000)
    graphs = [SevenNet0Backbone.to_graph(one) for one in crystals]
    encoder = SevenNet0Backbone.pretrained()
    embed(encoder, graphs[:8], EmbeddingSettings())
    chosen = [graph for graph, _ in zip(cycle(graphs), range(count), strict=False)]
    reset_peak()
    before = resident()
    rows = embed(encoder, chosen, EmbeddingSettings())
    print((peak() - before - rows.nbytes) / 1e6)
