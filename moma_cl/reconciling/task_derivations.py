"""The derivations of a task: the inputs and settings that decide their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.records.hub import Reads
from moma_cl.records.records import (
    Dataset,
    Learner,
    LearnerMethod,
    ModuleKind,
    StartKind,
    learner_name,
)
from moma_cl.records.refs import full_name
from moma_cl.records.tasks import TaskState

MIN_MODULE_ROWS = 20
"""Training rows below which a task trains no module: there is nothing to specialise on."""

PREDICTOR_SECTIONS = ("embedding", "kernel", "finetune", "predictor")
"""Sections of a recipe that a predictor depends on, with those of its learners."""

_SPLIT = ("version", "min_rows_training", "min_rows_interval")
"""Settings of the predictor section that what comes before it depends on: they decide the folds."""


def estimate_derivation(
    state: TaskState, backbone: str, module: str | None, *, sampled: bool = False
) -> Derivation:
    """Describe the estimate of a module, or of its backbone; on a sample of the rows if asked."""
    return Derivation(
        kind=DerivationKind.ESTIMATE,
        task=state.name,
        subject=f"module {module[:12]} of {backbone}" if module else f"the backbone {backbone}",
        inputs={**_inputs_on(state, backbone), "module": module, "sampled": sampled},
        settings={**state.settings("embedding", "estimate"), **_folds(state)},
    )


def composition_derivation(
    state: TaskState, backbone: str, estimates: Sequence[str], *, sampled: bool = False
) -> Derivation:
    """Describe the composition that follows from estimates of a backbone's modules."""
    more: dict[str, Any] = {"sampled": True} if sampled else {}
    return Derivation(
        kind=DerivationKind.COMPOSITION,
        task=state.name,
        subject=f"{len(estimates)} candidates of {backbone}",
        inputs={**_inputs_on(state, backbone), "estimates": list(estimates), **more},
        settings={**state.settings("estimate", "weights"), **_folds(state)},
    )


def kernel_derivation(state: TaskState, backbone: str, composition: str) -> Derivation:
    """Describe the kernel learner on a composition of a backbone's modules."""
    given = {"composition": composition}
    return _learner_derivation(state, backbone, LearnerMethod.KERNEL, StartKind.COMPOSITION, given)


def multitask_kernel_derivation(state: TaskState, backbone: str, module: str) -> Derivation:
    """Describe the kernel learner on a multitask module."""
    given = {"multitask": module}
    return _learner_derivation(state, backbone, LearnerMethod.KERNEL, StartKind.MULTITASK, given)


def carried_derivation(
    state: TaskState, backbone: str, composition: str, learner: str, record: Learner
) -> Derivation:
    """Describe a fine-tuned learner that is carried over to rows that came since its training.

    The composition is that of the kernel learner beside it.
    """
    return Derivation(
        kind=DerivationKind.LEARNER,
        task=state.name,
        subject=full_name(f"{record.name}, carried over", backbone),
        inputs={
            **_inputs_on(state, backbone),
            "method": record.method.value,
            "composition": composition,
            "learner": learner,
        },
        settings=dict(record.settings),
    )


def finetuned_derivations(
    state: TaskState,
    backbone: str,
    composition: str | None,
    *,
    readouts: bool,
    multitask: str | None,
) -> list[Derivation]:
    """Describe the fine-tuned learners of a backbone, in the order in which they are joined.

    Parameters
    ----------
    state
        The task.
    backbone
        Name of the backbone.
    composition
        What half of them start from; none where it has no modules, which is the backbone.
    readouts
        Whether those learn what readouts of the composition's modules leave to be learned.
    multitask
        The module that is fine-tuned in place of the backbone, if there is one.

    Returns
    -------
    list[Derivation]
        Four, or fewer where nothing is composed or adapted.
    """
    beside = StartKind.BACKBONE if multitask is None else StartKind.MULTITASK
    chosen = [
        (LearnerMethod.FINETUNED, StartKind.COMPOSITION),
        (LearnerMethod.FINETUNED, beside),
        (LearnerMethod.ADAPTED, StartKind.COMPOSITION),
        (LearnerMethod.ADAPTED, StartKind.BACKBONE),
    ]
    given: dict[StartKind, dict[str, Any]] = {
        StartKind.COMPOSITION: {"composition": composition, "readouts": readouts},
        StartKind.MULTITASK: {"multitask": multitask},
        StartKind.BACKBONE: {},
    }
    adapts = state.recipe.predictor.adapters and state.task.module.composed is ModuleKind.FULL
    return [
        _learner_derivation(state, backbone, method, start, given[start])
        for method, start in chosen
        if (composition is not None or start is not StartKind.COMPOSITION)
        and (adapts or method is not LearnerMethod.ADAPTED)
    ]


def predictor_derivation(
    state: TaskState,
    compositions: Sequence[str],
    learners: Sequence[str],
    *,
    fast: str | None = None,
    left: Sequence[str] = (),
) -> Derivation:
    """Describe the predictor that joins learners, kernel learners first.

    Beside it may be a predictor that answers fast, and learners that are left for a later fit.
    """
    count = "1 learner" if len(learners) == 1 else f"{len(learners)} learners"
    return Derivation(
        kind=DerivationKind.PREDICTOR,
        task=state.name,
        subject=f"{state.dataset.n_rows} rows, {count}",
        inputs={
            **_inputs(state),
            "compositions": list(compositions),
            "learners": list(learners),
            **({} if fast is None else {"fast": fast}),
            **({"left": list(left)} if left else {}),
        },
        settings=state.settings(*PREDICTOR_SECTIONS),
    )


def module_derivation(store: Reads, state: TaskState, backbone: str, dataset: str) -> Derivation:
    """Describe the task's own module of a backbone, trained on its dataset or an earlier one."""
    return Derivation(
        kind=DerivationKind.MODULE,
        task=state.name,
        subject=f"{Dataset.from_doc(store.record(dataset)).n_rows} rows, {backbone}",
        inputs={**_inputs_on(state, backbone), "dataset": dataset},
        settings=state.settings("module"),
    )


def training_point(store: Reads, dataset_digest: str, factor: float) -> str | None:
    """Find the dataset on which a task's module is trained: a function of the segments alone.

    It is the present or an earlier one, the last that had grown by ``factor``; none where there
    never were enough rows.
    """
    versions: list[tuple[str, Dataset]] = []
    digest: str | None = dataset_digest
    while digest is not None:
        dataset = Dataset.from_doc(store.record(digest))
        versions.append((digest, dataset))
        digest = dataset.previous
    point: str | None = None
    rows_then = 0
    for version, dataset in reversed(versions):
        enough = dataset.n_train >= MIN_MODULE_ROWS and dataset.n_validation > 0
        if enough and dataset.n_rows >= factor * rows_then:
            point, rows_then = version, dataset.n_rows
    return point


def _learner_derivation(
    state: TaskState,
    backbone: str,
    method: LearnerMethod,
    start: StartKind,
    given: Mapping[str, Any],
) -> Derivation:
    sections = ["kernel" if method is LearnerMethod.KERNEL else "finetune"]
    if start is StartKind.COMPOSITION or method is LearnerMethod.KERNEL:
        sections.append("embedding")
    return Derivation(
        kind=DerivationKind.LEARNER,
        task=state.name,
        subject=full_name(learner_name(method, start), backbone),
        inputs={
            **_inputs_on(state, backbone),
            "method": method.value,
            "start": start.value,
            **given,
        },
        settings={**state.settings(*sections), **_folds(state)},
    )


def _folds(state: TaskState) -> dict[str, Any]:
    section = state.settings("predictor").get("predictor", {})
    return {"predictor": {name: section[name] for name in _SPLIT if name in section}}


def _inputs(state: TaskState) -> dict[str, Any]:
    return {"hub": state.hub_digest, "task": state.task_digest, "dataset": state.dataset_digest}


def _inputs_on(state: TaskState, backbone: str) -> dict[str, Any]:
    return {**_inputs(state), "backbone": state.backbones[backbone]}
