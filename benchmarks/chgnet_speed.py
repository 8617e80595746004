"""Speed, memory and scaling of ``chgnet`` against the package the parameters come from.

Same structures, threads and precision on both sides; graphs are made beforehand and collation is
part of what is timed. Answers are compared before anything is timed. Both sides run in turn, and
medians count.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.chgnet_readout import CHGNetReadout
from benchmarks.measuring import (
    BATCH,
    at_most,
    batches,
    each,
    in_a_process,
    medians,
    peak,
    reset_peak,
    resident,
    row,
    stepper,
)
from benchmarks.structures import crystal, crystal_of, pymatgen, shuffled, triclinic
from benchmarks.trainer import Trainer
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.chgnet.graph import CHGNetGraph
from moma_cl.core.denormals import without_denormals
from moma_cl.graphs import build
from moma_cl.graphs.batching import collate
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.embedding import embed
from moma_cl.recipe import EmbeddingSettings
from moma_cl.structures.crystals import PackedCrystals
from moma_cl.testing.crystals import example_crystals, supercell

THREADS = 2
# name, structures, bars of a training step and of an embedding
SETS = (("paper/mp_phonons", 256, (9.0, 10.0)), ("paper/jarvis_2d_eform", 256, (5.0, 6.0)))
LARGE = ("upstream/mp_36k", 96, (9.0, 14.0))
MANY = 30_000


def run() -> list[dict[str, Any]]:
    """Measure everything; some minutes on two quiet cores."""
    warnings.filterwarnings("ignore", module="pymatgen")
    torch.set_num_threads(THREADS)
    with without_denormals():  # holds in threads that start here; the package gains by it as well
        torch.ones(1 << 20).exp()
    rows: list[dict[str, Any]] = []
    for name, count, bars in (*SETS, LARGE):
        rows += _against_package(name, count, bars)
    rows += [*_building(), _building_on_all_cores()]
    rows += _largerbatches()
    rows += [_low_symmetry(), _adapters(), _single()]
    rows += [_memory(), _supercells(), *_many_structures(), _determinism()]
    return rows


class _Package:
    """The package as shipped: its model, its loss's gradient, its optimiser."""

    def __init__(self) -> None:
        from chgnet.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):
            self.model = CHGNet.load(use_device="cpu", verbose=False)
        self.model.graph_converter.set_isolated_atom_response("ignore")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5)

    def graphs(self, structures: Sequence[dict[str, Any]]) -> list[Any]:
        """Convert structures."""
        return [self.model.graph_converter(pymatgen(one)) for one in structures]

    def train(self, graphs: Sequence[Any]) -> None:
        """Take one step."""
        loss = self.model(list(graphs), task="e")["e"].abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def embed(self, graphs: Sequence[Any]) -> Tensor:
        """Give energies per atom, and on the way everything an embedding is made of."""
        with torch.no_grad():
            energies: Tensor = self.model(list(graphs), task="e")["e"]
        return energies


class _Ours(Trainer):
    """Our encoder, and the published readout of the energy."""

    def __init__(self, adapter_width: int | None = None) -> None:
        super().__init__(CHGNetBackbone, adapter_width)
        self.readout = CHGNetReadout.pretrained()

    @without_denormals()
    def embed(self, graphs: Sequence[CHGNetGraph]) -> Tensor:
        """Give energies per atom, and on the way everything an embedding is made of."""
        batch = collate(graphs)
        with torch.no_grad():
            energies: Tensor = self.readout(self.encoder(batch)[-1], batch)
        return energies


def _against_package(name: str, count: int, bars: tuple[float, float]) -> list[dict[str, Any]]:
    structures = shuffled(name, count)
    package, ours, plain = _Package(), _Ours(), _Ours()
    theirs = batches(package.graphs(structures))
    crystals = [crystal_of(one) for one in structures]
    merged = batches([CHGNetBackbone.to_graph(one) for one in crystals])
    full = batches([CHGNetBackbone.to_graph(one, quotient=False) for one in crystals])
    _require_equal(package, ours, theirs[0], merged[0], full[0])
    rows = []
    for action, bar in zip(("train", "embed"), bars, strict=True):
        steps = [
            stepper(getattr(side, action), chosen)
            for side, chosen in ((ours, merged), (plain, full), (package, theirs))
        ]
        n_batches = len(merged)  # some have twice as many edges as others
        mine, off, its = (1e3 * v for v in medians(steps, rounds=3 * n_batches, warm=n_batches))
        what = "training step" if action == "train" else "embedding"
        label = f"{what}, {name}, batch {BATCH}"
        rows.append(row(label, mine, its, "ms", its / mine, bar))
        rows.append(row(f"{label}, without the quotient", off, its, "ms", its / off, 2.0))
    return rows


def _require_equal(
    package: _Package, ours: _Ours, theirs: list[Any], *mine: list[CHGNetGraph]
) -> None:
    expected = package.embed(theirs)
    for graphs in mine:
        difference = float((ours.embed(graphs) - expected).abs().max() / expected.abs().max())
        if difference > 1e-5:
            raise SystemExit(
                f"energies differ from the package's by {difference:.1e} of the largest"
            )


def _building() -> list[dict[str, Any]]:
    """Graph building from pymatgen structures in one process, then from the cache."""
    torch.set_num_threads(1)
    rows = []
    converter = _Package().model.graph_converter
    for name, count, _ in (*SETS, LARGE):
        structures = [pymatgen(one) for one in shuffled(name, count)]
        ours, theirs = medians(
            [
                lambda chosen=structures: CHGNetBackbone.to_graphs(each(crystal, chosen)),
                partial(each, converter, structures),
            ],
            rounds=3,
        )
        label = f"graphs of {count} structures of {name}, one process"
        per_structure = 1e3 / count
        bar = 3.0 if name == SETS[0][0] else None
        rows.append(
            row(label, ours * per_structure, theirs * per_structure, "ms each", theirs / ours, bar)
        )
        crystals = PackedCrystals.pack([crystal(s) for s in structures])
        with tempfile.TemporaryDirectory() as folder, ByteCache(Path(folder)) as kept:
            graphs_of(crystals, CHGNetBackbone, kept)
            visit = partial(graphs_of, crystals, CHGNetBackbone, kept)
            (again,) = medians([visit], rounds=3)
        rows.append(
            row(
                f"{label}, second visit",
                again * per_structure,
                theirs * per_structure,
                "ms each",
                theirs / again,
                20.0 if name == SETS[0][0] else None,
            )
        )
    torch.set_num_threads(THREADS)
    return rows


def _building_on_all_cores() -> dict[str, Any]:
    """Build many graphs into a cache, on all cores and in one process."""
    crystals = PackedCrystals.pack([crystal_of(one) for one in shuffled(LARGE[0], MANY)])

    def seconds(count: int) -> float:
        with (
            patch.object(build, "n_cores", lambda: count),
            tempfile.TemporaryDirectory() as folder,
            ByteCache(Path(folder)) as kept,
        ):
            start = time.perf_counter()
            graphs_of(crystals, CHGNetBackbone, kept)
            return time.perf_counter() - start

    count = build.n_cores()
    several, one = seconds(count), seconds(1)
    label = f"graphs of {MANY} structures of {LARGE[0]} into the cache, {count} processes, and one"
    return row(label, several, one, "s", one / several, None)


def _largerbatches() -> list[dict[str, Any]]:
    """Milliseconds a structure when batches grow."""
    graphs = [CHGNetBackbone.to_graph(crystal_of(one)) for one in shuffled(*SETS[0][:2])]
    ours = _Ours()
    rows = []
    for size in (32, 64, 128, 256):
        (seconds,) = medians([stepper(ours.train, batches(graphs, size))])
        label = f"training, {SETS[0][0]}, batch {size}"
        rows.append(row(label, 1e3 * seconds / size, None, "ms each", None, None))
    return rows


def _low_symmetry() -> dict[str, Any]:
    """Compare with and without a quotient where there is nothing to merge."""
    crystals = [triclinic(100, seed) for seed in range(4)]
    on, off = (
        [CHGNetBackbone.to_graph(one, quotient=merged) for one in crystals]
        for merged in (True, False)
    )
    ours, plain = _Ours(), _Ours()
    mine, its = medians([lambda: ours.train(on), lambda: plain.train(off)])
    label = "training step, 4 random P1 cells of 100 atoms, quotient against none"
    return at_most(label, 1e3 * mine, 1e3 * its, "ms", mine / its, 1.05)


def _adapters() -> dict[str, Any]:
    structures = shuffled(*SETS[0][:2])
    chosen = batches([CHGNetBackbone.to_graph(crystal_of(one)) for one in structures])
    ours, full = _Ours(adapter_width=16), _Ours()
    mine, its = medians([stepper(ours.train, chosen), stepper(full.train, chosen)])
    label = f"training step, {SETS[0][0]}, adapters against full"
    return row(label, 1e3 * mine, 1e3 * its, "ms", its / mine, 1.2)


def _single() -> dict[str, Any]:
    """One structure of 8 atoms from a pymatgen object to a value."""
    ours = _Ours()
    structures = [s for s in shuffled(*SETS[0][:2]) if len(s["species"]) == 8][:20]
    objects = cycle([pymatgen(one) for one in structures])
    (seconds,) = medians(
        [lambda: ours.embed([CHGNetBackbone.to_graph(crystal(next(objects)))])], rounds=40
    )
    return at_most("one structure of 8 atoms, warm", 1e3 * seconds, None, "ms", 1e3 * seconds, 15)


def _memory() -> dict[str, Any]:
    """Peak resident memory of a step above what was resident before, in fresh processes."""
    ours, theirs = (
        in_a_process("chgnet_speed", f"print_memory({side!r})")[0] for side in ("ours", "package")
    )
    label = f"peak memory of a training step, {SETS[0][0]}, batch {BATCH}"
    return at_most(label, ours, theirs, "MB", ours / theirs, 0.25)


def _supercells() -> dict[str, Any]:
    """Time per atom over supercells of one crystal, as many atoms in a batch, no quotient."""
    cell = example_crystals()["rock salt"]
    ours = _Ours()
    repeats = ((1, 1, 1), (2, 1, 1), (3, 2, 1), (3, 3, 2), (4, 3, 3))
    steps = []
    for repeat in repeats:
        graph = CHGNetBackbone.to_graph(supercell(cell, repeat), quotient=False)
        steps.append(stepper(ours.embed, [[graph] * (288 // graph.num_nodes)]))
    seconds = medians(steps, rounds=9)
    spread = max(seconds) / min(seconds)
    label = "embedding 288 atoms as 36 cells of 8 to 1 of 288, no quotient, slowest to fastest"
    return at_most(label, 1e3 * max(seconds), 1e3 * min(seconds), "ms", spread, 1.15)


def _many_structures() -> list[dict[str, Any]]:
    """Time per structure of embedding 1,000 and 30,000, and what memory it needs meanwhile."""
    measured = [
        in_a_process("chgnet_speed", f"print_embedding({count})") for count in (30_000, 1_000)
    ]
    (many, few), grown = zip(*measured, strict=True)
    label = "embedding 30,000 structures against 1,000"
    return [
        at_most(f"{label}, time", many, few, "ms each", many / few, 1.15),
        at_most(f"{label}, peak memory above graphs and rows", *grown, "MB", None, None),
    ]


def _determinism() -> dict[str, Any]:
    """Two trainings of eight steps from the same start, byte for byte."""
    graphs = [CHGNetBackbone.to_graph(crystal_of(one)) for one in shuffled(*SETS[0][:2])]
    states = []
    for _ in range(2):
        ours = _Ours()
        for batch in batches(graphs):
            ours.train(batch)
        states.append(b"".join(p.detach().numpy().tobytes() for p in ours.trained))
    same = states[0] == states[1]
    return {
        "name": "parameters after eight steps, run twice",
        "ours": "same bits" if same else "different bits",
        "theirs": None,
        "unit": "",
        "ratio": None,
        "bar": "same bits",
        "holds": same,
    }


def print_memory(side: str) -> None:
    """Print how many MB a training step takes above what was resident before the first."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    structures = shuffled(*SETS[0][:2])[:BATCH]
    trainer: _Ours | _Package
    graphs: list[Any]
    if side == "ours":
        trainer = _Ours()
        graphs = [CHGNetBackbone.to_graph(crystal_of(one)) for one in structures]
    else:
        trainer = _Package()
        graphs = trainer.graphs(structures)
    trainer.train(graphs[:1])
    reset_peak()
    before = resident()
    trainer.train(graphs)
    print((peak() - before) / 1e6)


def print_embedding(count: int) -> None:
    """Print milliseconds a structure, and how many MB it takes above graphs and rows."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    crystals = [crystal_of(one) for one in shuffled(SETS[0][0], 1000)]
    graphs = CHGNetBackbone.to_graphs(crystals)
    encoder = CHGNetBackbone.pretrained()
    embed(encoder, graphs[:8], EmbeddingSettings())
    chosen = [graph for graph, _ in zip(cycle(graphs), range(count), strict=False)]
    reset_peak()
    before = resident()
    rows = embed(encoder, chosen, EmbeddingSettings())
    grown = peak() - before - rows.nbytes
    # once more: the first time, kernels for all sizes of batches are compiled
    start = time.perf_counter()
    embed(encoder, chosen, EmbeddingSettings())
    seconds = time.perf_counter() - start
    print(1e3 * seconds / count, grown / 1e6)
