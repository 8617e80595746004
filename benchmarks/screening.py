"""Screening: thousands of structures through ``predict``, and one through a cold process.

Against loops over the packages' batch predictions of the same structures, with as many cores:
graphs and energies only, while ``predict`` also reads and checks rows, gives intervals and
neighbours, and writes lines. A kernel head on CHGNet is measured against the chgnet package, and
all learners of a hub with both backbones against the sevenn package; ``predict --fast`` asks one
of them. ``MOMA_CL_BENCH_STRUCTURES`` sets how many; ``MOMA_CL_BENCH_HUB`` names a hub of both
backbones where the task is fitted already, which takes some ten minutes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measuring import peak, resident
from benchmarks.sevennet_package import Package as SevennPackage
from benchmarks.sevennet_package import tune_allocator
from benchmarks.structures import DATA, crystal_of, pymatgen
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.sevennet.backbone import SevenNet0Backbone
from moma_cl.graphs import prefetch
from moma_cl.hub import Hub
from moma_cl.predictors import loaded_learners
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import Learner, ModuleKind, Predictor
from moma_cl.records.refs import RefKind
from moma_store.store import Store

COUNT = int(os.environ.get("MOMA_CL_BENCH_STRUCTURES", "10000"))
THREADS = 2
PACKAGE_SHARE = 10  # the package predicts every n-th structure; its time is linear in them
BATCH = 16  # the package's default
ROOT = Path(__file__).resolve().parents[1]
SOURCE = "mp_phonons"


def run() -> list[dict[str, Any]]:
    """Make a hub with one task, screen, and ask for one structure in a new process."""
    warnings.filterwarnings("ignore", module="pymatgen")
    with tempfile.TemporaryDirectory() as folder:
        hub = _hub(Path(folder) / "hub", ["chgnet"], compose=False)
        both = Path(os.environ.get("MOMA_CL_BENCH_HUB", Path(folder) / "both"))
        if not both.exists():
            _hub(both, ["chgnet", "sevennet-0"], compose=True)
        file = _structures(Path(folder) / "structures.jsonl", COUNT)
        chgnet, sevenn = (_package_ms(one, file) for one in ("chgnet", "sevenn"))
        return [
            *_screening(hub, file, chgnet),
            *_both_backbones(both, file, chgnet, sevenn),
            *_cold(hub, Path(folder)),
        ]


def _hub(path: Path, backbones: list[str], *, compose: bool) -> Path:
    Hub(path).init(backbones=backbones)
    Hub(path).add_task(
        SOURCE,
        [DATA / "paper" / f"{SOURCE}.jsonl.gz"],
        target="log_last_phdos_peak",
        unit="1",
        fold_column="fold_0",
        module=ModuleKind.NONE,
        compose=compose,
    )
    return path


def _lines() -> Iterator[str]:
    with gzip.open(DATA / "upstream" / "mp_36k.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if len(row["structure"]["species"]) <= 40:
                yield json.dumps({"id": row["id"], "structure": row["structure"]}) + "\n"


def _structures(file: Path, count: int, step: int = 1) -> Path:
    """Write every n-th of some structures: few are then as large as many are."""
    with file.open("w") as stream:
        stream.writelines(itertools.islice(_lines(), 0, count, step))
    return file


def _screening(hub: Path, file: Path, theirs: float) -> list[dict[str, Any]]:
    few = _structures(file.with_name("few.jsonl"), COUNT, step=10)
    grown_few, grown = (_grown_in_new_process(hub, one) for one in (few, file))
    _screened(hub, few)  # warm up
    start = time.perf_counter()
    answered = _screened(hub, file)
    ours = 1e3 * (time.perf_counter() - start) / COUNT
    share = _backbone_share(hub, file)
    label = f"screening {COUNT} structures of mp_36k, {answered} answered"
    return [
        _row(label, ours, theirs, "ms each", theirs / ours, ">= 5 x", theirs / ours >= 5),
        _row(
            f"memory above that of the loaded program, {COUNT} against {COUNT // 10}",
            grown,
            grown_few,
            "MB",
            grown / grown_few,
            "<= 1.5 x",
            grown <= 1.5 * grown_few,
        ),
        _row("share in backbone and graph builder", share, None, "", None, ">= 0.9", share >= 0.9),
    ]


def _both_backbones(hub: Path, file: Path, chgnet: float, sevenn: float) -> list[dict[str, Any]]:
    rows = []
    against = ((False, sevenn, "sevenn", 3.0), (True, chgnet, "chgnet", 8.0))
    for fast, theirs, package, bar in against:
        _screened(hub, file.with_name("few.jsonl"), fast=fast)  # warm up
        start = time.perf_counter()
        answered = _screened(hub, file, fast=fast)
        ours = 1e3 * (time.perf_counter() - start) / COUNT
        name = f"{_asked(hub, fast=fast)}: {answered} answered, against the {package} package"
        ratio = theirs / ours
        rows.append(_row(name, ours, theirs, "ms each", ratio, f">= {bar:g} x", ratio >= bar))
    return rows


def _asked(hub: Path, *, fast: bool) -> str:
    """Say which learners answer."""
    with Store.open(hub) as store:
        digest = store.ref(RefKind.PREDICTOR.of(SOURCE))
        assert digest is not None
        predictor = Predictor.from_doc(store.record(digest))
        if fast and predictor.fast is not None:
            predictor = Predictor.from_doc(store.record(predictor.fast))
        learners = [Learner.from_doc(store.record(one)) for one in predictor.learners]
        names = sorted({backbone_record(store, one.backbone).name for one in learners})
    how = "predict --fast, " if fast else ""
    return f"{how}{len(learners)} learners of {' and '.join(names)}"


def _screened(hub: Path, file: Path, *, fast: bool = False) -> int:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  no file
        count = 0
        for row in Hub(hub).iter_predictions(SOURCE, [file], fast=fast):
            nowhere.write(json.dumps([row.id, row.value, row.lower, row.upper]) + "\n")
            count += row.status == "ok"
    return count


def _grown_in_new_process(hub: Path, file: Path) -> float:
    call = f"print_memory({str(hub)!r}, {str(file)!r})"
    code = f"from benchmarks.screening import print_memory; {call}"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT, text=True
    )
    return float(found.stdout)


def print_memory(hub: str, file: str) -> None:
    """Print how many MB screening takes above what was resident before."""
    before = resident()
    _screened(Path(hub), Path(file))
    print((peak() - before) / 1e6)


def _package_ms(name: str, file: Path) -> float:
    """Milliseconds a structure of a package, in a new process: its allocator may be tuned."""
    call = f"print_package_ms({name!r}, {str(file)!r})"
    code = f"from benchmarks.screening import print_package_ms; {call}"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT, text=True
    )
    return float(found.stdout)


def print_package_ms(name: str, file: str) -> None:
    """Print how many ms a structure takes, structures made beforehand."""
    torch.set_num_threads(THREADS)
    with Path(file).open() as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, 0, None, PACKAGE_SHARE)]
    convert, predict = {"chgnet": _chgnet_package, "sevenn": _sevenn_package}[name]()
    structures = [convert(row["structure"]) for row in rows]
    batches = [structures[start : start + BATCH] for start in range(0, len(structures), BATCH)]
    predict(batches[0])
    start = time.perf_counter()
    for batch in batches:
        predict(batch)
    print(1e3 * (time.perf_counter() - start) / len(structures))


Package = tuple[Callable[[dict[str, Any]], Any], Callable[[list[Any]], object]]
"""Makes a structure for a package, and lets the package predict a batch of them."""


def _chgnet_package() -> Package:
    from chgnet.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    return pymatgen, lambda batch: model.predict_structure(batch, task="e", batch_size=BATCH)


def _sevenn_package() -> Package:
    tune_allocator()
    model = SevennPackage(SevenNet0Backbone)
    return crystal_of, lambda batch: model.embed([model.graph(one) for one in batch])


def _backbone_share(hub: Path, file: Path) -> float:
    """Share of processor time, with all of it in this process."""
    seconds = dict.fromkeys(("to_graphs", "embed"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **options: object) -> Any:
            start = time.process_time()
            result = function(*args, **options)
            seconds[name] += time.process_time() - start
            return result

        return call

    with (
        patch.object(CHGNetBackbone, "to_graphs", timed("to_graphs", CHGNetBackbone.to_graphs)),
        patch.object(loaded_learners, "embed", timed("embed", loaded_learners.embed)),
        patch.object(prefetch, "n_cores", lambda: 1),
    ):
        start = time.process_time()
        _screened(hub, file)
        return sum(seconds.values()) / (time.process_time() - start)


def _cold(hub: Path, folder: Path) -> list[dict[str, Any]]:
    """Ask for one CIF in a new process; say what importing takes of it."""
    cif = folder / "one.cif"
    with gzip.open(DATA / "paper" / f"{SOURCE}.jsonl.gz", "rt") as lines:
        pymatgen(json.loads(next(lines))["structure"]).to(filename=str(cif))
    command = [sys.executable, "-m", "moma_cli", "--hub", str(hub), "predict", SOURCE, str(cif)]
    _seconds(command)
    whole = min(_seconds(command) for _ in range(3))
    modules = "scipy.spatial.distance, moma_cl.commands.predict"
    imports = min(_seconds([sys.executable, "-c", f"import {modules}"]) for _ in range(3))
    return [
        _row("predict for one CIF, cold process", whole, None, "s", None, "<= 5 s", whole <= 5),
        _row("of which importing", imports, None, "s", None, None, None),
    ]


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


def _row(  # noqa: PLR0917  the columns of the table
    name: str,
    ours: float,
    theirs: float | None,
    unit: str,
    ratio: float | None,
    bar: str | None,
    holds: bool | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": ratio,
        "bar": bar,
        "holds": holds,
    }
