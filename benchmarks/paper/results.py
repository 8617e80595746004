"""The tables of results: one line for what was measured of each task, split and method."""

from __future__ import annotations

import csv
import fcntl
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).parent
FILE = HERE / "results.csv"
WEIGHTS = HERE / "weights.csv"
FEW_ROWS = HERE / "few_rows.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One predictor's errors.

    Attributes
    ----------
    mae, validation_mae
        Mean absolute errors on the held-out and on the validation rows, in the task's unit.
    seconds
        For fitting; shared by the methods that one fit gives.
    """

    task: str
    split: int
    method: str
    seed: int
    n_train: int
    mae: float
    validation_mae: float
    seconds: float
    commit: str
    hardware: str

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What there is one line of."""
        return self.task, self.split, self.method, self.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The weight of one module in one composition.

    Attributes
    ----------
    module
        Name of the module; `backbone` for module zero.
    objective, backbone_objective
        Of the convex program, and with the backbone alone, in variances of the targets.
    heard
        Whether the predictor hears opinions.
    """

    task: str
    split: int
    module: str
    weight: float
    objective: float
    backbone_objective: float
    heard: int

    @property
    def key(self) -> tuple[str, int, str]:
        """What there is one line of."""
        return self.task, self.split, self.module


@dataclass(frozen=True, slots=True, kw_only=True)
class FewRows:
    """One predictor's error after training on a few rows of a split.

    Attributes
    ----------
    fold
        Whose rows it answers: `held-out`, or `validation` where ways are compared.
    draw
        Which rows were drawn.
    mae
        Mean absolute error on the rows of the fold, in the task's unit.
    judged_mae
        The error by which it is chosen: cross-validated, or on rows of its own that it has not
        seen.
    """

    task: str
    split: int
    fold: str
    n_rows: int
    draw: int
    method: str
    mae: float
    judged_mae: float
    commit: str

    @property
    def key(self) -> tuple[str, int, str, int, int, str]:
        """What there is one line of."""
        return self.task, self.split, self.fold, self.n_rows, self.draw, self.method


Line = TypeVar("Line", Result, Weighed, FewRows)


def read(kind: type[Line], path: Path) -> list[Line]:
    """Read a table; empty where there is none yet.

    Parameters
    ----------
    kind
        What its lines are.
    path
        The table.

    Returns
    -------
    list[Line]
        Its lines.
    """
    if not path.exists():
        return []
    numbers: dict[str, type] = {
        f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(kind)
    }
    with path.open(newline="") as stream:
        return [
            kind(**{name: numbers[name](value) for name, value in line.items()})
            for line in csv.DictReader(stream)
        ]


def append(added: Sequence[Line], path: Path) -> None:
    """Put lines into a table; several processes may do so at once.

    Parameters
    ----------
    added
        New lines, one at least; one that is there already is replaced.
    path
        The table.
    """
    kind = type(added[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = {line.key: line for line in [*read(kind, path), *added]}
        draft = path.with_suffix(".new")
        with draft.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [f.name for f in fields(kind)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(lines[key]) for key in sorted(lines))
        draft.replace(path)


def commit() -> str:
    """Name the commit that the code is of."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def hardware() -> str:
    """Name the processor, as far as it says."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
