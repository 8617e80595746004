"""The table of results: one line for each task, split, method and seed."""

from __future__ import annotations

import csv
import fcntl
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

HERE = Path(__file__).parent
FILE = HERE / "results.csv"


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


def read(path: Path = FILE) -> list[Result]:
    """Read the table; empty where there is none yet.

    Parameters
    ----------
    path
        The table.

    Returns
    -------
    list[Result]
        Its lines.
    """
    if not path.exists():
        return []
    numbers: dict[str, type] = {
        f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Result)
    }
    with path.open(newline="") as stream:
        return [
            Result(**{name: numbers[name](value) for name, value in line.items()})
            for line in csv.DictReader(stream)
        ]


def append(results: Iterable[Result], path: Path = FILE) -> None:
    """Put lines into the table; several processes may do so at once.

    Parameters
    ----------
    results
        New lines; one that is there already is replaced.
    path
        The table.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = {result.key: result for result in [*read(path), *results]}
        draft = path.with_suffix(".new")
        with draft.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [f.name for f in fields(Result)], lineterminator="\n")
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
