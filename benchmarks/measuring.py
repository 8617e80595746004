"""What benchmarks measure with: time of sides that run in turn, memory, rows of a table."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

BATCH = 32
ROUNDS = 5

Step = Callable[[], object]


def medians(steps: Sequence[Step], rounds: int = ROUNDS, warm: int = 1) -> list[float]:
    """Median seconds of each, run in turn after some rounds to warm up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds + warm):
        for step, measured in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            if turn >= warm:
                measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]


def each(action: Callable[[Any], object], items: Sequence[Any]) -> list[object]:
    return [action(item) for item in items]


def stepper(action: Callable[[Any], object], batches: Sequence[Any]) -> Step:
    """Visit the batches in turn."""
    turn = cycle(batches)
    return lambda: action(next(turn))


def batches(graphs: list[Any], size: int = BATCH) -> list[list[Any]]:
    return [graphs[start : start + size] for start in range(0, len(graphs) - size + 1, size)]


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def row(  # noqa: PLR0917  the columns of the table
    name: str, ours: float, theirs: float | None, unit: str, ratio: float | None, bar: float | None
) -> dict[str, Any]:
    """Make a row of a table whose ratio is to be at least the bar."""
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": ratio,
        "bar": None if bar is None else f">= {bar:g} x",
        "holds": None if bar is None or ratio is None else ratio >= bar,
    }


def at_most(  # noqa: PLR0917  the columns of the table
    name: str, ours: float, theirs: float | None, unit: str, value: float | None, bar: float | None
) -> dict[str, Any]:
    """Make a row of a table whose value is to be at most the bar."""
    made = row(name, ours, theirs, unit, None if theirs is None else value, None)
    holds = None if bar is None or value is None else value <= bar
    text = None if bar is None else f"<= {bar:g} {'x' if theirs is not None else unit}"
    return made | {"bar": text, "holds": holds}


def in_a_process(benchmark: str, call: str) -> list[float]:
    """Run a call of a benchmark in a fresh process, and give the numbers that it prints last."""
    code = f"from benchmarks import {benchmark}; {benchmark}.{call}"
    root = Path(__file__).resolve().parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    return [float(word) for word in ended.stdout.splitlines()[-1].split()]
