"""Reconciling: walk from the refs, compute the keys, and run what the memo lacks.

The composer is a build system. Nothing depends on events, so none can be lost; a killed run
resumes where it stopped, and running twice does nothing the second time. This module is light:
planning, and a pass with nothing to do, import no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.failures import set_aside
from moma_cl.records.hub import Reads
from moma_cl.records.records import (
    Composition,
    Dataset,
    Estimate,
    Method,
    Module,
    ModuleKind,
    Predictor,
)
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.errors import BusyError, MomaError, StorageError

MIN_MODULE_ROWS = 20
"""Training rows below which a task trains no module: there is nothing to specialise on."""


class Worker(Protocol):
    """What a walk does at each step: compute and move refs, or only take notes."""

    def derive(self, derivation: Derivation, why: str) -> str | None:
        """Give the digest of the result, or none where it is not known yet."""

    def compose(self, task: str, composition: str) -> None:
        """Make a composition the task's present one."""

    def adopt_module(self, task: str, module: str) -> None:
        """Make a module the task's present one."""

    def adopt_predictor(self, task: str, predictor: str, *, first: bool) -> None:
        """Put a fitted predictor beside the champion, or in its place."""

    def leave(self, task: str, kind: DerivationKind, why: str) -> None:
        """Note what could be computed but is not worth it, or waits for something else."""

    def fail(self, task: str, error: MomaError) -> None:
        """Note that a task could not be brought up to date; the others go on."""


PREDICTOR_SECTIONS = ("embedding", "kernel", "finetune", "predictor")
"""Sections of a recipe that a predictor depends on."""

NOT_WORTH_IT = "not worth it"

Step = Callable[[Reads, Worker, TaskState], None]


BY_WEIGHT = 3  # version of estimates from which on screening asks the convex program
BESIDE_MULTITASK = 5  # version of predictors from which on a multitask module stands beside
_KINDS: dict[str, ModuleKind] = {}
"""Kinds of modules by digest, which names one content for good."""


def walk(
    store: Reads,
    worker: Worker,
    *,
    only: Collection[str] | None = None,
    settle: Callable[[], bool] = lambda: False,
) -> set[str]:
    """Bring every task up to date: predictors before modules, until nothing changes.

    A task's own module comes after its predictor, since nothing of that task waits for it; once
    it is there, the other tasks' compositions are due again.

    Parameters
    ----------
    store
        The hub's store.
    worker
        What is done at each step.
    only
        Tasks to look at; all by default.
    settle
        For a worker that only collects what to derive: derives it, all at once, and says whether
        there was anything. The step is then taken again, so that what is derived, and from what,
        is the same as one by one.

    Returns
    -------
    set[str]
        Tasks that failed.
    """
    failed: set[str] = set()
    modules: dict[str, str] | None = None
    while modules != (modules := store.refs(RefKind.MODULE.prefix)):
        for step in (first_answer, _compose_and_fit, _own_module):
            _take(step, store, worker, only, failed)
            while settle():
                _take(step, store, worker, only, failed)
    return failed


def _take(
    step: Step, store: Reads, worker: Worker, only: Collection[str] | None, failed: set[str]
) -> None:
    for name in task_names(store):
        if name not in failed and (only is None or name in only):
            attempt(step, store, worker, name, failed)


def attempt(step: Step, store: Reads, worker: Worker, name: str, failed: set[str]) -> None:
    """Take a step for one task; what is wrong with the task does not stop the others.

    Parameters
    ----------
    step
        What to do.
    store
        The hub's store.
    worker
        What is done at each step.
    name
        The task.
    failed
        Tasks that failed before; the task joins them if it fails.

    Raises
    ------
    StorageError
        If the disk refuses, which concerns every task.
    BusyError
        If somebody else moved a ref.
    """
    try:
        step(store, worker, task_state(store, name))
    except (StorageError, BusyError):
        raise
    except MomaError as error:
        failed.add(name)
        worker.fail(name, error)


def first_answer(store: Reads, worker: Worker, state: TaskState) -> None:
    """Make the kernel head on the bare backbone, unless the task has a predictor.

    Parameters
    ----------
    store
        The hub's store.
    worker
        What is done at each step.
    state
        The task.
    """
    if store.ref(RefKind.PREDICTOR.of(state.name)) is not None:
        return
    first = worker.derive(_estimate(state, None), "the task is new")
    composition = worker.derive(_composition(state, [first]), "the task is new") if first else None
    if composition is None:
        return
    predictor = worker.derive(
        _predictor(state, composition, [Method.KERNEL]), "the task has no predictor"
    )
    if predictor is not None:
        worker.adopt_predictor(state.name, predictor, first=True)


def _compose_and_fit(store: Reads, worker: Worker, state: TaskState) -> None:
    candidates = _candidates(store, worker, state)
    if candidates is None:
        return
    why = _why_estimate(store, state)
    wanted = [_estimate(state, module) for module in (None, *candidates.modules)]
    known, waiting = _derived(store, worker, wanted, why)
    known.extend(candidates.excluded)
    if waiting:
        worker.leave(state.name, DerivationKind.COMPOSITION, "after its estimates")
        return
    composition = worker.derive(_composition(state, known), "modules or data are new")
    if composition is None:
        worker.leave(state.name, DerivationKind.PREDICTOR, "if its composition is worth it")
        return
    if store.ref(RefKind.COMPOSITION.of(state.name)) != composition:
        worker.compose(state.name, composition)
    _fit(store, worker, state, composition)


def _derived(
    store: Reads, worker: Worker, wanted: Iterable[Derivation], why: str
) -> tuple[list[str], bool]:
    """Derive estimates; say whether any is still to come.

    One of a module that is set aside is done without, as if the module were not there.
    """
    known, waiting = [], False
    for derivation in wanted:
        digest = worker.derive(derivation, why)
        if digest is not None:
            known.append(digest)
        elif derivation.inputs["module"] is None or not set_aside(store, derivation.key):
            waiting = True
    return known, waiting


def _fit(store: Reads, worker: Worker, state: TaskState, composition: str) -> None:
    why = _why_fit(store, state, composition)
    if why is None:
        return
    if why.startswith(NOT_WORTH_IT):
        worker.leave(state.name, DerivationKind.PREDICTOR, why)
        return
    heads = [Method.KERNEL, Method.FINETUNED] if state.trains else [Method.KERNEL]
    beside = _multitask(store, state) if state.trains else None
    predictor = worker.derive(_predictor(state, composition, heads, multitask=beside), why)
    if predictor is not None:
        worker.adopt_predictor(state.name, predictor, first=False)


def _why_fit(store: Reads, state: TaskState, composition: str) -> str | None:
    """Why a predictor is due; none where it is up to date."""
    fitted_digest = store.ref(RefKind.FITTED.of(state.name))
    if fitted_digest is None:
        return "the task has no fitted predictor"
    fitted = Predictor.from_doc(store.record(fitted_digest))
    if fitted.dataset != state.dataset_digest:
        return "its data changed"
    if fitted.settings != state.settings(*PREDICTOR_SECTIONS):
        return "its recipe changed"
    if fitted.composition == composition:
        return None
    before = Composition.from_doc(store.record(fitted.composition)).objective
    after = Composition.from_doc(store.record(composition)).objective
    fall = (before - after) / before if before > 0 else 0.0
    change = f"the objective went from {before:.4g} to {after:.4g}"
    if fall >= state.recipe.worth_it:
        return f"{change}, a fall of {fall:.1%}"
    return f"{NOT_WORTH_IT}: {change}, not a fall of {state.recipe.worth_it:.1%}"


def _own_module(store: Reads, worker: Worker, state: TaskState) -> None:
    """Train the task's module at the last point where its rows had grown enough."""
    if state.task.module == ModuleKind.NONE:
        return
    point = training_point(store, state.dataset_digest, state.recipe.retrain_factor)
    if point is None:
        return
    derivation = Derivation(
        kind=DerivationKind.MODULE,
        task=state.name,
        subject=f"{Dataset.from_doc(store.record(point)).n_rows} rows",
        inputs={"hub": state.hub_digest, "task": state.task_digest, "dataset": point},
        settings=state.settings("module"),
    )
    present = store.ref(RefKind.MODULE.of(state.name))
    module = worker.derive(derivation, _why_module(store, present, point))
    if module is not None and module != present:
        worker.adopt_module(state.name, module)


def training_point(store: Reads, dataset_digest: str, factor: float) -> str | None:
    """Find the dataset on which a task's module is trained: a function of the segments alone.

    Parameters
    ----------
    store
        The hub's store.
    dataset_digest
        The present dataset.
    factor
        Growth at which a module is trained again.

    Returns
    -------
    str | None
        Digest of the present or an earlier dataset; none where there never were enough rows.
    """
    chain: list[tuple[str, Dataset]] = []
    digest: str | None = dataset_digest
    while digest is not None:
        dataset = Dataset.from_doc(store.record(digest))
        chain.append((digest, dataset))
        digest = dataset.previous
    point: str | None = None
    rows_then = 0
    for found, dataset in reversed(chain):
        enough = dataset.n_train >= MIN_MODULE_ROWS and dataset.n_validation > 0
        if enough and dataset.n_rows >= factor * rows_then:
            point, rows_then = found, dataset.n_rows
    return point


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    modules: tuple[str, ...]
    excluded: tuple[str, ...] = ()  # estimates of modules that the screening excluded


def _candidates(store: Reads, worker: Worker, state: TaskState) -> _Candidates | None:
    """List the modules a task may compose, chosen on a sample where there are very many.

    Those come first that the convex program weights there: what is best beside others is not always
    good alone. The rest are those with the smallest errors.
    """
    modules = sorted(
        {
            digest
            for name, digest in store.refs(RefKind.MODULE.prefix).items()
            if name != RefKind.MODULE.of(state.name)
            and _kind_of(store, digest) == state.task.module.composed
        }
    )
    limit = state.recipe.estimate.max_candidates - 1  # the backbone is always one
    if len(modules) <= limit:
        return _Candidates(modules=tuple(modules))
    why = "there are more modules than candidates"
    by_weight = state.recipe.estimate.version >= BY_WEIGHT
    first = (None,) if by_weight else ()
    wanted = [_estimate(state, module, sampled=True) for module in (*first, *modules)]
    known, waiting = _derived(store, worker, wanted, why)
    screened = None
    if by_weight and not waiting:
        screened = worker.derive(_composition(state, known, sampled=True), why)
    if waiting or (by_weight and screened is None):
        worker.leave(state.name, DerivationKind.COMPOSITION, "after the screening of all modules")
        return None
    estimates = {digest: Estimate.from_doc(store.record(digest)) for digest in known}
    errors = sorted((e.mae, e.module) for e in estimates.values() if e.mae is not None and e.module)
    ranked = dict.fromkeys([*_weighted(store, screened), *(module for _, module in errors)])
    return _Candidates(
        modules=tuple(sorted(list(ranked)[:limit])),
        excluded=tuple(sorted(d for d, e in estimates.items() if e.mae is None and e.module)),
    )


def _weighted(store: Reads, composition: str | None) -> list[str]:
    """List the modules of a composition, the largest weight first."""
    if composition is None:
        return []
    found = Composition.from_doc(store.record(composition))
    ranked = sorted(zip(found.weights, found.modules, strict=True), reverse=True)
    return [module for _, module in ranked]


def _multitask(store: Reads, state: TaskState) -> str | None:
    """Find the module of several properties that is fine-tuned beside the composed encoder."""
    if state.recipe.predictor.version < BESIDE_MULTITASK or state.task.module == ModuleKind.ADAPTER:
        return None
    modules = store.refs(RefKind.MODULE.prefix).values()
    found = (digest for digest in modules if _kind_of(store, digest) == ModuleKind.MULTITASK)
    return min(found, default=None)


def _kind_of(store: Reads, module: str) -> ModuleKind:
    """Read the kind of a module once: a walk asks for every task."""
    if module not in _KINDS:
        _KINDS[module] = Module.from_doc(store.record(module)).module
    return _KINDS[module]


def _estimate(state: TaskState, module: str | None, *, sampled: bool = False) -> Derivation:
    return Derivation(
        kind=DerivationKind.ESTIMATE,
        task=state.name,
        subject=f"module {module[:12]}" if module else "the backbone",
        inputs={
            "hub": state.hub_digest,
            "task": state.task_digest,
            "dataset": state.dataset_digest,
            "module": module,
            "sampled": sampled,
        },
        settings=state.settings("embedding", "estimate", "predictor"),
    )


def _composition(
    state: TaskState, estimates: Iterable[str], *, sampled: bool = False
) -> Derivation:
    listed = list(estimates)
    return Derivation(
        kind=DerivationKind.COMPOSITION,
        task=state.name,
        subject=f"{len(listed)} candidates",
        inputs={
            "hub": state.hub_digest,
            "task": state.task_digest,
            "dataset": state.dataset_digest,
            "estimates": listed,
            **({"sampled": True} if sampled else {}),
        },
        settings=state.settings("estimate", "weights", "predictor"),
    )


def _predictor(
    state: TaskState, composition: str, heads: list[Method], *, multitask: str | None = None
) -> Derivation:
    return Derivation(
        kind=DerivationKind.PREDICTOR,
        task=state.name,
        subject=f"{state.dataset.n_rows} rows, {' and '.join(heads)}",
        inputs={
            "hub": state.hub_digest,
            "task": state.task_digest,
            "dataset": state.dataset_digest,
            "composition": composition,
            "heads": [head.value for head in heads],
            **({"multitask": multitask} if multitask else {}),
        },
        settings=state.settings(*PREDICTOR_SECTIONS),
    )


def _why_estimate(store: Reads, state: TaskState) -> str:
    present = store.ref(RefKind.COMPOSITION.of(state.name))
    if present is None:
        return "the task has no composition"
    if Composition.from_doc(store.record(present)).dataset != state.dataset_digest:
        return "its data changed"
    return "the module or the recipe is new"


def _why_module(store: Reads, present: str | None, point: str) -> str:
    if present is None:
        return "the task has no module"
    if Module.from_doc(store.record(present)).dataset != point:
        return "its rows have grown"
    return "its recipe changed"
