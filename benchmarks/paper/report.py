"""Turn the results into ``docs/results.md`` and pictures: ``python -m benchmarks.paper.report``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.stats import spearmanr

from benchmarks.paper import results
from benchmarks.paper.__main__ import BACKBONES
from benchmarks.paper.few_rows_section import few_rows_section
from benchmarks.paper.gains import N_RESAMPLES, Errors, chosen, gain
from benchmarks.paper.markdown import table
from benchmarks.paper.parts import ALL, SINGLE, TUNED
from benchmarks.paper.results import Result, Weighed
from benchmarks.paper.tasks import DATA, N_SPLITS, TASKS
from moma_cl.records.refs import MODULE_ZERO

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "results"
from matplotlib import pyplot as plt  # noqa: E402  after the choice of how to draw

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALONE = tuple(
    f"{method}@{place}"
    for method in ("kernel", "ft", "mt", "mean", "mean-mt")
    for place in (*BACKBONES, "both")
)
COMPOSED = ("composed",)
BEFORE = ("moma-default",)  # what answered while a hub had CHGNet alone
SHOWN = (
    *(
        f"{method}@{backbone}"
        for backbone in BACKBONES
        for method in ("kernel", "moma-kernel", "mt-kernel", "mt-readouts", "ft", "mt")
    ),
    f"moma-full@{TUNED}",
    f"moma-adapted@{TUNED}",
    "cgcnn",
)
PARTS = {
    "CHGNet's kernel head": "joined-one-backbone",
    "modules": "joined-no-modules",
    "adapters": "joined-no-adapters",
    "the multitask module": "joined-no-multitask",
    "kernel heads": "joined-no-kernels",
    "joining (the best learner on validation rows answers)": SINGLE,
}
BASELINES = ("CGCNN", "MoE-(18)", "JMP-MT", "UMA", "JMP-FT", "MoMa (Full)")
MIN_FITS = 5  # for a rank correlation
LEAST_SHOWN = 0.02  # of the weights in the picture

_ABOUT = (
    "Mean absolute errors on held-out rows, mean and standard deviation over the splits that are "
    "done, with default settings. `python -m benchmarks.paper` fits, `python -m "
    "benchmarks.paper.parts` joins the learners' answers in other ways, `python -m "
    "benchmarks.paper.report` writes this page; `benchmarks/paper/results.csv` has every figure.\n"
)
_ABOUT_CHOICES = (
    "`kernel` is the kernel head on the frozen backbone, `ft` the backbone fine-tuned, `mt` the "
    "multitask module fine-tuned, which is one encoder trained on all upstream tasks. "
    "`moma-kernel` and `moma-full` are the same on the composed encoder, the second as in the "
    "paper; `mt-kernel` is the kernel head on the multitask module, `mt-readouts` the same with "
    "what that module reads out. *alone* is what validation rows choose without composing, on each "
    "backbone and on both: `kernel`, `ft`, `mt`, the means of `kernel` with either, and the means "
    "of these over the backbones. *composed* is what answers in a new hub, which has both "
    "backbones. "
    "*before* is what answered in a hub of CHGNet alone, as this page showed it then.\n"
)
_ABOUT_PARTS = (
    "How much more the hub errs without one of its parts: the kept answers of the other learners "
    "are joined by the same rule. Without modules are kernel heads, fine-tuned backbones and "
    "adapters of backbones.\n"
)
_ABOUT_PUBLISHED = (
    "Published figures: MoMa (arXiv 2502.15483), main table, means of five splits; its JMP "
    "backbone has 160 million parameters, CHGNet 0.4 million, SevenNet-0 0.8 million. **Bold**: "
    "*composed* is better, on the splits that are done: splits differ much, so figures of one or "
    "two say little beside means of five.\n"
)


def main() -> int:
    """Write page and picture."""
    lines = results.read(Result, results.FILE)
    errors = {(line.task, line.split, line.method): line for line in lines}
    weights = results.read(Weighed, results.WEIGHTS)
    if not errors:
        print("there are no results yet: run `python -m benchmarks.paper`", file=sys.stderr)
        return 1
    (DOCS / "results.md").write_text(_page(errors, weights))
    draw_errors(errors, DOCS / "results.svg")
    draw_weights(weights, DOCS / "weights.svg")
    return 0


def _page(errors: Errors, weights: Sequence[Weighed]) -> str:
    published = _published()
    parts = [
        "# Results on nine datasets of the paper\n",
        _ABOUT,
        "![Errors over those of the best method without composing](results.svg)\n",
        "## Errors\n",
        _errors_table(errors),
        _ABOUT_CHOICES,
        "## Gains\n",
        _gains_table(errors),
        "Intervals are the central 95 % of means with tasks and splits resampled together.\n",
        *few_rows_section(),
        "## What each part buys\n",
        _ABOUT_PARTS,
        _parts_table(errors),
        "## Beside the published figures\n",
        _published_table(errors, published),
        _ABOUT_PUBLISHED,
        "## Weights\n",
        "![Weights of the modules, mean over the splits](weights.svg)\n",
        _proxy(errors, weights),
    ]
    missing = _missing(errors)
    if missing:
        parts += ["## Missing\n", f"{missing}\n"]
    return "\n".join(parts)


def _errors_table(errors: Errors) -> str:
    methods = [m for m in SHOWN if any(key[2] == m for key in errors)]
    groups = {"alone": ALONE, "composed": COMPOSED, "before": BEFORE}
    head = ["dataset (unit)", "splits", *methods, *groups]
    rows = []
    for task in TASKS:
        splits = _common(errors, task.name)
        cells = [
            _spread([errors[key].mae for k in splits if (key := (task.name, k, m)) in errors])
            for m in methods
        ]
        cells += [
            _spread(_chosen_maes(errors, task.name, group, splits)) for group in groups.values()
        ]
        rows.append([f"{task.name} ({task.unit})", str(len(splits)), *cells])
    return table(head, rows)


def _gains_table(errors: Errors) -> str:
    compared = {
        "composed against alone": (COMPOSED, ALONE),
        "composed against before": (COMPOSED, BEFORE),
        **{
            f"`{ours}` against `{theirs}`, {backbone}": (
                (f"{ours}@{backbone}",),
                (f"{theirs}@{backbone}",),
            )
            for ours, theirs in (("moma-kernel", "kernel"), ("mt", "ft"))
            for backbone in BACKBONES
        },
        **{
            f"`{ours}` against `{theirs}`, {TUNED}": ((f"{ours}@{TUNED}",), (f"{theirs}@{TUNED}",))
            for ours, theirs in (("moma-full", "ft"), ("moma-full", "mt"))
        },
        "`moma-adapter` against `ft-adapter`, chgnet": (("moma-adapter",), ("ft-adapter",)),
    }
    gains = {name: gain(errors, *sets) for name, sets in compared.items()}
    rows = [
        [
            name,
            f"{found.mean:.1%}",
            f"{found.low:.1%} to {found.high:.1%}",
            f"{found.n_better} of {len(found.by_task)}",
            str(found.n_fits),
        ]
        for name, found in gains.items()
        if found is not None
    ]
    first = gains["composed against alone"]
    by_task = (
        ""
        if first is None
        else table(list(first.by_task), [[f"{share:.1%}" for share in first.by_task.values()]])
    )
    return table(["", "mean gain", "95 % interval", "tasks better", "fits"], rows) + "\n" + by_task


def _parts_table(errors: Errors) -> str:
    tasks = [task.name for task in TASKS if _common(errors, task.name)]
    if not tasks:
        return ""
    rows = []
    for part, method in PARTS.items():
        more = {name: _more_error(errors, name, method) for name in tasks}
        cells = [f"{value:+.1%}" for value in more.values()]
        rows.append([part, f"{np.mean(list(more.values())):+.1%}", *cells])
    return table(["without", "mean", *tasks], rows)


def _more_error(errors: Errors, task: str, method: str) -> float:
    """Give how much larger an error is than that of all learners joined, mean over splits."""
    pairs = [(errors[task, k, method], errors[task, k, ALL]) for k in _common(errors, task)]
    return float(np.mean([one.mae / every.mae - 1.0 for one, every in pairs]))


def _published_table(errors: Errors, published: Mapping[tuple[str, str], float]) -> str:
    rows, wins = [], dict.fromkeys(BASELINES, 0)
    for task in TASKS:
        maes = _chosen_maes(errors, task.name, COMPOSED)
        if not maes:
            continue
        ours, cells = float(np.mean(maes)), []
        for name in BASELINES:
            theirs = published[task.name, name]
            wins[name] += ours < theirs
            cells.append(f"**{theirs:g}**" if ours < theirs else f"{theirs:g}")
        rows.append([task.name, f"{ours:.4g}", *cells])
    rows.append(["better on", "", *(f"{wins[name]} of {len(rows)}" for name in BASELINES)])
    return table(["dataset", "composed", *BASELINES], rows)


def _proxy(errors: Errors, weights: Sequence[Weighed]) -> str:
    """Say whether a lower objective of the convex program goes with a lower error."""
    falls, gains = [], []
    for line in weights:
        name, _, backbone = line.module.partition("@")
        methods = (f"moma-full@{backbone}", f"ft@{backbone}")
        pair = [errors.get((line.task, line.split, method)) for method in methods]
        if name == MODULE_ZERO and pair[0] is not None and pair[1] is not None:
            falls.append(1.0 - line.objective / line.backbone_objective)
            gains.append(1.0 - pair[0].mae / pair[1].mae)
    if len(falls) < MIN_FITS:
        return ""
    generator = np.random.default_rng(0)
    draws = (generator.choice(len(falls), len(falls)) for _ in range(N_RESAMPLES))
    pairs = [(np.array(falls)[d], np.array(gains)[d]) for d in draws]
    resampled = [spearmanr(f, g).statistic for f, g in pairs if np.ptp(f) > 0 and np.ptp(g) > 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return (
        f"Over {len(falls)} compositions, the fall of the convex program's objective against the "
        f"backbone alone and the gain of `moma-full` over `ft` have a rank correlation of "
        f"{spearmanr(falls, gains).statistic:.2f} (95 % interval {low:.2f} to {high:.2f}).\n"
    )


def _missing(errors: Errors) -> str:
    lines = []
    for method in ("composed", f"ft@{TUNED}", f"mt@{TUNED}", ALL, "moma-adapter", "cgcnn"):
        lacking = {
            split: [task.name for task in TASKS if (task.name, split, method) not in errors]
            for split in range(N_SPLITS)
        }
        told = [
            f"split {split}: {'all' if len(names) == len(TASKS) else ', '.join(names)}"
            for split, names in lacking.items()
            if names
        ]
        if told:
            lines.append(f"- `{method}`, {'; '.join(told)}")
    return "\n".join(lines)


def _chosen_maes(
    errors: Errors, task: str, methods: Sequence[str], splits: Sequence[int] = range(N_SPLITS)
) -> list[float]:
    lines = [chosen(errors, task, split, methods) for split in splits]
    return [line.mae for line in lines if line is not None]


def _published() -> dict[tuple[str, str], float]:
    with (DATA / "published.csv").open(newline="") as stream:
        return {(r["dataset"], r["method"]): float(r["mae"]) for r in csv.DictReader(stream)}


def _spread(maes: Sequence[float]) -> str:
    if not maes:
        return "–"
    if len(maes) == 1:
        return f"{maes[0]:.3g}"
    return f"{np.mean(maes):.3g} ± {np.std(maes, ddof=1):.2g}"


def draw_errors(errors: Errors, path: Path) -> None:
    """Draw each error over that of the best without composing.

    Parameters
    ----------
    errors
        The table.
    path
        The picture.
    """
    shown = {
        "alone": ALONE,
        "composed encoder of SevenNet-0, fine-tuned": (f"moma-full@{TUNED}",),
        "before, CHGNet alone": BEFORE,
        "composed": COMPOSED,
    }
    names = [task.name for task in TASKS if _common(errors, task.name)]
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for place, (label, methods) in enumerate(shown.items()):
        heights = [
            np.mean(_chosen_maes(errors, name, methods, _common(errors, name)))
            / np.mean(_chosen_maes(errors, name, ALONE, _common(errors, name)))
            for name in names
        ]
        axes.bar(np.arange(len(names)) + 0.2 * place, heights, width=0.18, label=label)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(np.arange(len(names)) + 0.3, names, rotation=20, ha="right", fontsize=8)
    axes.set_ylabel("held-out error / alone")
    axes.set_ylim(bottom=0.5)
    axes.legend(ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_weights(weights: Sequence[Weighed], path: Path) -> None:
    """Draw the weight of every module in every task, mean over the splits.

    Parameters
    ----------
    weights
        The weights.
    path
        The picture.
    """
    weights = [line for line in weights if "@" in line.module]  # of hubs with both backbones
    tasks = [task.name for task in TASKS if any(line.task == task.name for line in weights)]
    modules = sorted({line.module for line in weights if line.weight > 0})
    n_splits = {name: len({w.split for w in weights if w.task == name}) for name in tasks}
    shown = np.zeros((len(tasks), len(modules)))
    for line in weights:
        if line.weight > 0:
            share = line.weight / n_splits[line.task]
            shown[tasks.index(line.task), modules.index(line.module)] += share
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), weight in np.ndenumerate(shown):
        if weight >= LEAST_SHOWN:
            colour = "white" if weight > 0.5 else "black"
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=colour, size=8)
    axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _common(errors: Errors, task: str) -> list[int]:
    """List the splits that have both, with and without modules."""
    return [
        k
        for k in range(N_SPLITS)
        if chosen(errors, task, k, ALONE) and chosen(errors, task, k, COMPOSED)
    ]


if __name__ == "__main__":
    sys.exit(main())
