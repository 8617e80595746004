"""The walk: from the refs to every derivation that the hub's tasks need.

The composer is a build system. Nothing depends on events, so none can be lost; a killed run
resumes where it stopped, and running twice does nothing the second time. This module is light:
planning, and a pass with nothing to do, import no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from moma_cl.derivations.keys import DerivationKind
from moma_cl.reconciling.candidates import choose_candidates, derive_estimates
from moma_cl.reconciling.fit_decision import decide_fit
from moma_cl.reconciling.learners import fast_derivation, finetuned_expected, fit_learners
from moma_cl.reconciling.reasons import (
    AFTER_COMPOSITION,
    AFTER_ESTIMATES,
    AFTER_LEARNERS,
    why_estimate,
    why_module,
)
from moma_cl.reconciling.task_derivations import (
    composition_derivation,
    estimate_derivation,
    kernel_derivation,
    module_derivation,
    predictor_derivation,
    training_point,
)
from moma_cl.reconciling.visitor import Visitor
from moma_cl.records.hub import Reads
from moma_cl.records.records import ModuleKind
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.errors import BusyError, MomaError, StorageError

Stage = Callable[[Reads, Visitor, TaskState], None]
"""A part of the walk that is done for every task before the next part begins."""


def walk(
    store: Reads,
    visitor: Visitor,
    *,
    only: Collection[str] | None = None,
    derive_collected: Callable[[], bool] = lambda: False,
) -> set[str]:
    """Bring all tasks, or only some, up to date: predictors before modules, until nothing changes.

    A task's own module comes after its predictor, since nothing of that task waits for it; once
    it is there, the other tasks' compositions are due again. What comes back are the tasks that
    failed.

    A visitor that only collects what to derive brings ``derive_collected``, which derives all of it
    at once, and says whether there was anything. The stage is then run again, so that what is
    derived, and from what, is the same as one by one.
    """
    failed: set[str] = set()
    modules: dict[str, str] | None = None
    while modules != (modules := store.refs(RefKind.MODULE.prefix)):
        for stage in (first_answer, _compose_and_fit, _train_modules):
            _run_for_all(stage, store, visitor, only, failed)
            while derive_collected():
                _run_for_all(stage, store, visitor, only, failed)
    return failed


def _run_for_all(
    stage: Stage, store: Reads, visitor: Visitor, only: Collection[str] | None, failed: set[str]
) -> None:
    for name in task_names(store):
        if name not in failed and (only is None or name in only):
            run_stage(stage, store, visitor, name, failed)


def run_stage(stage: Stage, store: Reads, visitor: Visitor, name: str, failed: set[str]) -> None:
    """Run a stage for one task; what is wrong with the task does not stop the others.

    The task joins `failed` if it fails. An error that concerns every task is raised: the disk
    refuses, or somebody else moved a ref.
    """
    try:
        stage(store, visitor, task_state(store, name))
    except (StorageError, BusyError):
        raise
    except MomaError as error:
        failed.add(name)
        visitor.fail(name, error)


def first_answer(store: Reads, visitor: Visitor, state: TaskState) -> None:
    """Make the kernel learner on the first bare backbone, unless the task has a predictor."""
    if store.ref(RefKind.PREDICTOR.of(state.name)) is not None:
        return
    backbone = min(state.backbones)
    estimate = visitor.derive(estimate_derivation(state, backbone, None), "the task is new")
    if estimate is None:
        return
    derivation = composition_derivation(state, backbone, [estimate])
    composition = visitor.derive(derivation, "the task is new")
    if composition is None:
        return
    why = "the task has no predictor"
    kernel = visitor.derive(kernel_derivation(state, backbone, composition), why)
    if kernel is None:
        return
    predictor = visitor.derive(predictor_derivation(state, [composition], [kernel]), why)
    if predictor is not None:
        visitor.promote(state.name, predictor, first=True)


def _compose_and_fit(store: Reads, visitor: Visitor, state: TaskState) -> None:
    compositions = {}
    for backbone in state.backbones:
        composition = _derive_composition(store, visitor, state, backbone)
        if composition is None:
            continue
        compositions[backbone] = composition
        if store.ref(RefKind.COMPOSITION.on(state.name, backbone)) != composition:
            visitor.compose(state.name, composition)
    # one whose bare parameters cannot be estimated must not keep the others from answering
    missing = [
        backbone
        for backbone in state.backbones
        if backbone not in compositions
        and not visitor.gives_up(estimate_derivation(state, backbone, None))
    ]
    if missing or not compositions:
        expected = finetuned_expected(store, state, missing)
        visitor.leave(state.name, DerivationKind.PREDICTOR, AFTER_COMPOSITION, expected=expected)
        return
    _fit(store, visitor, state, compositions)


def _derive_composition(
    store: Reads, visitor: Visitor, state: TaskState, backbone: str
) -> str | None:
    """Weigh the modules that a task may compose; none while something is missing for it."""
    candidates = choose_candidates(store, visitor, state, backbone)
    if candidates is None:
        return None
    modules = (None, *candidates.modules)
    derivations = [estimate_derivation(state, backbone, module) for module in modules]
    why = why_estimate(store, state, backbone)
    estimates = derive_estimates(store, visitor, derivations, why)
    if estimates is None:
        visitor.leave(state.name, DerivationKind.COMPOSITION, AFTER_ESTIMATES)
        return None
    derivation = composition_derivation(state, backbone, [*estimates, *candidates.excluded])
    return visitor.derive(derivation, "modules or data are new")


def _fit(store: Reads, visitor: Visitor, state: TaskState, compositions: Mapping[str, str]) -> None:
    decision = decide_fit(store, state, compositions)
    fitted = fit_learners(store, visitor, state, decision)
    if fitted is None:
        visitor.leave(state.name, DerivationKind.PREDICTOR, AFTER_LEARNERS)
        return
    fast = None
    if len(fitted.learners) > 1:
        alone = fast_derivation(store, state, fitted)
        fast = visitor.derive(alone, decision.why)
        if fast is None and not visitor.gives_up(alone):
            visitor.leave(state.name, DerivationKind.PREDICTOR, AFTER_LEARNERS)
            return
    starts = list(fitted.compositions.values())
    derivation = predictor_derivation(state, starts, fitted.learners, fast=fast, left=fitted.left)
    predictor = visitor.derive(derivation, decision.why)
    if decision.not_worth_it is not None:  # after what else would be said of the predictor
        visitor.leave(state.name, DerivationKind.PREDICTOR, decision.not_worth_it)
    if predictor is not None and predictor != store.ref(RefKind.FITTED.of(state.name)):
        visitor.promote(state.name, predictor, first=False)


def _train_modules(store: Reads, visitor: Visitor, state: TaskState) -> None:
    """Train the task's module of each backbone where its rows had grown enough the last time."""
    if state.task.module == ModuleKind.NONE:
        return
    point = training_point(store, state.dataset_digest, state.recipe.retrain_factor)
    if point is None:
        return
    refs = {one: RefKind.MODULE.on(state.name, one) for one in state.backbones}
    present = {backbone: store.ref(ref) for backbone, ref in refs.items()}
    whys = {one: why_module(store, present[one], point) for one in state.backbones}
    for why in dict.fromkeys(whys.values()):
        backbones = [one for one in state.backbones if whys[one] == why]
        derivations = [module_derivation(store, state, one, point) for one in backbones]
        for backbone, module in zip(backbones, visitor.derive_all(derivations, why), strict=True):
            if module is not None and module != present[backbone]:
                visitor.add_module(state.name, module)
