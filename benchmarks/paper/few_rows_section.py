"""The section on few rows of the page of results."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper import results
from benchmarks.paper.gains import gain
from benchmarks.paper.markdown import table
from benchmarks.paper.results import FewRows, Result
from benchmarks.paper.tasks import N_SPLITS, TASKS

SIMPLE_METHODS = ("kernel", "mt-kernel", "kernels", "mt", "ft", "mean", "mean-mt")  # few rows
_ABOUT_FEW_ROWS = (
    "A task is added to a new hub with a few training rows of a split, and answers all held-out "
    "rows (`python -m benchmarks.paper.few_rows`; every figure is in "
    "`benchmarks/paper/few_rows.csv`). The gain is that of what answers there over *alone*: what "
    "cross-validation chooses among the median of the rows, kernel heads on bare backbones and on "
    "multitask modules, and means of these. The share by which it errs less than the median stands "
    "beside it.\n"
)


def few_rows_section() -> list[str]:
    """Say what composing buys where there are few rows."""
    by_rows = few_rows_errors(results.read(FewRows, results.FEW_ROWS))
    if not by_rows:
        return []
    rows, shown = [], [task.name for task in TASKS]
    for n_rows, errors in by_rows.items():
        simple = sorted({method for _, _, method in errors if _is_simple(method)})
        found = gain(errors, ["composed"], simple)
        median = gain(errors, ["composed"], ["median"])
        if found is None or median is None:
            continue
        rows.append(
            [
                str(n_rows),
                f"{found.mean:.1%}",
                f"{found.low:.1%} to {found.high:.1%}",
                f"{found.n_better} of {len(found.by_task)}",
                str(found.n_fits),
                f"{median.mean:.0%}",
                *(_share(found.by_task.get(name)) for name in shown),
            ]
        )
    head = ["rows", "mean gain", "95 % interval", "tasks better", "fits", "on the median", *shown]
    return ["## Few rows\n", _ABOUT_FEW_ROWS, table(head, rows)]


def few_rows_errors(lines: Sequence[FewRows]) -> dict[int, dict[tuple[str, int, str], Result]]:
    """Give the errors on held-out rows by the number of rows that were added.

    Parameters
    ----------
    lines
        The table of few rows.

    Returns
    -------
    dict[int, dict[tuple[str, int, str], Result]]
        Each as a table of results; each draw counts as a split of its own.
    """
    found: dict[int, dict[tuple[str, int, str], Result]] = {}
    for line in sorted(lines, key=lambda line: line.key):
        if line.fold != "held-out":
            continue
        split = line.split + N_SPLITS * line.draw
        found.setdefault(line.n_rows, {})[line.task, split, line.method] = Result(
            task=line.task,
            split=split,
            method=line.method,
            seed=0,
            n_train=line.n_rows,
            mae=line.mae,
            validation_mae=line.judged_mae,
            seconds=0.0,
            commit=line.commit,
            hardware="",
        )
    return dict(sorted(found.items()))


def _is_simple(method: str) -> bool:
    return method == "median" or method.partition("@")[0] in SIMPLE_METHODS


def _share(gain: float | None) -> str:
    return "–" if gain is None else f"{gain:.0%}"
