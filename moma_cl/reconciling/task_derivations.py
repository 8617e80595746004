"""The derivations of a task: the inputs and settings that decide their keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.records.hub import Reads
from moma_cl.records.records import Dataset, Method
from moma_cl.records.tasks import TaskState

MIN_MODULE_ROWS = 20
"""Training rows below which a task trains no module: there is nothing to specialise on."""

PREDICTOR_SECTIONS = ("embedding", "kernel", "finetune", "predictor")
"""Sections of a recipe that a predictor depends on."""


def estimate_derivation(
    state: TaskState, module: str | None, *, sampled: bool = False
) -> Derivation:
    """Describe the estimate of a module, or of the backbone; on a sample of the rows if asked."""
    return Derivation(
        kind=DerivationKind.ESTIMATE,
        task=state.name,
        subject=f"module {module[:12]}" if module else "the backbone",
        inputs={**_inputs(state), "module": module, "sampled": sampled},
        settings=state.settings("embedding", "estimate", "predictor"),
    )


def composition_derivation(
    state: TaskState, estimates: Sequence[str], *, sampled: bool = False
) -> Derivation:
    """Describe the composition that follows from estimates."""
    more: dict[str, Any] = {"sampled": True} if sampled else {}
    return Derivation(
        kind=DerivationKind.COMPOSITION,
        task=state.name,
        subject=f"{len(estimates)} candidates",
        inputs={**_inputs(state), "estimates": list(estimates), **more},
        settings=state.settings("estimate", "weights", "predictor"),
    )


def predictor_derivation(
    state: TaskState, composition: str, heads: Iterable[Method], *, multitask: str | None = None
) -> Derivation:
    """Describe a predictor; a multitask module is fine-tuned beside the composed encoder."""
    methods = [head.value for head in heads]
    more = {"multitask": multitask} if multitask else {}
    return Derivation(
        kind=DerivationKind.PREDICTOR,
        task=state.name,
        subject=f"{state.dataset.n_rows} rows, {' and '.join(methods)}",
        inputs={**_inputs(state), "composition": composition, "heads": methods, **more},
        settings=state.settings(*PREDICTOR_SECTIONS),
    )


def module_derivation(store: Reads, state: TaskState, dataset: str) -> Derivation:
    """Describe the task's own module, trained on its present dataset or an earlier one."""
    return Derivation(
        kind=DerivationKind.MODULE,
        task=state.name,
        subject=f"{Dataset.from_doc(store.record(dataset)).n_rows} rows",
        inputs={**_inputs(state), "dataset": dataset},
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


def _inputs(state: TaskState) -> dict[str, Any]:
    return {"hub": state.hub_digest, "task": state.task_digest, "dataset": state.dataset_digest}
