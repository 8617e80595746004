"""What the parts of a pass cost: neighbours, weights, and a pass with nothing to do.

Processor time of one thread, so that neighbours do not count; `benchmarks.arrivals` has what embeds
structures.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from benchmarks.light import _hub as light_hub
from moma_cl.learning import weights
from moma_cl.learning.estimate import knn_leave_one_out
from moma_cl.recipe import EstimateSettings
from moma_cl.records.records import Estimate
from moma_cl.records.refs import RefKind
from moma_store.store import Store

N_RECORDS = 10_000
N_FEATURES = 64
KNN_ROWS = (1_000, 5_000, 20_000, 50_000)
REPEATS = 7

Row = dict[str, Any]
Features = NDArray[np.float64]


def run() -> list[Row]:
    """Measure everything."""
    with threadpool_limits(limits=1):
        rows = [row for n_rows in KNN_ROWS for row in knn(n_rows)]
        return [*rows, knn_memory(), solving(18, 0.005), solving(512, 0.3), nothing_stale()]


# neighbours


def knn(n_rows: int) -> list[Row]:
    """Compare leave-one-out prediction with scikit-learn's, where all differ and where many tie."""
    return [
        row
        for what, features in _embeddings(n_rows).items()
        for row in _compared(f"leave-one-out kNN, {n_rows:,} x {N_FEATURES}, {what}", features)
    ]


def _compared(name: str, features: Features) -> list[Row]:
    n_rows = len(features)
    targets = np.random.default_rng(1).normal(size=n_rows)
    settings = EstimateSettings(estimator="knn", duplicate_distance=-1.0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    search = NearestNeighbors(n_neighbors=settings.k, algorithm="brute", metric="cosine")
    euclidean = NearestNeighbors(n_neighbors=settings.k, algorithm="brute")
    repeats = 1 if n_rows > 5_000 else REPEATS
    ours, found = _cpu(
        lambda: knn_leave_one_out(features, targets, np.arange(n_rows), settings), repeats
    )
    # without an argument the rows themselves are asked for, each without itself
    theirs, (distances, near) = _cpu(lambda: search.fit(features).kneighbors(), repeats)
    other, _ = _cpu(lambda: euclidean.fit(unit).kneighbors(), repeats)
    rows = [
        _row(f"{name}, scikit-learn cosine", (ours, theirs), "s", theirs / ours, (">=", 1.0)),
        _row(f"{name}, scikit-learn on unit vectors", (ours, other), "s", other / ours),
    ]
    if "differ" in name:  # where rows tie, either choice is right
        share = np.exp((1.0 - distances) / settings.temperature)
        expected = (share * targets[near]).sum(axis=1) / share.sum(axis=1)
        worst = float(np.abs(found - expected).max())
        rows.append(_row(f"{name}, largest difference", (worst, None), "", worst, ("<=", 1e-9)))
    return rows


def _embeddings(n_rows: int) -> dict[str, Features]:
    generator = np.random.default_rng(0)
    distinct = generator.normal(size=(n_rows, N_FEATURES))
    tied = distinct[generator.integers(0, max(2, n_rows // 3), size=n_rows)]
    return {"all differ": distinct, "many tie": tied}


def knn_memory() -> Row:
    """See that the largest memory grows no faster than the rows."""
    peaks = []
    for n_rows in (5_000, 10_000, 20_000):
        features = _embeddings(n_rows)["all differ"]
        tracemalloc.start()
        knn_leave_one_out(
            features, features[:, 0], np.arange(n_rows), EstimateSettings(estimator="knn")
        )
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    growth = max(after / before for before, after in pairwise(peaks))
    name = "kNN memory, 20,000 rows; its growth when rows double"
    return _row(name, (peaks[-1], None), "MB", growth, ("<=", 2.0))


def solving(n_modules: int, bar: float) -> Row:
    """Measure the weights once the Gram matrix is there."""
    generator = np.random.default_rng(0)
    target = generator.normal(size=2_000)
    columns = target[:, None] + generator.normal(size=(2_000, n_modules)) * np.linspace(
        0.5, 2.0, n_modules
    )
    residuals = columns - target[:, None]
    gram = residuals.T @ residuals / len(target)

    def solve() -> Any:
        values = weights._exchange(gram, weights._interior_point(gram))
        return weights._pruned(gram, values, 1e-6)

    seconds, _ = _cpu(solve, REPEATS)
    name = f"weights of {n_modules} modules after the Gram matrix"
    return _row(name, (seconds, None), "s", seconds, ("<=", bar))


# a hub with nothing to do


def nothing_stale() -> Row:
    """Update a hub of many records in which nothing is stale."""
    with tempfile.TemporaryDirectory() as folder:
        hub = light_hub(Path(folder))
        _fill(hub)
        command = [sys.executable, "-m", "moma_cli", "--hub", str(hub), "update"]
        ours, bare = [], []
        for _ in range(REPEATS):
            ours.append(_started(command))
            bare.append(_started([sys.executable, "-c", "pass"]))
    more = statistics.median(ours) - statistics.median(bare)
    name = f"update, {N_RECORDS:,} records, nothing stale, more than a bare start"
    return _row(name, (statistics.median(ours), statistics.median(bare)), "s", more, ("<=", 1.0))


def _fill(hub: Path) -> None:
    """Add memos with their records, as years of estimates leave them."""
    with Store.open(hub, write=True) as store:
        dataset = next(iter(store.refs(RefKind.DATASET.prefix).values()))
        for start in range(0, N_RECORDS, 500):
            with store.transaction("fill") as transaction:
                for number in range(start, start + 500):
                    record = Estimate(
                        module=None, dataset=dataset, blob=None, mae=None, excluded=str(number)
                    )
                    digest = transaction.put_record(record.to_doc())
                    transaction.put_memo(f"estimate:{digest}", digest, 1.0)


def _cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Least processor time, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def _started(command: list[str]) -> float:
    """Processor time of a process, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _row(
    name: str,
    measured: tuple[float, float | None],
    unit: str,
    figure: float,
    bar: tuple[str, float] | None = None,
) -> Row:
    holds = None
    if bar is not None:
        holds = figure >= bar[1] if bar[0] == ">=" else figure <= bar[1]
    return {
        "name": name,
        "ours": measured[0],
        "theirs": measured[1],
        "unit": unit,
        "ratio": figure,
        "bar": None if bar is None else f"{bar[0]} {bar[1]:g}",
        "holds": holds,
    }
