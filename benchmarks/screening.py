"""Screening: thousands of structures through ``predict``, and one through a cold process.

Against a loop over the chgnet package's batch prediction of the same structures, with as
many cores: graphs and energies only, while ``predict`` also reads and checks rows, gives intervals
and neighbours, and writes lines. ``MOMA_CL_BENCH_STRUCTURES`` sets how many.
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
from benchmarks.structures import DATA, pymatgen
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs import prefetch
from moma_cl.hub import Hub
from moma_cl.predictors import loaded_learners
from moma_cl.records.records import ModuleKind

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
        hub = Path(folder) / "hub"
        Hub(hub).init(backbones=["chgnet"])
        Hub(hub).add_task(
            SOURCE,
            [DATA / "paper" / f"{SOURCE}.jsonl.gz"],
            target="log_last_phdos_peak",
            unit="1",
            fold_column="fold_0",
            module=ModuleKind.NONE,
            compose=False,
        )
        file = _structures(Path(folder) / "structures.jsonl", COUNT)
        return [*_screening(hub, file), *_cold(hub, Path(folder))]


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


def _screening(hub: Path, file: Path) -> list[dict[str, Any]]:
    few = _structures(file.with_name("few.jsonl"), COUNT, step=10)
    grown_few, grown = (_grown_in_new_process(hub, one) for one in (few, file))
    _screened(hub, few)  # warm up
    start = time.perf_counter()
    answered = _screened(hub, file)
    ours = 1e3 * (time.perf_counter() - start) / COUNT
    theirs = 1e3 * _package_seconds(file)
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


def _screened(hub: Path, file: Path) -> int:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  no file
        count = 0
        for row in Hub(hub).iter_predictions(SOURCE, [file]):
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


def _package_seconds(file: Path) -> float:
    """Seconds a structure of the chgnet package, structures made beforehand."""
    from chgnet.model import CHGNet

    torch.set_num_threads(THREADS)
    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    with file.open() as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, 0, None, PACKAGE_SHARE)]
    structures = [pymatgen(row["structure"]) for row in rows]
    model.predict_structure(structures[:BATCH], task="e", batch_size=BATCH)
    start = time.perf_counter()
    model.predict_structure(structures, task="e", batch_size=BATCH)
    return (time.perf_counter() - start) / len(structures)


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
