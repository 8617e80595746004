"""Two tasks of Matbench by its protocol: ``python -m benchmarks.paper.matbench [--folds 0,1]``.

Five-fold cross-validation, ``KFold(5, shuffle=True, random_state=18012019)`` over the rows in their
order (Dunn et al., npj Computational Materials 6, 138, 2020). The rows here are as many as there,
and are taken in the order of their file, which has come from Matbench's by way of the paper's
data; whether each row is at its place there cannot be told from here. An eighth of the training
rows, drawn at random, validates. What answers in a new hub is fitted on each fold.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import KFold, train_test_split

from benchmarks.paper import results
from benchmarks.paper.__main__ import BUILD, fill
from benchmarks.paper.results import Result
from benchmarks.paper.tasks import TASKS, PaperTask
from moma_cl.properties.transforms import Transform

FILE = Path(__file__).with_name("matbench.csv")
N_FOLDS, SEED = 5, 18012019  # of the protocol
VALIDATION = 0.125  # of the training rows
FOLDER = BUILD / "matbench"

_EXFOLIATION = next(task for task in TASKS if task.name == "jarvis_2d_exfoliation")
_PHONONS = next(task for task in TASKS if task.name == "mp_phonons")
MATBENCH = {
    _EXFOLIATION: replace(_EXFOLIATION, name="matbench_jdft2d", folder=FOLDER),
    _PHONONS: PaperTask(
        name="matbench_phonons",
        target="last_phdos_peak",
        unit="1/cm",
        folder=FOLDER,
        transform=Transform.LOG,
    ),
}
"""By the task of the paper whose rows they share."""


def main(arguments: list[str]) -> int:
    """Fit what is missing, and print the mean over the folds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper.matbench", description=__doc__
    )
    parser.add_argument("--folds", default=",".join(map(str, range(N_FOLDS))))
    given = parser.parse_args(arguments)
    for source, task in MATBENCH.items():
        if not task.file.exists():
            _write(source, task)
    for fold in map(int, given.folds.split(",")):
        for task in MATBENCH.values():
            fill(task, fold, "composed", FILE)
    lines = [line for line in results.read(Result, FILE) if line.method == "composed"]
    for task in MATBENCH.values():
        maes = [line.mae for line in lines if line.task == task.name]
        print(f"{task.name}: {np.mean(maes):.4g} {task.unit}, {len(maes)} of {N_FOLDS} folds")
    return 0


def _write(source: PaperTask, task: PaperTask) -> None:
    """Write the rows of a task with the folds of the protocol."""
    with gzip.open(source.file, "rt") as stream:
        rows = [json.loads(line) for line in stream]
    for row in rows:
        value = row[source.target]
        row[task.target] = value if source.target == task.target else math.exp(value)
    splits = KFold(N_FOLDS, shuffle=True, random_state=SEED).split(rows)
    for number, (train, test) in enumerate(splits):
        _, validation = train_test_split(train, test_size=VALIDATION, random_state=SEED)
        for chosen, fold in ((train, "train"), (validation, "validation"), (test, "held-out")):
            for index in chosen:
                rows[index][f"fold_{number}"] = fold
    task.folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(task.file, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
