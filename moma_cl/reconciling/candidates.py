"""Which modules a task may compose, and which stands beside its composition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.failures import is_set_aside
from moma_cl.reconciling.reasons import AFTER_SCREENING
from moma_cl.reconciling.task_derivations import composition_derivation, estimate_derivation
from moma_cl.reconciling.visitor import Visitor
from moma_cl.records.hub import Reads
from moma_cl.records.records import Composition, Estimate, Module, ModuleKind
from moma_cl.records.refs import RefKind, backbone_in
from moma_cl.records.tasks import TaskState

_KINDS: dict[str, ModuleKind] = {}
"""Kinds of modules by digest, which names one content for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The modules that a task may compose beside the backbone, which is always a candidate."""

    modules: tuple[str, ...]
    excluded: tuple[str, ...] = ()  # estimates of modules that the screening excluded


def choose_candidates(
    store: Reads, visitor: Visitor, state: TaskState, backbone: str
) -> Candidates | None:
    """Choose the modules of a backbone that a task may compose: all, or the best on some rows.

    Those come first that the convex program weights there: what is best beside others is not always
    good alone. The rest are those with the smallest errors. The choice is none while derivations
    that it rests on are missing.
    """
    modules = _composable(store, state, backbone)
    limit = state.recipe.estimate.max_candidates - 1  # the backbone is always one
    if len(modules) <= limit:
        return Candidates(modules=tuple(modules))
    why = "there are more modules than candidates"
    sampled = [
        estimate_derivation(state, backbone, module, sampled=True) for module in (None, *modules)
    ]
    estimates = derive_estimates(store, visitor, sampled, why)
    composition = None
    if estimates is not None:
        derivation = composition_derivation(state, backbone, estimates, sampled=True)
        composition = visitor.derive(derivation, why)
    if estimates is None or composition is None:
        visitor.leave(state.name, DerivationKind.COMPOSITION, AFTER_SCREENING)
        return None
    return _best(store, estimates, _weighted(store, composition), limit)


def derive_estimates(
    store: Reads, visitor: Visitor, derivations: Iterable[Derivation], why: str
) -> list[str] | None:
    """Derive estimates and give their digests; none while one is missing.

    A module whose estimate is set aside is no candidate, as if the module were not there.
    """
    estimates, complete = [], True
    for derivation in derivations:
        digest = visitor.derive(derivation, why)
        if digest is not None:
            estimates.append(digest)
        elif derivation.inputs["module"] is None or not is_set_aside(store, derivation.key):
            complete = False
    return estimates if complete else None


def multitask_beside(store: Reads, state: TaskState, backbone: str) -> str | None:
    """Choose the multitask module that is fine-tuned beside a composed encoder, if any is."""
    if state.task.module == ModuleKind.ADAPTER:
        return None
    modules = _modules_on(store, backbone).values()
    multitask = (digest for digest in modules if _kind_of(store, digest) == ModuleKind.MULTITASK)
    return min(multitask, default=None)


def _composable(store: Reads, state: TaskState, backbone: str) -> list[str]:
    """List the other tasks' modules of the backbone, of the kind that the task composes."""
    modules = _modules_on(store, backbone).items()
    kind = state.task.module.composed
    return sorted({d for name, d in modules if name != state.name and _kind_of(store, d) == kind})


def _modules_on(store: Reads, backbone: str) -> dict[str, str]:
    """List the modules of a backbone by the names of tasks or their own."""
    refs = store.refs(RefKind.MODULE.prefix)
    return {RefKind.MODULE.name_in(r): refs[r] for r in refs if backbone_in(r) == backbone}


def _best(store: Reads, estimates: list[str], weighted: list[str], limit: int) -> Candidates:
    """Take the weighted modules, then those of the smallest errors."""
    records = {digest: Estimate.from_doc(store.record(digest)) for digest in estimates}
    errors = sorted((e.mae, e.module) for e in records.values() if e.mae is not None and e.module)
    ranked = dict.fromkeys([*weighted, *(module for _, module in errors)])
    return Candidates(
        modules=tuple(sorted(list(ranked)[:limit])),
        excluded=tuple(sorted(d for d, e in records.items() if e.mae is None and e.module)),
    )


def _weighted(store: Reads, composition: str) -> list[str]:
    """List the modules of a composition, the largest weight first."""
    record = Composition.from_doc(store.record(composition))
    ranked = sorted(zip(record.weights, record.modules, strict=True), reverse=True)
    return [module for _, module in ranked]


def _kind_of(store: Reads, module: str) -> ModuleKind:
    """Read the kind of a module once: a walk asks for every task."""
    if module not in _KINDS:
        _KINDS[module] = Module.from_doc(store.record(module)).module
    return _KINDS[module]
