"""What an arrival costs, against doing everything again: a module comes, or a tenth more rows.

Ten tasks with all their rows, the modules that a new hub starts with on each of its backbones, and
mixes of them; a module comes on each backbone, as with a task. What is timed is estimates, weights
and merges, in processor time of one thread, so that neighbours do not count; graphs and the
backbones' own embeddings are there on both sides, since a task's first answer needs them.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.paper.tasks import DATA, TASKS, PaperTask
from benchmarks.upstream import multitask
from moma_cl.backbones.parameters import ParameterManifest
from moma_cl.commands.add_module import Weights, add_module
from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.recipe import EstimateSettings, Recipe
from moma_cl.reconciling.composer import Composer
from moma_cl.records.records import Composition, ModuleKind
from moma_cl.records.refs import RefKind
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

BACKBONE = "chgnet"
N_MODULES = {BACKBONE: 18, "sevennet-0": 9}
TENTH = PaperTask(name="bulk_modulus", target="log10_bulk_modulus_vrh", unit="log10(GPa)")
TENTH_ROWS = 900
GROWING = "mp_phonons"
ALL = (*TASKS, TENTH)

Row = dict[str, Any]
Mixes = dict[str, list[Path]]
"""Files of modules, by the names of backbones."""


def run() -> list[Row]:
    """Measure both arrivals, the second in the hub that the first one left."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        mixes = {
            backbone: mixed_modules(place / backbone, count + 1, seed=0, backbone=backbone)
            for backbone, count in N_MODULES.items()
        }
        steps = _hub(place / "steps", {name: some[:-1] for name, some in mixes.items()})
        compose(steps)
        rows, everything = _module_arrives(place, steps, mixes)
        return [*rows, *_rows_arrive(place, steps, mixes, everything)]


def _module_arrives(place: Path, steps: Path, mixes: Mixes) -> tuple[list[Row], float]:
    """Let a module come to ten tasks: only its estimates and what follows from them are due."""
    for backbone, some in mixes.items():
        bring(steps, some[-1:], backbone)
    arrival = compose(steps)
    at_once = _hub(place / "once", mixes)
    scratch = compose(at_once)
    same = compositions(steps) == compositions(at_once)
    counts = " and ".join(str(count) for count in N_MODULES.values())
    name = f"a module on each backbone arrives beside {counts} at {len(ALL)} tasks, from scratch"
    rows = [*_compared(name, arrival, scratch, 10.0), _whether(f"{name}: identical records", same)]
    return rows, scratch["all"]


def _rows_arrive(place: Path, steps: Path, mixes: Mixes, everything: float) -> list[Row]:
    """Append a tenth more rows to one task; the others stay as they are."""
    before = compositions(steps)
    at_once = _hub(place / "one", mixes, only=(GROWING,))
    for hub in (steps, at_once):
        Hub(hub).add_data(GROWING, [_part(place, last=True)], compose=False)
    arrival, scratch = compose(steps), compose(at_once)
    after = compositions(steps)
    refs = {RefKind.COMPOSITION.on(GROWING, backbone) for backbone in N_MODULES}
    changed = {name for name in before if after[name] != before[name]}
    found = compositions(at_once)
    same = all(after[ref] == found[ref] for ref in refs)
    name = "a tenth more rows for one task, against from scratch"
    return [
        *_compared(name, arrival, scratch, 5.0),
        _row(f"{name} of all tasks", arrival["all"], everything),
        _whether(f"{name}: same record, other tasks untouched", same and changed <= refs),
    ]


# hubs of many modules


def _hub(path: Path, mixes: Mixes, *, only: Collection[str] | None = None) -> Path:
    # module zero is one of the candidates
    settings = EstimateSettings(max_candidates=max(N_MODULES.values()) + 2)
    Hub(path).init(backbones=list(N_MODULES), recipe=replace(Recipe(), estimate=settings))
    for task in ALL:
        if only is None or task.name in only:
            source = _source(path.parent, task)
            Hub(path).add_task(
                task.name,
                [source],
                target=task.target,
                unit=task.unit,
                module=ModuleKind.FULL,
                compose=False,
            )
    for backbone, some in mixes.items():
        bring(path, some, backbone)
    return path


def _source(place: Path, task: PaperTask) -> Path:
    if task.name == GROWING:
        return _part(place)
    return _tenth(place) if task == TENTH else task.file


def _part(place: Path, *, last: bool = False) -> Path:
    """Write the first ten elevenths of a file, or the rest."""
    lines = gzip.decompress((DATA / f"{GROWING}.jsonl.gz").read_bytes()).splitlines(keepends=True)
    cut = len(lines) * 10 // 11
    path = place / f"{GROWING}-{'last' if last else 'first'}.jsonl"
    path.write_bytes(b"".join(lines[cut:] if last else lines[:cut]))
    return path


def _tenth(place: Path) -> Path:
    file = DATA.parent / "upstream" / "mp_elastic_3k.jsonl.gz"
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    path = place / f"{TENTH.name}.jsonl"
    path.write_bytes(b"".join(lines[:: len(lines) // TENTH_ROWS][:TENTH_ROWS]))
    return path


def mixed_modules(
    place: Path, n_modules: int, *, seed: int, noise: float = 0.0, backbone: str = BACKBONE
) -> list[Path]:
    """Mix the modules that a hub starts with, three each, until there are so many in all.

    Parameters
    ----------
    place
        Folder for the files.
    n_modules
        Starter modules and mixes.
    seed
        Of the draw.
    noise
        Largest perturbation of a mix, in the deviation of the starter modules from their mean.
    backbone
        Name of the backbone.

    Returns
    -------
    list[Path]
        Files of the mixes.
    """
    place.mkdir()
    Hub(place / "hub").init(backbones=[backbone], recipe=Recipe())
    with (
        Store.open(place / "hub") as store,
        Workspace(store=store, progress=quiet) as workspace,
    ):
        encoders = workspace.encoders(str(store.ref(RefKind.BACKBONE.of(backbone))))
        starters = [
            encoders.parameters(digest, ModuleKind.FULL)
            for name, digest in sorted(store.refs(RefKind.MODULE.prefix).items())
            if name != RefKind.MODULE.on(multitask.NAME, backbone)
        ]
        manifest = encoders.manifest(ModuleKind.FULL)
    draw, spread = np.random.default_rng(seed), np.std(starters, axis=0)
    files = []
    for number in range(n_modules - len(starters)):
        chosen, shares = draw.choice(len(starters), 3, replace=False), draw.dirichlet(np.ones(3))
        vector = sum(share * starters[i] for i, share in zip(chosen, shares, strict=True))
        if noise:
            vector += noise * draw.random() * spread * draw.normal(size=len(spread))
        files.append(place / f"mix_{backbone}_{number:03d}.safetensors")
        save_file(_tensors(np.asarray(vector, np.float32), manifest), files[-1])
    return files


def _tensors(vector: np.ndarray, manifest: ParameterManifest) -> dict[str, np.ndarray]:
    parts = np.split(vector, manifest.offsets[1:-1])
    return {
        name: np.ascontiguousarray(part.reshape(shape))
        for name, shape, part in zip(manifest.names, manifest.shapes, parts, strict=True)
    }


def bring(hub: Path, mixes: list[Path], backbone: str = BACKBONE) -> None:
    """Add modules from files, each of a property of its own.

    Parameters
    ----------
    hub
        The hub.
    mixes
        Their files.
    backbone
        Name of the backbone that they were made of.
    """
    for file in mixes:
        weights = Weights(
            file=file, property=f"property of {file.stem}", unit="1", validation_mae=1.0
        )
        add_module(hub, file.stem, weights, backbone=backbone)


# what is timed


@dataclass(slots=True, kw_only=True)
class Composing(Composer):
    """Makes estimates and compositions only, and sees what each kind takes."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            (str(DerivationKind.ESTIMATE), str(DerivationKind.COMPOSITION)), 0.0
        )
    )

    def derive_all(self, derivations: Sequence[Derivation], why: str) -> list[str | None]:
        """Derive them; everything else is not known."""
        if any(one.kind not in self.seconds for one in derivations):
            return [None] * len(derivations)
        start = time.process_time()
        digests = Composer.derive_all(self, derivations, why)
        for one in derivations[:1]:
            self.seconds[one.kind] += time.process_time() - start
        return digests


def compose(hub: Path) -> dict[str, float]:
    """Bring estimates, compositions and merges up to date.

    Parameters
    ----------
    hub
        The hub.

    Returns
    -------
    dict[str, float]
        Seconds of each, and of all with what is between.
    """
    start = time.process_time()
    with Store.open(hub, write=True) as store:
        before = store.refs(RefKind.COMPOSITION.prefix)
        composing = Composing(store=store, progress=quiet)
        composing.run()
        merging = time.process_time()
        with Workspace(store=store, progress=quiet) as workspace:
            for name, digest in store.refs(RefKind.COMPOSITION.prefix).items():
                if before.get(name) != digest:
                    composition = Composition.from_doc(store.record(digest))
                    workspace.encoders(composition.backbone).merged(composition)
        end = time.process_time()
    return {**composing.seconds, "merges": end - merging, "all": end - start}


def compositions(hub: Path) -> dict[str, str]:
    """List the present compositions of a hub.

    Parameters
    ----------
    hub
        The hub.

    Returns
    -------
    dict[str, str]
        Digest by ref.
    """
    with Store.open(hub) as store:
        return store.refs(RefKind.COMPOSITION.prefix)


def _compared(
    name: str, arrival: dict[str, float], scratch: dict[str, float], bar: float
) -> list[Row]:
    ratio = scratch["all"] / arrival["all"]
    rows = [_row(name, arrival["all"], scratch["all"], bar=f">= {bar:g}", holds=ratio >= bar)]
    parts = (DerivationKind.ESTIMATE, DerivationKind.COMPOSITION, "merges")
    return rows + [_row(f"{name}: {part}", arrival[part], scratch[part]) for part in parts]


def _whether(name: str, holds: bool) -> Row:
    return _row(name, float(holds), None, unit="", bar="1", holds=holds)


def _row(
    name: str,
    ours: float,
    theirs: float | None,
    *,
    unit: str = "s",
    bar: str | None = None,
    holds: bool | None = None,
) -> Row:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": None if theirs is None else theirs / max(ours, 1e-9),
        "bar": bar,
        "holds": holds,
    }
