"""What each part of a hub buys: ``python -m benchmarks.paper.parts [--splits 0,1]``.

Nothing is trained: the kept answers of hubs with and without modules are joined anew, with learners
left out, on the rows that all of them have answered. The strongest methods without composing, means
over learners and backbones included, are made in the same way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from benchmarks.paper import results
from benchmarks.paper.__main__ import ANSWERS, BACKBONES
from benchmarks.paper.answers import Answered, load
from benchmarks.paper.joins import Floats, used_now
from benchmarks.paper.results import Result
from benchmarks.paper.tasks import N_SPLITS, TASKS
from moma_cl.recipe import Recipe

HUBS = ("composed", "alone", "multitask")
SEED = Recipe().finetune.seed
TUNED = "sevennet-0"  # whose compositions have the lower objectives in all tasks of the table
KERNEL, FINETUNED = "alone/kernel", "alone/finetuned from backbone"
MULTITASK, MULTITASK_KERNEL = "multitask/finetuned from multitask", "multitask/kernel on multitask"

ALL, SINGLE = "joined", "joined-single"

Keeps = Callable[[str], bool]
"""Says whether a learner, named with its hub and backbone, is kept."""


def _means() -> dict[str, tuple[str, ...]]:
    """Name the means of learners that need no composition, on each backbone and on both."""
    one = {
        "kernel": (KERNEL,),
        "ft": (FINETUNED,),
        "mt-kernel": (MULTITASK_KERNEL,),
        "mt": (MULTITASK,),
    }
    several = {"mean": (KERNEL, FINETUNED), "mean-mt": (KERNEL, MULTITASK)}
    on_each = {
        f"{method}@{backbone}": tuple(f"{learner}@{backbone}" for learner in learners)
        for method, learners in several.items()
        for backbone in BACKBONES
    }
    on_both = {
        f"{method}@both": tuple(f"{learner}@{b}" for learner in learners for b in BACKBONES)
        for method, learners in {**one, **several}.items()
    }
    return {**on_each, **on_both}


MEANS: Mapping[str, tuple[str, ...]] = MappingProxyType(_means())
WITHOUT: Mapping[str, Keeps] = MappingProxyType(
    {
        ALL: lambda name: name.startswith("composed/"),
        "joined-one-backbone": lambda name: (
            name.startswith("composed/") and name.endswith(f"@{TUNED}")
        ),
        "joined-no-modules": lambda name: name.startswith(
            ("alone/kernel", f"{FINETUNED}@{TUNED}", "composed/adapted backbone")
        ),
        "joined-no-adapters": lambda name: (
            name.startswith("composed/") and not name.startswith("composed/adapted")
        ),
        "joined-no-multitask": lambda name: (
            name == f"{FINETUNED}@{TUNED}"  # which is fine-tuned in its place
            or (name.startswith("composed/") and "multitask" not in name)
        ),
        "joined-no-kernels": lambda name: (
            name.startswith("composed/") and not name.startswith("composed/kernel")
        ),
    }
)


def main(arguments: list[str]) -> int:
    """Make the lines of all fits whose answers are there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.parts", description=__doc__)
    parser.add_argument("--splits", default=",".join(map(str, range(N_SPLITS))))
    given = parser.parse_args(arguments)
    lines = {line.key: line for line in results.read(Result, results.FILE)}
    for split in map(int, given.splits.split(",")):
        for task in TASKS:
            files = {f"{hub}/": ANSWERS / f"{hub}-{task.name}-{split}.npz" for hub in HUBS}
            like = lines.get((task.name, split, "composed", SEED))
            if like is None or not all(file.exists() for file in files.values()):
                continue
            made = parts_of(load(files, "validation"), load(files, "held_out"), like)
            results.append(made, results.FILE)
            print(f"{task.name} {split}: " + ", ".join(f"{m.method} {m.mae:.4g}" for m in made))
    return 0


def parts_of(validation: Answered, held_out: Answered, like: Result) -> list[Result]:
    """Join the learners of one task and split in every way.

    Parameters
    ----------
    validation, held_out
        Answers of the learners of all hubs to the same rows.
    like
        The line of what answers in the hub.

    Returns
    -------
    list[Result]
        A line for each way.
    """
    names = sorted(validation.answers)
    made = [
        _line(like, method, validation.mae(members), held_out.mae(members))
        for method, members in MEANS.items()
        if set(members) <= set(names)
    ]
    for method, keeps in WITHOUT.items():
        kept = [name for name in names if keeps(name)]
        answers = np.stack([validation.answers[name] for name in kept])
        weights = used_now(answers, validation.targets, kept)
        pair = (_mae(one, kept, weights) for one in (validation, held_out))
        made.append(_line(like, method, *pair))
    composed = [name for name in names if name.startswith("composed/")]
    best = min(composed, key=lambda name: validation.mae([name]))
    return [*made, _line(like, SINGLE, validation.mae([best]), held_out.mae([best]))]


def _line(like: Result, method: str, validation_mae: float, mae: float) -> Result:
    return replace(
        like,
        method=method,
        mae=mae,
        validation_mae=validation_mae,
        seconds=0.0,
        commit=results.commit(),
    )


def _mae(answered: Answered, names: Sequence[str], weights: Floats) -> float:
    answers = np.stack([answered.answers[name] for name in names])
    return float(np.abs(weights @ answers - answered.targets).mean())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
