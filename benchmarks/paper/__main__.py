"""Fill the table: ``python -m benchmarks.paper [--tasks A,B] [--splits 0,1] [--variants V,W]``.

What is in ``results.csv`` already is not computed again, and a fit that was cut short goes on
where its hub left off, so a run can be stopped at any time; several processes share the work if
each has tasks, splits or variants of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

from benchmarks.paper import results
from benchmarks.paper.fits import kept_fits
from benchmarks.paper.results import Result, Weighed
from benchmarks.paper.tasks import N_SPLITS, TASKS, PaperTask
from benchmarks.upstream.__main__ import BUILD as UPSTREAM
from benchmarks.upstream.multitask import multitask_backbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.commands.archive import export, import_archive
from moma_cl.hub import Hub
from moma_cl.recipe import PredictorSettings, Recipe, TrainingSettings
from moma_cl.records.records import (
    Composition,
    Learner,
    LearnerMethod,
    Method,
    ModuleKind,
    Predictor,
    StartKind,
    learner_name,
)
from moma_cl.records.refs import RefKind
from moma_store.store import Store

BUILD = Path("build/paper")
FITS = BUILD / "fits"
ANSWERING = "what answers"
FROM_COMPOSITION = learner_name(LearnerMethod.FINETUNED, StartKind.COMPOSITION)
FROM_BACKBONE = learner_name(LearnerMethod.FINETUNED, StartKind.BACKBONE)
ADAPTED_COMPOSITION = learner_name(LearnerMethod.ADAPTED, StartKind.COMPOSITION)
ADAPTED_BACKBONE = learner_name(LearnerMethod.ADAPTED, StartKind.BACKBONE)
# without modules the whole backbone is then all that is fine-tuned, as in the paper
ONE_START = replace(Recipe(), predictor=PredictorSettings(adapters=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to set a hub up, and the head that stands behind each method of the table.

    Attributes
    ----------
    methods
        The head of each method.
    backbone
        Name of the hub's backbone.
    starter
        Whether the hub has the modules that ship with the package.
    module
        Kind of the modules that are composed.
    multitask
        Whether the backbone is the one trained on all upstream tasks together.
    recipe
        What the task is added with.
    """

    methods: Mapping[str, str]
    backbone: str = "chgnet"
    starter: bool = False
    module: ModuleKind = ModuleKind.NONE
    multitask: bool = False
    recipe: Recipe = field(default_factory=Recipe)


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "moma": Variant(
            methods={
                "moma-kernel": Method.KERNEL,
                "moma-full": FROM_COMPOSITION,
                "moma-adapted": ADAPTED_COMPOSITION,
                "moma-mean": Method.MEAN,
                "moma-default": ANSWERING,
            },
            starter=True,
        ),
        "alone": Variant(
            methods={"kernel": Method.KERNEL, "ft": Method.FINETUNED, "mean": Method.MEAN},
            recipe=ONE_START,
        ),
        "without": Variant(
            methods={"ft-adapted": ADAPTED_BACKBONE, "alone-default": ANSWERING},
        ),
        "adapter": Variant(
            methods={"moma-adapter": FROM_COMPOSITION, "ft-adapter": FROM_BACKBONE},
            module=ModuleKind.ADAPTER,
        ),
        "mt": Variant(methods={"mt": Method.FINETUNED}, multitask=True, recipe=ONE_START),
        "cgcnn": Variant(methods={"cgcnn": Method.FINETUNED}, backbone="cgcnn", recipe=ONE_START),
        **{
            name: Variant(
                methods={
                    f"{name}-kernel": Method.KERNEL,
                    f"{name}-ft": Method.FINETUNED,
                    f"{name}-mean": Method.MEAN,
                },
                backbone=name,
                recipe=ONE_START,
            )
            for name in ("sevennet-0", "sevennet-l3i5")
        },
    }
)


def main(arguments: list[str]) -> int:
    """Fit what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--tasks", default=",".join(task.name for task in TASKS))
    parser.add_argument("--splits", default=",".join(map(str, range(N_SPLITS))))
    parser.add_argument("--variants", default="moma,alone")
    given = parser.parse_args(arguments)
    wanted = set(given.tasks.split(","))
    for split in map(int, given.splits.split(",")):
        for task in (task for task in TASKS if task.name in wanted):
            for name in given.variants.split(","):
                _fill(task, split, name)
    return 0


def _fill(task: PaperTask, split: int, name: str) -> None:
    variant = VARIANTS[name]
    present = {line.key for line in results.read(Result, results.FILE)}
    keys = {(task.name, split, method, _seed()) for method in variant.methods}
    if keys <= present:
        return
    start = time.perf_counter()
    hub = BUILD / f"{name}-{task.name}-{split}"
    lines = _fit(task, split, hub, variant)
    results.append(lines, results.FILE)
    if variant.starter:
        results.append(weights_of(hub, task.name, split), results.WEIGHTS)
    errors = ", ".join(f"{line.method} {line.mae:.4g}" for line in lines)
    print(
        f"{task.name} {split}: {errors} {task.unit}, {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def _fit(task: PaperTask, split: int, hub: Path, variant: Variant) -> list[Result]:
    if not (hub / "hub.toml").exists():
        _make(hub, variant)
    with Store.open(hub) as store:
        begun = store.ref(RefKind.TASK.of(task.name)) is not None
    if not begun:
        Hub(hub).add_task(
            task.name,
            [task.file],
            target=task.target,
            unit=task.unit,
            module=variant.module,
            fold_column=f"fold_{split}",
            compose=False,
        )
    with kept_fits(FITS) as saved:
        Hub(hub).update(tasks=[task.name])
    with Store.open(hub) as store:
        digest = store.ref(RefKind.FITTED.of(task.name))
        assert digest is not None
        fitted = Predictor.from_doc(store.record(digest))
        took = [
            memo.seconds
            for memo in store.memos().values()
            if store.record(memo.result)["kind"] in {"learner", "predictor"}
        ]
    return [
        Result(
            task=task.name,
            split=split,
            method=method,
            seed=_seed(),
            n_train=fitted.n_train,
            mae=fitted.held_out_maes[_head(fitted, head)],
            validation_mae=fitted.validation_maes[_head(fitted, head)],
            seconds=round(sum(took) + sum(saved), 1),
            commit=results.commit(),
            hardware=results.hardware(),
        )
        for method, head in variant.methods.items()
    ]


def _make(hub: Path, variant: Variant) -> None:
    # the task's own module is composed by nobody: one epoch of it is enough
    recipe = replace(variant.recipe, module=TrainingSettings(max_steps=1))
    backbone = multitask_backbone() if variant.multitask else CHGNetBackbone.pretrained()
    with patch.object(CHGNetBackbone, "pretrained", lambda: backbone):
        Hub(hub).init(backbone=variant.backbone, starter=variant.starter, recipe=recipe)
    if variant.module == ModuleKind.ADAPTER:
        archive = BUILD / "adapters.moma"
        if not archive.exists():
            with Store.open(UPSTREAM / "adapter") as store:
                names = [ref.partition("/")[2] for ref in store.refs(RefKind.MODULE.prefix)]
            export(UPSTREAM / "adapter", archive, modules=names)
        import_archive(hub, archive)


def _head(fitted: Predictor, head: str) -> str:
    """Find under which name a head's errors stand: without modules there is only one start."""
    if head == ANSWERING:
        return fitted.method
    return head if head in fitted.held_out_maes else Method.FINETUNED


def weights_of(hub: Path, task: str, split: int) -> list[Weighed]:
    """Read which modules a task is composed of.

    Parameters
    ----------
    hub
        Its hub.
    task, split
        Which fit.

    Returns
    -------
    list[Weighed]
        A line for each module, and one for the backbone.
    """
    with Store.open(hub) as store:
        names = {
            digest: ref.partition("/")[2]
            for ref, digest in store.refs(RefKind.MODULE.prefix).items()
        }
        digest = store.ref(RefKind.FITTED.of(task))
        assert digest is not None
        fitted = Predictor.from_doc(store.record(digest))
        found = Composition.from_doc(store.record(fitted.composition))
        learners = [Learner.from_doc(store.record(digest)) for digest in fitted.learners]
        heard = any(learner.readouts for learner in learners)
    weights = {names[m]: w for m, w in zip(found.modules, found.weights, strict=True)}
    return [
        Weighed(
            task=task,
            split=split,
            module=module,
            weight=weight,
            objective=found.objective,
            backbone_objective=found.backbone_objective or found.objective,
            heard=int(heard),
        )
        for module, weight in {**weights, "backbone": found.backbone_weight}.items()
    ]


def _seed() -> int:
    return Recipe().finetune.seed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
