"""Errors after few rows: ``python -m benchmarks.paper.few_rows [--rows 10,30,100] [--draws 2]``.

A task is added with rows drawn from the training rows of a split, as a user with that many values
adds one, and its predictor answers the held-out rows. What is in ``few_rows.csv`` already is not
computed again, so a run can be stopped at any time; several processes share the work if each has
tasks of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper import results
from benchmarks.paper.__main__ import (
    ANSWERING,
    BACKBONES,
    BUILD,
    FITS,
    FROM_BACKBONE,
    FROM_MULTITASK,
    KERNEL,
    KERNEL_ON_MULTITASK,
    VARIANTS,
    make_hub,
)
from benchmarks.paper.answers import learners_of, load, save
from benchmarks.paper.fits import kept_fits
from benchmarks.paper.results import FewRows
from benchmarks.paper.tasks import N_SPLITS, TASKS, PaperTask
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.hub import Hub
from moma_cl.predictors.loaded_learners import LoadedLearners
from moma_cl.predictors.predictor import load_predictor
from moma_cl.progress import quiet
from moma_cl.readers.dispatch import read_rows
from moma_cl.records.hub import backbones_of
from moma_cl.records.records import Composition, ModuleKind, Predictor
from moma_cl.records.refs import RefKind, full_name
from moma_cl.structures.crystals import Crystal
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

Floats = NDArray[np.float64]

FOLDER = BUILD / "few_rows"
MANY = 150  # rows from which encoders are fine-tuned too
HUBS = ("composed", "multitask", "alone")
COMPOSED, MEDIAN = "composed", "median"
_IN_COMPOSED = {
    method: learner
    for method, learner in VARIANTS["composed"].learners.items()
    if learner != ANSWERING
}


def _simple() -> dict[str, tuple[str, ...]]:
    """Name what composes nothing: learners of each method, on each backbone and on both."""
    one = {
        "kernel": f"multitask/{KERNEL}",
        "mt-kernel": f"multitask/{KERNEL_ON_MULTITASK}",
        "mt": f"multitask/{FROM_MULTITASK}",
        "ft": f"alone/{FROM_BACKBONE}",
    }
    several = {
        **{method: (learner,) for method, learner in one.items()},
        "kernels": (one["kernel"], one["mt-kernel"]),
        "mean": (one["kernel"], one["ft"]),
        "mean-mt": (one["mt-kernel"], one["mt"]),
    }
    places = {**{name: (name,) for name in BACKBONES}, "both": BACKBONES}
    return {
        f"{method}@{place}": tuple(full_name(one, name) for one in learners for name in names)
        for method, learners in several.items()
        for place, names in places.items()
    }


SIMPLE = _simple()
"""The learners whose mean answers, with their hubs, by method."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskRows:
    """All rows of a task's file.

    Attributes
    ----------
    docs
        Rows as they are added to a hub.
    crystals
        Their structures.
    targets
        In the task's unit, shape ``(n_rows,)``.
    """

    docs: list[dict[str, Any]]
    crystals: list[Crystal]
    targets: Floats

    def of(self, split: int, fold: str) -> NDArray[np.intp]:
        """Give the numbers of the rows of a fold, ascending."""
        return np.flatnonzero([doc[f"fold_{split}"] == fold for doc in self.docs])


@cache
def rows_of(task: PaperTask) -> TaskRows:
    """Read the rows of a task's file.

    Parameters
    ----------
    task
        Which task.

    Returns
    -------
    TaskRows
        All of them, in the order of the file.
    """
    with gzip.open(task.file, "rt") as stream:
        docs = [json.loads(line) for line in stream]
    crystals = [row.crystal for row in read_rows([task.file], strict=True) if row.crystal]
    return TaskRows(
        docs=docs, crystals=crystals, targets=np.array([float(doc[task.target]) for doc in docs])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is measured in one go: the rows that a task is added with, and those it answers.

    Attributes
    ----------
    fold
        Whose rows are answered: `held-out`, or `validation` to compare ways to learn.
    """

    task: PaperTask
    split: int
    n_rows: int
    draw: int
    fold: str

    @property
    def name(self) -> str:
        """Name of the task in hubs."""
        return f"{self.task.name}-{self.split}-{self.n_rows}-{self.draw}"

    @property
    def drawn(self) -> NDArray[np.intp]:
        """Numbers of the rows that it is added with; of one draw, fewer are among more."""
        training = rows_of(self.task).of(self.split, "train")
        order = np.random.default_rng([self.split, self.draw]).permutation(training)
        return order[: self.n_rows]

    def hub(self, variant: str) -> Path:
        """Give the hub of a variant; it has every cell of one task."""
        return FOLDER / f"{variant}-{self.task.name}"

    def kept(self, variant: str) -> Path:
        """Give the file of the learners' answers to rows that judge them."""
        return FOLDER / "answers" / f"{variant}-{self.name}.npz"

    @property
    def answered(self) -> NDArray[np.intp]:
        """Numbers of the rows that are answered."""
        return rows_of(self.task).of(self.split, self.fold)

    def line(self, method: str, answers: Floats | float, judged_mae: float) -> FewRows:
        """Measure one method.

        Parameters
        ----------
        method
            Its name.
        answers
            In the task's unit, shape ``(n_answered,)``, or the same for all.
        judged_mae
            The error by which it would be chosen.

        Returns
        -------
        FewRows
            A line of the table.
        """
        targets = rows_of(self.task).targets[self.answered]
        return FewRows(
            task=self.task.name,
            split=self.split,
            fold=self.fold,
            n_rows=self.n_rows,
            draw=self.draw,
            method=method,
            mae=float(np.abs(answers - targets).mean()),
            judged_mae=judged_mae,
            commit=results.commit(),
        )


def main(arguments: list[str]) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper.few_rows", description=__doc__
    )
    parser.add_argument("--tasks", default=",".join(task.name for task in TASKS))
    parser.add_argument("--splits", default=",".join(map(str, range(N_SPLITS))))
    parser.add_argument("--rows", default="10,30,100")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--fold", default="held-out", choices=["held-out", "validation"])
    given = parser.parse_args(arguments)
    wanted = set(given.tasks.split(","))
    cells = [
        Cell(task=task, split=int(split), n_rows=int(n_rows), draw=draw, fold=given.fold)
        for draw in range(given.draws)
        for split in given.splits.split(",")
        for n_rows in given.rows.split(",")
        for task in TASKS
        if task.name in wanted
    ]
    for cell in cells:
        _fill(cell)
    return 0


def _fill(cell: Cell) -> None:
    """Measure one cell, unless the table has it."""
    present = {line.key for line in results.read(FewRows, results.FEW_ROWS)}
    if cell.line(COMPOSED, 0.0, 0.0).key in present:
        return
    start = time.perf_counter()
    fitted = {hub: _fitted(cell, hub) for hub in HUBS if hub != "alone" or cell.n_rows >= MANY}
    answers = {f"{hub}/{name}": own for hub in fitted for name, own in _answers(cell, hub).items()}
    judged = load({f"{hub}/": cell.kept(hub) for hub in fitted}, "validation")
    composed = fitted["composed"]
    by_method = {method: (f"composed/{name}",) for method, name in _IN_COMPOSED.items()} | SIMPLE
    lines = [
        _median_line(cell),
        cell.line(
            COMPOSED, answers[f"composed/{ANSWERING}"], composed.validation_maes[composed.method]
        ),
        *(
            cell.line(method, np.mean([answers[name] for name in names], axis=0), judged.mae(names))
            for method, names in by_method.items()
            if set(names) <= answers.keys()
        ),
    ]
    results.append(lines, results.FEW_ROWS)
    ratio = lines[1].mae / lines[0].mae
    print(
        f"{cell.name}: {ratio:.3f} of the median's, {time.perf_counter() - start:.0f} s", flush=True
    )


def _fitted(cell: Cell, variant: str) -> Predictor:
    """Add the task to a hub as its users do, unless it is there."""
    hub = cell.hub(variant)
    if not (hub / "hub.toml").exists():
        make_hub(hub, VARIANTS[variant])
    with Store.open(hub) as store:
        fitted = store.ref(RefKind.FITTED.of(cell.name))
    if fitted is None:
        docs = rows_of(cell.task).docs
        with kept_fits(FITS):
            Hub(hub).add_task(
                cell.name,
                [docs[row] for row in cell.drawn],
                target=cell.task.target,
                unit=cell.task.unit,
                transform=cell.task.transform,
                module=ModuleKind.NONE,
            )
    with Store.open(hub) as store:
        digest = store.ref(RefKind.FITTED.of(cell.name))
        assert digest is not None
        predictor = Predictor.from_doc(store.record(digest))
    save(hub, predictor, cell.kept(variant))
    return predictor


def _answers(cell: Cell, variant: str) -> dict[str, Floats]:
    """Let the predictor and each learner by itself answer the rows of the fold."""
    crystals = [rows_of(cell.task).crystals[row] for row in cell.answered]
    with (
        Store.open(cell.hub(variant)) as store,
        Workspace(store=store, progress=quiet) as workspace,
        ByteCache(FOLDER / f"graphs-{cell.task.name}") as cache,
    ):
        digest = store.ref(RefKind.FITTED.of(cell.name))
        assert digest is not None
        predictor = load_predictor(workspace, digest)
        backbones = {
            name: workspace.encoders(record) for name, record in backbones_of(store).items()
        }
        graphs = {
            name: graphs_of(crystals, encoders.backbone, cache)
            for name, encoders in backbones.items()
        }
        found = {ANSWERING: predictor.answer(graphs, level=predictor.level).values}
        for learner in learners_of(store, predictor.record.dataset):
            encoders = workspace.encoders(learner.record.backbone)
            name = encoders.record.name
            composition = store.ref(RefKind.COMPOSITION.on(cell.name, name))
            assert composition is not None
            loaded = LoadedLearners.of(
                encoders,
                Composition.from_doc(store.record(composition)),
                [learner],
                domain=False,
            )
            calls = loaded.calls(graphs[name], predictor.recipe.embedding)
            encoded = loaded.encoded([call() for call in calls])
            (values,) = [*(own[:, 0] for own in encoded.by_kernel), *encoded.by_finetuned]
            full = full_name(learner.record.name, name)
            found[full] = predictor.normaliser.inverse(values)
    return found


def _median_line(cell: Cell) -> FewRows:
    """Answer with the median of the rows; it is judged by leaving each out."""
    own = rows_of(cell.task).targets[cell.drawn]
    medians = [np.median(np.delete(own, row)) for row in range(len(own))]
    return cell.line(MEDIAN, float(np.median(own)), float(np.abs(own - medians).mean()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
