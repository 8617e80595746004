"""Ways to join learners, tried on their kept answers: ``python -m benchmarks.paper.joins``.

A way is judged by validation rows: it chooses on one half of them and is measured on the other,
many times. Errors on held-out rows, which choose nothing, are shown beside that. Both are over the
error of the way that is used now, and means over tasks and splits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.paper.__main__ import ANSWERS
from benchmarks.paper.answers import Answered, load
from benchmarks.paper.tasks import N_SPLITS, TASKS

N_HALVES = 20
GREEDY_STEPS = 30

Floats = NDArray[np.float64]
Join = Callable[[Floats, Floats, Sequence[str]], Floats]
"""From answers, shape ``(n_learners, n_rows)``, targets and names to weights ``(n_learners,)``."""


def is_kernel(name: str) -> bool:
    """Say whether a learner is a kernel head.

    Parameters
    ----------
    name
        Its name.

    Returns
    -------
    bool
        Whether it is.
    """
    return "kernel" in name


def mean_unless_worse(answers: Floats, targets: Floats, chosen: Sequence[int], se: float) -> Floats:
    """Weigh some learners alike, unless others of them err less by so many standard errors.

    Parameters
    ----------
    answers, targets
        Of the rows that decide.
    chosen
        Places of the learners.
    se
        How many standard errors of the difference.

    Returns
    -------
    Floats
        Weights of all learners.
    """
    subsets = [s for size in range(1, len(chosen) + 1) for s in combinations(chosen, size)]
    errors = np.stack([np.abs(answers[list(s)].mean(axis=0) - targets) for s in subsets])
    best = int(errors.mean(axis=1).argmin())
    excess = errors[-1] - errors[best]
    enough = excess.mean() <= se * excess.std() / np.sqrt(max(1, len(excess) - 1))
    return _equal(len(answers), subsets[-1] if enough else subsets[best])


def used_now(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:
    """Join as the predictor does: kernels, fine-tuned or the mean of both."""
    kernels = [i for i, name in enumerate(names) if is_kernel(name)]
    others = [i for i, name in enumerate(names) if not is_kernel(name)]
    parts = [mean_unless_worse(answers, targets, some, 1.0) for some in (kernels, others) if some]
    ways = [*parts, np.mean(parts, axis=0)]
    return ways[int(np.argmin([_mae(answers, targets, w) for w in ways]))]


def pruned(share: float) -> Join:
    """Leave out of what is used now, one by one, learners that buy less than a share of the error.

    Parameters
    ----------
    share
        Of the error of all that are used.

    Returns
    -------
    Join
        The way.
    """

    def join(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:
        weights = used_now(answers, targets, names)
        most = _mae(answers, targets, weights) * (1.0 + share)
        while (weights > 0).sum() > 1:
            fewer = [_without(weights, i) for i in np.flatnonzero(weights)]
            best = min(fewer, key=lambda one: _mae(answers, targets, one))
            if _mae(answers, targets, best) > most:
                break
            weights = best
        return weights

    return join


def sparing(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:
    """Join as now, with CHGNet's kernel head as its only learner."""
    kept = [i for i, name in enumerate(names) if is_kernel(name) or name.endswith("@sevennet-0")]
    weights = np.zeros(len(names))
    weights[kept] = used_now(answers[kept], targets, [names[i] for i in kept])
    return weights


def of_backbone(backbone: str) -> Join:
    """Join the learners of one backbone alone, as the predictor does.

    Parameters
    ----------
    backbone
        Its name.

    Returns
    -------
    Join
        The way.
    """

    def join(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:
        own = [i for i, name in enumerate(names) if name.endswith(f"@{backbone}")]
        weights = np.zeros(len(names))
        weights[own] = used_now(answers[own], targets, [names[i] for i in own])
        return weights

    return join


def halves(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:  # noqa: ARG001
    """Take the mean of all kernel learners and the mean of all others, always."""
    kernel = np.array([is_kernel(name) for name in names])
    parts = [mask / mask.sum() for mask in (kernel, ~kernel) if mask.any()]
    return np.asarray(np.mean(parts, axis=0))


def all_alike(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:  # noqa: ARG001
    """Weigh all learners alike."""
    return _equal(len(answers), range(len(answers)))


def finetuned_alike(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:  # noqa: ARG001
    """Weigh all fine-tuned learners alike."""
    return _equal(len(answers), [i for i, name in enumerate(names) if not is_kernel(name)])


def subset(se: float) -> Join:
    """Weigh all learners alike, or a subset that errs less by so many standard errors.

    Parameters
    ----------
    se
        How many.

    Returns
    -------
    Join
        The way.
    """
    return lambda answers, targets, _: mean_unless_worse(answers, targets, range(len(answers)), se)


def greedy(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:  # noqa: ARG001
    """Add, again and again, the learner that lowers the error of the mean most.

    References
    ----------
    Caruana et al., *Ensemble selection from libraries of models* (ICML 2004).
    """
    counts, total = np.zeros(len(answers)), np.zeros_like(targets)
    errors = []
    history = []
    for step in range(1, GREEDY_STEPS + 1):
        maes = [np.abs((total + one) / step - targets).mean() for one in answers]
        best = int(np.argmin(maes))
        counts[best] += 1
        total = total + answers[best]
        errors.append(maes[best])
        history.append(counts.copy())
    best_counts = history[int(np.argmin(errors))]
    return np.asarray(best_counts / best_counts.sum())


def convex(shrink: float, prior: Join = all_alike) -> Join:
    """Solve for weights that sum to one, drawn to those of another way.

    Parameters
    ----------
    shrink
        How strongly, over the mean square of answers' differences.
    prior
        The other way.

    Returns
    -------
    Join
        The way.
    """

    def join(answers: Floats, targets: Floats, names: Sequence[str]) -> Floats:
        start = prior(answers, targets, names)
        residuals = answers - targets  # of each learner
        gram = residuals @ residuals.T / len(targets)
        scale = shrink * float(np.trace(gram)) / len(gram)
        return _simplex(gram + scale * np.eye(len(gram)), -scale * start)

    return join


def inverse_power(power: float) -> Join:
    """Weigh learners by a negative power of their errors.

    Parameters
    ----------
    power
        Which.

    Returns
    -------
    Join
        The way.
    """

    def join(answers: Floats, targets: Floats, _: Sequence[str]) -> Floats:
        weights = np.abs(answers - targets).mean(axis=1) ** -power
        return np.asarray(weights / weights.sum())

    return join


WAYS: Mapping[str, Join] = MappingProxyType(
    {
        "used now": used_now,
        **{f"used now, pruned by {s:g}": pruned(s) for s in (0.0, 0.005, 0.01, 0.02)},
        "of chgnet the kernel alone": sparing,
        "chgnet alone": of_backbone("chgnet"),
        "sevennet-0 alone": of_backbone("sevennet-0"),
        "mean of kernels and mean of fine-tuned": halves,
        "all alike": all_alike,
        "fine-tuned alike": finetuned_alike,
        "subset, 0.5 SE": subset(0.5),
        "subset, 1 SE": subset(1.0),
        "subset, 1.5 SE": subset(1.5),
        "subset, 2 SE": subset(2.0),
        "greedy": greedy,
        **{f"convex, shrunk {s:g}": convex(s) for s in (0.01, 0.03, 0.1, 0.3, 1.0)},
        "convex, shrunk 0.1 to fine-tuned": convex(0.1, finetuned_alike),
        "convex, shrunk 0.3 to fine-tuned": convex(0.3, finetuned_alike),
        "convex, shrunk 0.1 to subset": convex(0.1, subset(1.0)),
        **{f"inverse power {p}": inverse_power(p) for p in (1, 2, 4)},
    }
)


def main(arguments: list[str]) -> int:
    """Try all ways on all fits that there are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.joins", description=__doc__)
    parser.add_argument("--variants", default="composed")
    parser.add_argument("--splits", default=",".join(map(str, range(N_SPLITS))))
    given = parser.parse_args(arguments)
    variants = given.variants.split(",")
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    fits = []
    for task in TASKS:
        for split in map(int, given.splits.split(",")):
            files = {f"{name}/": _file(name, task.name, split) for name in variants}
            if all(file.exists() for file in files.values()):
                fits.append((task.name, split))
                _measure(load(files, "validation"), load(files, "held_out"), measured)
    print(f"{len(fits)} fits: {', '.join(f'{name} {split}' for name, split in fits)}")
    base = np.array(measured["used now"])
    print(f"{'way':40} crossed  held-out  better on")
    for name, pairs in measured.items():
        ratios = np.array(pairs) / base
        print(
            f"{name:40} {ratios[:, 0].mean():7.3f} {ratios[:, 1].mean():9.3f} "
            f"{(ratios[:, 0] < 1).sum():5d} {(ratios[:, 1] < 1).sum():5d}"
        )
    return 0


def _measure(
    validation: Answered, held_out: Answered, measured: dict[str, list[tuple[float, float]]]
) -> None:
    names = sorted(validation.answers)
    answers = np.stack([validation.answers[name] for name in names])
    others = np.stack([held_out.answers[name] for name in names])
    generator = np.random.default_rng(0)
    n_rows = len(validation.targets)
    orders = [generator.permutation(n_rows) for _ in range(N_HALVES)]
    for way, join in WAYS.items():
        crossed = []
        for order in orders:
            first, second = order[: n_rows // 2], order[n_rows // 2 :]
            for deciding, judging in ((first, second), (second, first)):
                weights = join(answers[:, deciding], validation.targets[deciding], names)
                crossed.append(_mae(answers[:, judging], validation.targets[judging], weights))
        weights = join(answers, validation.targets, names)
        error = _mae(others, held_out.targets, weights)
        measured[way].append((float(np.mean(crossed)), error))


def _simplex(gram: Floats, linear: Floats) -> Floats:
    """Minimise ``w·Gw/2 + c·w`` over weights that are not negative and sum to one."""
    n = len(gram)
    constraints = sparse.csc_matrix(np.vstack([np.ones((1, n)), -np.eye(n)]))
    right = np.concatenate([[1.0], np.zeros(n)])
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(n)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    quadratic = sparse.triu(sparse.csc_matrix(gram), format="csc")
    solver = clarabel.DefaultSolver(quadratic, linear, constraints, right, cones, settings)
    weights = np.maximum(np.array(solver.solve().x), 0.0)
    return np.asarray(weights / weights.sum())


def _without(weights: Floats, place: int) -> Floats:
    left = weights.copy()
    left[place] = 0.0
    return np.asarray(left / left.sum())


def _equal(count: int, chosen: Sequence[int]) -> Floats:
    weights = np.zeros(count)
    weights[list(chosen)] = 1.0 / len(chosen)
    return weights


def _mae(answers: Floats, targets: Floats, weights: Floats) -> float:
    return float(np.abs(weights @ answers - targets).mean())


def _file(variant: str, task: str, split: int) -> Path:
    return ANSWERS / f"{variant}-{task}-{split}.npz"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
