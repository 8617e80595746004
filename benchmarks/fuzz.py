"""Mutated input files: no crash, no hang, every file and every row with a status.

``python -m benchmarks fuzz`` goes on where it stopped: after every batch the counts are written to
``benchmarks/results/fuzz_progress.json``. ``MOMA_CL_FUZZ`` sets how many files are made (50,000).
Files are made from valid ones of every format by `moma_cl.testing.input_files`, each from a seed
of its own, so that file N is the same in every run. One process parses them all; it starts anew
only when it had to be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moma_cl.readers.dispatch import Reader, Reading
from moma_cl.readers.formats import InputFormat
from moma_cl.readers.text_parser import Limits, StructureParser
from moma_cl.structures.checks import check_crystal
from moma_cl.testing.input_files import mutants
from moma_store.errors import InvalidInputError

TARGET = 50_000
BATCH = 100
LIMITS = Limits()  # what users have
PROGRESS = Path(__file__).parent / "results" / "fuzz_progress.json"


def read_batch(reader: Reader, first: int, count: int) -> tuple[Counter[str], float]:
    """Read some mutated files; the statuses of their rows, and the slowest file, s."""
    statuses: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, content in mutants(first, count):
            path = Path(folder) / name
            path.write_bytes(content)
            started = time.perf_counter()
            rows = 0
            for row in reader.rows([path]):
                problem = row.error or (check_crystal(row.crystal) if row.crystal else None)
                statuses[problem.code if problem else "ok"] += 1
                rows += 1
            statuses["(files without a row)"] += rows == 0
            slowest = max(slowest, time.perf_counter() - started)
            path.unlink()
        left = sorted(Path(folder).iterdir())
        if left:
            raise AssertionError(f"a file was written: {left[0]}")
    return statuses, slowest


def fuzz(
    target: int, state: dict[str, Any], after_batch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Go on until as many files were read."""
    with StructureParser(LIMITS) as parser:
        reader = Reader(parser, Reading())
        _start(parser)
        while state["files"] < target:
            count = min(BATCH, target - state["files"])
            started = time.perf_counter()
            statuses, slowest = read_batch(reader, state["files"], count)
            state["files"] += count
            state["seconds"] += time.perf_counter() - started
            state["slowest"] = max(state["slowest"], slowest)
            state["statuses"] = dict((Counter(state["statuses"]) + statuses).most_common())
            after_batch(state)
    return state


def _start(parser: StructureParser) -> None:
    """Start the process, which shall count for no file."""
    with contextlib.suppress(InvalidInputError):
        parser.parse("data_", InputFormat.CIF)


def fresh() -> dict[str, Any]:
    """Begin a count."""
    return {"files": 0, "seconds": 0.0, "slowest": 0.0, "statuses": {}}


def _write(state: dict[str, Any]) -> None:
    PROGRESS.parent.mkdir(exist_ok=True)
    PROGRESS.write_text(json.dumps(state, indent=1) + "\n")
    if state["files"] % 1000 == 0:
        rows = sum(state["statuses"].values())
        print(f"{state['files']:,} files, {rows:,} rows, {state['seconds']:.0f} s", flush=True)


def run() -> list[dict[str, Any]]:
    """Read the files that are left, and report."""
    target = int(os.environ.get("MOMA_CL_FUZZ", TARGET))
    state = json.loads(PROGRESS.read_text()) if PROGRESS.exists() else fresh()
    state = fuzz(target, state, _write)
    statuses = state["statuses"]
    silent = statuses.get("(files without a row)", 0)
    return [
        _row(
            "mutated files read",
            float(state["files"]),
            "files",
            ">= 50000",
            state["files"] >= TARGET,
        ),
        _row("rows with a status", float(sum(statuses.values()) - silent), "rows", "-", None),
        _row("rows that are good", float(statuses.get("ok", 0)), "rows", "-", None),
        _row("files that hold no row", float(silent), "files", "-", None),
        _row("slowest file", state["slowest"], "s", "-", None),
        _row(
            "rate on one core", state["files"] / max(state["seconds"], 1e-9), "files/s", "-", None
        ),
        *(
            _row(f"status {code}", float(count), "rows", "-", None)
            for code, count in statuses.items()
        ),
    ]


def _row(name: str, ours: float, unit: str, bar: str, holds: bool | None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": None,
        "unit": unit,
        "ratio": None,
        "bar": bar,
        "holds": holds,
    }
