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

from benchmarks.paper import results
from benchmarks.paper.answers import save
from benchmarks.paper.fits import kept_fits
from benchmarks.paper.results import Result, Weighed
from benchmarks.paper.tasks import N_SPLITS, TASKS, PaperTask
from benchmarks.upstream import multitask
from benchmarks.upstream.__main__ import BUILD as UPSTREAM
from moma_cl.commands.archive import export, import_archive
from moma_cl.hub import Hub
from moma_cl.recipe import KernelSettings, PredictorSettings, Recipe, TrainingSettings
from moma_cl.records.hub import backbone_record
from moma_cl.records.records import (
    Composition,
    Learner,
    LearnerMethod,
    ModuleKind,
    Predictor,
    StartKind,
    learner_name,
)
from moma_cl.records.refs import MODULE_ZERO, RefKind, full_name
from moma_store.store import Store

BUILD = Path("build/paper")
FITS = BUILD / "fits"
ANSWERS = BUILD / "answers"
BACKBONES = ("chgnet", "sevennet-0")
ANSWERING = "what answers"
KERNEL = learner_name(LearnerMethod.KERNEL, StartKind.COMPOSITION)
KERNEL_ON_MULTITASK = learner_name(LearnerMethod.KERNEL, StartKind.MULTITASK)
FROM_COMPOSITION = learner_name(LearnerMethod.FINETUNED, StartKind.COMPOSITION)
FROM_MULTITASK = learner_name(LearnerMethod.FINETUNED, StartKind.MULTITASK)
FROM_BACKBONE = learner_name(LearnerMethod.FINETUNED, StartKind.BACKBONE)
ADAPTED_COMPOSITION = learner_name(LearnerMethod.ADAPTED, StartKind.COMPOSITION)
ADAPTED_BACKBONE = learner_name(LearnerMethod.ADAPTED, StartKind.BACKBONE)
# without modules the whole backbone is then all that is fine-tuned, as in the paper
ONE_START = replace(Recipe(), predictor=PredictorSettings(adapters=False, finetuned_backbones=2))
# what modules predict of their own properties is a way of composing them
NO_READOUTS = replace(ONE_START, kernel=KernelSettings(readout_weights=()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to set a hub up, and the learner that stands behind each method of the table.

    Attributes
    ----------
    methods
        The learner of each method, without its backbone, which both names end with.
    answering
        Name of the method that is what answers in such a hub; empty where it is not shown.
    backbones
        Names of the hub's backbones.
    starter
        Whether the hub has the modules that ship with the package.
    multitask
        Whether it has the multitask modules alone.
    module
        Kind of the modules that are composed.
    recipe
        What the task is added with.
    """

    methods: Mapping[str, str]
    answering: str = ""
    backbones: tuple[str, ...] = BACKBONES
    starter: bool = False
    multitask: bool = False
    module: ModuleKind = ModuleKind.NONE
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def learners(self) -> dict[str, str]:
        """The learner of each method, or what answers, by their full names."""
        learners = {
            full_name(method, backbone): full_name(learner, backbone)
            for method, learner in self.methods.items()
            for backbone in self.backbones
        }
        return {**learners, **({self.answering: ANSWERING} if self.answering else {})}


_ALONE = {"kernel": KERNEL, "ft": FROM_BACKBONE}

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "composed": Variant(
            methods={
                "moma-kernel": KERNEL,
                "mt-readouts": KERNEL_ON_MULTITASK,
                "moma-full": FROM_COMPOSITION,
                "moma-adapted": ADAPTED_COMPOSITION,
                "ft-adapted": ADAPTED_BACKBONE,
            },
            answering="composed",
            starter=True,
        ),
        "alone": Variant(methods=_ALONE, recipe=ONE_START),
        "multitask": Variant(
            methods={"mt": FROM_MULTITASK, "mt-kernel": KERNEL_ON_MULTITASK},
            multitask=True,
            recipe=NO_READOUTS,
        ),
        "without": Variant(
            methods={**_ALONE, "ft-adapted": ADAPTED_BACKBONE}, answering="alone-default"
        ),
        "adapter": Variant(
            methods={"moma-adapter": FROM_COMPOSITION, "ft-adapter": FROM_BACKBONE},
            module=ModuleKind.ADAPTER,
        ),
        **{
            name: Variant(methods=_ALONE, backbones=(name,), recipe=ONE_START)
            for name in ("cgcnn", "sevennet-l3i5")
        },
    }
)


def main(arguments: list[str]) -> int:
    """Fit what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--tasks", default=",".join(task.name for task in TASKS))
    parser.add_argument("--splits", default=",".join(map(str, range(N_SPLITS))))
    parser.add_argument("--variants", default="composed,alone,multitask")
    given = parser.parse_args(arguments)
    wanted = set(given.tasks.split(","))
    for split in map(int, given.splits.split(",")):
        for task in (task for task in TASKS if task.name in wanted):
            for name in given.variants.split(","):
                fill(task, split, name)
    return 0


def fill(task: PaperTask, split: int, name: str, table: Path = results.FILE) -> None:
    """Fit a variant on one split, unless the table has it.

    Parameters
    ----------
    task, split
        What to fit.
    name
        Name of the variant.
    table
        Where the errors are kept.
    """
    variant = VARIANTS[name]
    present = {line.key for line in results.read(Result, table)}
    keys = {(task.name, split, method, _seed()) for method in variant.learners}
    kept = ANSWERS / f"{name}-{task.name}-{split}.npz"
    if keys & present:  # a learner may be missing, where no rows were left to judge it
        return
    start = time.perf_counter()
    hub = BUILD / f"{name}-{task.name}-{split}"
    lines = _fit(task, split, hub, variant, kept)
    results.append(lines, table)
    if variant.starter and table == results.FILE:
        results.append(weights_of(hub, task.name, split), results.WEIGHTS)
    errors = ", ".join(f"{line.method} {line.mae:.4g}" for line in lines)
    print(
        f"{task.name} {split}: {errors} {task.unit}, {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def _fit(task: PaperTask, split: int, hub: Path, variant: Variant, kept: Path) -> list[Result]:
    if not (hub / "hub.toml").exists():
        make_hub(hub, variant)
    with Store.open(hub) as store:
        begun = store.ref(RefKind.TASK.of(task.name)) is not None
    if not begun:
        Hub(hub).add_task(
            task.name,
            [task.file],
            target=task.target,
            unit=task.unit,
            transform=task.transform,
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
    save(hub, fitted, kept)
    learners = {
        method: fitted.method if learner == ANSWERING else learner
        for method, learner in variant.learners.items()
    }
    return [
        Result(
            task=task.name,
            split=split,
            method=method,
            seed=_seed(),
            n_train=fitted.n_train,
            mae=fitted.held_out_maes[learner],
            validation_mae=fitted.validation_maes[learner],
            seconds=round(sum(took) + sum(saved), 1),
            commit=results.commit(),
            hardware=results.hardware(),
        )
        for method, learner in learners.items()
        if learner in fitted.held_out_maes
    ]


def make_hub(hub: Path, variant: Variant) -> None:
    """Make a hub as a variant has it.

    Parameters
    ----------
    hub
        Its folder.
    variant
        Which variant.
    """
    # the task's own module is composed by nobody: one epoch of it is enough
    recipe = replace(variant.recipe, module=TrainingSettings(max_steps=1))
    Hub(hub).init(backbones=variant.backbones, starter=variant.starter, recipe=recipe)
    for backbone in variant.backbones:
        if variant.module == ModuleKind.ADAPTER:
            import_archive(hub, _adapters(backbone))
        elif variant.multitask:
            import_archive(hub, _multitask(backbone))


def _adapters(backbone: str) -> Path:
    archive = BUILD / f"adapters-{backbone}.moma"
    if not archive.exists():
        with Store.open(UPSTREAM / backbone / "adapter") as store:
            refs = store.refs(RefKind.MODULE.prefix)
        names = [RefKind.MODULE.full_name_in(ref) for ref in refs]
        export(UPSTREAM / backbone / "adapter", archive, modules=names)
    return archive


def _multitask(backbone: str) -> Path:
    archive, hub = BUILD / f"multitask-{backbone}.moma", BUILD / f"starter-{backbone}"
    if not archive.exists():
        Hub(hub).init(backbones=[backbone])
        export(hub, archive, modules=[full_name(multitask.NAME, backbone)])
    return archive


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
        refs = store.refs(RefKind.MODULE.prefix)
        names = {digest: RefKind.MODULE.full_name_in(ref) for ref, digest in refs.items()}
        digest = store.ref(RefKind.FITTED.of(task))
        assert digest is not None
        fitted = Predictor.from_doc(store.record(digest))
        found = [Composition.from_doc(store.record(one)) for one in fitted.compositions]
        backbones = {one.backbone: backbone_record(store, one.backbone).name for one in found}
        learners = [Learner.from_doc(store.record(digest)) for digest in fitted.learners]
    lines = []
    for one in found:
        heard = any(learner.readouts for learner in learners if learner.backbone == one.backbone)
        weights = {names[module]: weight for module, weight in one.heaviest_first()}
        weights[full_name(MODULE_ZERO, backbones[one.backbone])] = one.backbone_weight
        lines += [
            Weighed(
                task=task,
                split=split,
                module=module,
                weight=weight,
                objective=one.objective,
                backbone_objective=one.backbone_objective or one.objective,
                heard=int(heard),
            )
            for module, weight in weights.items()
        ]
    return lines


def _seed() -> int:
    return Recipe().finetune.seed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
