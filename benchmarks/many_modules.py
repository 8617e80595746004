"""A hub of hundreds of modules: how long the screening takes, and what it costs in error.

Modules are those that a CHGNet hub starts with and seeded, perturbed mixes of them. ``python -m
benchmarks many_modules`` lets one task come to 500 of them. ``python -m benchmarks.many_modules
--modules 100 --out FILE`` compares the kernel head on a composition of screened candidates with the
one on a composition of all, task by task; that takes hours with 500.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.arrivals import BACKBONE, Composing, bring, mixed_modules
from benchmarks.paper.tasks import TASKS, PaperTask
from moma_cl.derivations.derive import derive
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.reconciling.executors import ExecutorKind, ExecutorSettings, open_executor
from moma_cl.reconciling.task_derivations import kernel_derivation
from moma_cl.records.records import Composition, Learner, ModuleKind
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_state
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

N_MODULES = 500
N_ROWS = 900
ARRIVING = "mp_phonons"
NOISE = 1.0
WITHIN = 1.01  # times the error without screening

Row = dict[str, Any]


def run() -> list[Row]:
    """Let one task come to a hub of 500 modules."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        mixes = mixed_modules(place / "mixes", N_MODULES, seed=0, noise=NOISE)
        task = next(task for task in TASKS if task.name == ARRIVING)
        return [
            _arrives(place / "one", task, mixes, ExecutorSettings()),
            _arrives(
                place / "two", task, mixes, ExecutorSettings(kind=ExecutorKind.DASK, workers=2)
            ),
        ]


def _arrives(hub: Path, task: PaperTask, mixes: list[Path], executor: ExecutorSettings) -> Row:
    Hub(hub).init(backbones=[BACKBONE])
    bring(hub, mixes)
    _add(hub, task, _first_rows(hub.parent, task))
    start, processor = time.perf_counter(), time.process_time()
    with Store.open(hub, write=True) as store, open_executor(executor) as running:
        Composing(store=store, progress=quiet, executor=running).run()
        composition = _composition(store, task.name)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    where = "two dask workers" if running else f"one process, {processor:.0f} s of processor time"
    return {
        "name": f"{N_ROWS} rows come to {N_MODULES} modules ({composition.n_candidates} candidates"
        f" left), {where}",
        "ours": seconds,
        "theirs": None,
        "unit": "s",
        "ratio": None,
        "bar": None if running else "<= 180 s",
        "holds": None if running else seconds <= 180.0,
    }


def _first_rows(place: Path, task: PaperTask) -> Path:
    lines = gzip.decompress(task.file.read_bytes()).splitlines(keepends=True)
    path = place / f"{task.name}.jsonl"
    path.write_bytes(b"".join(lines[:N_ROWS]))
    return path


def _add(hub: Path, task: PaperTask, source: Path) -> None:
    Hub(hub).add_task(
        task.name,
        [source],
        target=task.target,
        unit=task.unit,
        module=ModuleKind.FULL,
        fold_column="fold_0",
        compose=False,
    )


def _composition(store: Store, task: str) -> Composition:
    digest = store.ref(RefKind.COMPOSITION.on(task, BACKBONE))
    assert digest is not None
    return Composition.from_doc(store.record(digest))


# what screening costs in error


def compare(task: PaperTask, hub: Path) -> Row:
    """Compose a task of screened modules, then of all, and fit the kernel head on either.

    Parameters
    ----------
    task
        The task.
    hub
        A hub with the modules; tasks of the same structures share their embeddings there.

    Returns
    -------
    Row
        Held-out errors in the task's unit, and what else there is to see.
    """
    _add(hub, task, task.file)
    screened = _fitted(hub, task)
    with Store.open(hub) as store:
        n_modules = len(store.refs(RefKind.MODULE.prefix))
    every = {"estimate": {"max_candidates": n_modules + 1}}
    Hub(hub).set_recipe(task.name, every, compose=False)
    without = _fitted(hub, task)
    ratio = screened["held_out"] / without["held_out"]
    return {
        "name": f"{task.name}: held-out error, screened, against all {n_modules} modules",
        "ours": screened["held_out"],
        "theirs": without["held_out"],
        "unit": task.unit,
        "ratio": ratio,
        "bar": f"<= {WITHIN:g}",
        "holds": ratio <= WITHIN,
        "screened": screened,
        "without": without,
    }


def _fitted(hub: Path, task: PaperTask) -> dict[str, float]:
    start = time.process_time()
    with Store.open(hub, write=True) as store:
        Composing(store=store, progress=quiet).run()
        composed = time.process_time() - start
        composition = _composition(store, task.name)
        fit = kernel_derivation(
            task_state(store, task.name),
            BACKBONE,
            str(store.ref(RefKind.COMPOSITION.on(task.name, BACKBONE))),
        )
        with Workspace(store=store, progress=quiet) as workspace:
            record = derive(workspace, fit).record
    assert isinstance(record, Learner)
    assert record.held_out_mae is not None
    return {
        "held_out": record.held_out_mae,
        "validation": record.validation_mae,
        "objective": composition.objective,
        "modules": len(composition.modules),
        "seconds": round(composed, 1),
    }


def main() -> None:
    """Compare task by task, and write each line as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_modules")
    parser.add_argument("--modules", type=int, default=N_MODULES)
    parser.add_argument("--tasks", default=",".join(task.name for task in TASKS))
    parser.add_argument("--out", type=Path, default=Path("screening_of_modules.jsonl"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        hub = place / "hub"
        Hub(hub).init(backbones=[BACKBONE])
        bring(hub, mixed_modules(place / "mixes", given.modules, seed=0, noise=NOISE))
        for task in (task for task in TASKS if task.name in given.tasks.split(",")):
            line = json.dumps(compare(task, hub))
            print(line, flush=True)
            with given.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
