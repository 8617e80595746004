"""What it costs to bring compositions up to date, against doing everything again.

``ONLY=composer`` runs all; ``python -c "from benchmarks import composer; composer.light()"`` leaves
out what embeds structures. Processor time of one thread, so that neighbours do not count; a pass is
in wall time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from benchmarks.light import _hub as light_hub
from moma_cl import service
from moma_cl.backbones.parameters import rounded
from moma_cl.composition import weights
from moma_cl.composition.estimate import knn_leave_one_out
from moma_cl.progress import quiet
from moma_cl.recipe import EstimateSettings, Recipe
from moma_cl.reconciling.composer import Composer
from moma_cl.reconciling.derivations import Derivation, DerivationKind
from moma_cl.records import Composition, Estimate, Module, ModuleKind
from moma_cl.workbench import Workbench, hub_of
from moma_store.store import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "paper"
TASKS = {
    "jarvis_2d_dielectric_opt": "dielectric_constant",
    "jarvis_2d_eform": "formation_energy",
    "jarvis_2d_exfoliation": "exfoliation_energy",
    "mp_elastic_anisotropy": "elastic_anisotropy",
    "mp_eps_electronic": "log_eps_electronic",
    "mp_phonons": "log_last_phdos_peak",
    "mp_poisson_ratio": "poisson_ratio",
    "mp_poly_electronic": "poly_electronic",
    "mp_poly_total": "poly_total",
    "jarvis_2d_eform_again": "formation_energy",
}
N_MODULES = 18
N_RECORDS = 10_000
N_FEATURES = 64
KNN_ROWS = (1_000, 5_000, 20_000, 50_000)
REPEATS = 7

Row = dict[str, Any]
Features = NDArray[np.float64]


def run() -> list[Row]:
    """Measure everything."""
    return [*light(), *arrival(), *more_rows()]


def light() -> list[Row]:
    """Measure what needs no structures."""
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
            ours.append(_wall(lambda: subprocess.run(command, check=True)))
            bare.append(_wall(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)))
    more = statistics.median(ours) - statistics.median(bare)
    name = f"update, {N_RECORDS:,} records, nothing stale, more than a bare start"
    return _row(name, (statistics.median(ours), statistics.median(bare)), "s", more, ("<=", 1.0))


def _fill(hub: Path) -> None:
    """Add memos with their records, as years of estimates leave them."""
    with Store.open(hub, write=True) as store:
        dataset = next(iter(store.refs("datasets/").values()))
        for start in range(0, N_RECORDS, 500):
            with store.transaction("fill") as transaction:
                for number in range(start, start + 500):
                    record = Estimate(
                        module=None, dataset=dataset, blob=None, mae=None, excluded=str(number)
                    )
                    digest = transaction.put_record(record.to_doc())
                    transaction.put_memo(f"estimate:{digest}", digest, 1.0)


# what arrives, against everything again


class Composing(Composer):
    """Makes estimates and compositions only."""

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Derive them; everything else is not known."""
        if derivation.kind in {DerivationKind.ESTIMATE, DerivationKind.COMPOSITION}:
            return super().derive(derivation, why)
        return None


def arrival() -> list[Row]:
    """Let module 19 come to ten tasks: only its estimates and what follows from them are due."""
    with _hubs() as (step_by_step, at_once):
        for hub in (step_by_step, at_once):
            _bring_tasks(hub)
        last = _bring_modules(step_by_step, N_MODULES + 1, hold_back=1)
        _bring_modules(at_once, N_MODULES + 1)
        _compose(step_by_step)
        _move_in(step_by_step, last)
        incremental, scratch = _compose(step_by_step), _compose(at_once)
        same = _compositions(step_by_step) == _compositions(at_once)
    name = f"module {N_MODULES + 1} arrives at {len(TASKS)} tasks, against from scratch"
    return [
        _row(name, (incremental, scratch), "s", scratch / incremental, (">=", 10.0)),
        _row(f"{name}: identical records", (float(same), None), "", float(same), (">=", 1.0)),
    ]


def more_rows() -> list[Row]:
    """Append a tenth more rows to one task; the others stay as they are."""
    name = "mp_phonons"
    with _hubs() as (step_by_step, at_once):
        for hub in (step_by_step, at_once):
            _bring_tasks(hub, short=name)
            _bring_modules(hub, N_MODULES)
        _compose(step_by_step)
        others = _compositions(step_by_step)
        for hub in (step_by_step, at_once):
            service.add_data(hub, name, [_part(name, last=True)], compose=False)
        incremental = _compose(step_by_step, [name])
        scratch = _compose(at_once, [name])
        after = _compositions(step_by_step)
        changed = {ref for ref in others if after[ref] != others[ref]}
        ref = f"compositions/{name}"
        same = after[ref] == _compositions(at_once)[ref]
    what = "a tenth more rows for one task, against from scratch"
    as_it_should = float(same and changed <= {ref})
    return [
        _row(what, (incremental, scratch), "s", scratch / incremental, (">=", 5.0)),
        _row(f"{what}: same record, others untouched", (as_it_should, None), "", as_it_should),
    ]


@contextmanager
def _hubs() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        hubs = (Path(folder) / "steps", Path(folder) / "once")
        for hub in hubs:
            # module zero is one of the candidates
            settings = EstimateSettings(max_candidates=N_MODULES + 2)
            service.init(hub, recipe=replace(Recipe(), estimate=settings))
        yield hubs


def _bring_tasks(hub: Path, short: str | None = None) -> None:
    for name, target in TASKS.items():
        source = _part(name) if name == short else DATA / f"{name.removesuffix('_again')}.jsonl.gz"
        service.add_task(hub, name, [source], target=target, unit="1", compose=False)


def _part(name: str, *, last: bool = False) -> Path:
    """Write the first ten elevenths of a file, or the rest."""
    import gzip

    lines = gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes()).splitlines(keepends=True)
    cut = len(lines) * 10 // 11
    path = Path(tempfile.gettempdir()) / f"{name}-{'last' if last else 'first'}.jsonl"
    path.write_bytes(b"".join(lines[cut:] if last else lines[:cut]))
    return path


def _bring_modules(hub: Path, n_modules: int, *, hold_back: int = 0) -> dict[str, str]:
    """Have just so many modules: those the hub started with, then perturbed backbones."""
    with Store.open(hub, write=True) as store:
        present = dict(list(store.refs("modules/").items())[:n_modules])
        for name, digest in list(store.refs("modules/").items())[n_modules:]:
            _move(store, name, None, digest)
        for number in range(len(present), n_modules):
            name = f"modules/perturbed-{number:02d}"
            present[name] = _perturbed(store, number)
            _move(store, name, present[name], None)
        held = dict(list(present.items())[n_modules - hold_back :])
        for name, digest in held.items():
            _move(store, name, None, digest)
    return held


def _move_in(hub: Path, modules: dict[str, str]) -> None:
    with Store.open(hub, write=True) as store:
        for name, digest in modules.items():
            _move(store, name, digest, None)


def _move(store: Store, name: str, new: str | None, old: str | None) -> None:
    with store.transaction("module") as transaction:
        transaction.move_ref(name, new, expected=old)


def _perturbed(store: Store, number: int) -> str:
    hub = hub_of(store)
    base = store.blob(hub.parameters).arrays["parameters"]
    noise = np.random.default_rng(number).normal(size=len(base)).astype("f4")
    vector = rounded(base * (1 + 0.02 * noise), base, 8)
    arrays = {"parameters": vector, "fingerprints": np.zeros(0, "u8")}
    record = Module(
        hub=store.refs()["hub"],
        module=ModuleKind.FULL,
        property=f"perturbation {number}",
        dataset=None,
        blob=store.put_blob(arrays, {"kind": "module-arrays", "format": 1}, base=hub.parameters),
        n_train=0,
        n_validation=0,
        validation_mae=0.0,
        unit="1",
        epochs=0,
        settings={},
        made_by={},
        source={},
    )
    with store.transaction("module") as transaction:
        digest = transaction.put_record(record.to_doc())
        transaction.move_ref(f"scratch/{number}", digest, expected=store.ref(f"scratch/{number}"))
    return digest


def _compose(hub: Path, tasks: list[str] | None = None) -> float:
    """Bring estimates, compositions and merges up to date; seconds."""
    start = time.perf_counter()
    with Store.open(hub, write=True) as store:
        before = store.refs("compositions/")
        Composing(store=store, progress=quiet).run(only=tasks)
        with Workbench(store=store, progress=quiet) as bench:
            for name, digest in store.refs("compositions/").items():
                if before.get(name) != digest:
                    bench.merged(Composition.from_doc(store.record(digest)))
    return time.perf_counter() - start


def _compositions(hub: Path) -> dict[str, str]:
    with Store.open(hub) as store:
        return store.refs("compositions/")


def _cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Least processor time, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def _wall(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
