"""The learners of a task: which there are, and how a walk comes to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.reconciling.candidates import multitask_beside
from moma_cl.reconciling.fit_decision import FitDecision
from moma_cl.reconciling.reasons import AFTER_KERNEL
from moma_cl.reconciling.task_derivations import (
    carried_derivation,
    finetuned_derivations,
    kernel_derivation,
    multitask_kernel_derivation,
    predictor_derivation,
)
from moma_cl.reconciling.visitor import Visitor
from moma_cl.records.hub import Reads, backbone_record
from moma_cl.records.records import Composition, Learner, LearnerMethod, Predictor, StartKind
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState

UNKNOWN_COMPOSITION = "unknown"
"""Stands for a composition that is not derived yet, where it is told what would follow from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLearners:
    """The learners of a task that can be joined."""

    compositions: dict[str, str]  # that they start from, by the names of backbones
    learners: list[str]  # digests, kernel learners first
    left: list[str]  # trained learners that were to be carried over, and are given up for now


def fit_learners(
    store: Reads, visitor: Visitor, state: TaskState, decision: FitDecision
) -> FittedLearners | None:
    """Fit the learners of a task; none while one is missing that is not given up in this pass.

    The kernel learner on a backbone's composition tells whether readouts help those that start from
    it; the others need not wait for it. All fine-tuned learners are fitted at once, those
    first that mostly err least, of the backbones whose compositions say most of the targets. A
    backbone whose kernel learner is given up is left out.
    """
    compositions = decision.compositions
    kernels = _fit_kernels(store, visitor, state, decision)
    fitted = kernels.composed
    before = _finetuned_before(store, state)
    able = {
        backbone: composition
        for backbone, composition in compositions.items()
        if fitted[backbone] is not None or backbone not in kernels.given_up
    }
    tuned = _finetuned_backbones(store, state, able, before)
    found = _fit_finetuned(store, visitor, state, decision, kernels=fitted, backbones=tuned)
    if before - tuned and not found.digests and all(visitor.gives_up(one) for one in found.missing):
        tuned = before & able.keys()  # what is there answers until the others are
        found = _fit_finetuned(store, visitor, state, decision, kernels=fitted, backbones=tuned)
    joined = {backbone: one for backbone, one in compositions.items() if fitted[backbone]}
    missing = [*kernels.missing, *found.missing]
    if not joined or not all(visitor.gives_up(one) for one in missing):
        return None
    roots = {root for name, some in decision.carried.items() if name in tuned for root in some}
    return FittedLearners(
        compositions=joined,
        learners=[
            *(digest for backbone in joined for digest in kernels.on(backbone)),
            *(digest for backbone in joined for digest in found.digests.get(backbone, [])),
        ],
        left=sorted(roots - {one for name in joined for one in found.carried.get(name, [])}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernels:
    """The kernel learners of a task."""

    composed: dict[str, str | None]  # digests of those on compositions, by backbone
    beside: dict[str, str]  # digests of those on multitask modules, by backbone
    missing: list[Derivation]
    given_up: set[str]  # backbones whose learner on the composition will not come in this pass

    def on(self, backbone: str) -> list[str]:
        """List those of a backbone that are there."""
        found = (self.composed[backbone], self.beside.get(backbone))
        return [digest for digest in found if digest is not None]


def _fit_kernels(
    store: Reads, visitor: Visitor, state: TaskState, decision: FitDecision
) -> _Kernels:
    """Fit the kernel learners of all backbones: on the composition, and on a multitask module."""
    derivations = {
        backbone: kernel_derivation(state, backbone, composition)
        for backbone, composition in decision.compositions.items()
    }
    modules = {one: multitask_beside(store, state, one) for one in decision.compositions}
    beside = {
        backbone: multitask_kernel_derivation(state, backbone, module)
        for backbone, module in modules.items()
        if module is not None
    }
    composed, heard = (
        {backbone: visitor.derive(one, decision.why) for backbone, one in some.items()}
        for some in (derivations, beside)
    )
    missing = {name: derivations[name] for name, digest in composed.items() if digest is None}
    return _Kernels(
        composed=composed,
        beside={name: digest for name, digest in heard.items() if digest is not None},
        missing=[
            *missing.values(),
            *(beside[name] for name, digest in heard.items() if digest is None),
        ],
        given_up={name for name, one in missing.items() if visitor.gives_up(one)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finetuned:
    """The fine-tuned learners of a task, by the names of backbones."""

    digests: dict[str, list[str]]  # of those that are there
    carried: dict[str, list[str | None]]  # of those, the trained learners that are carried over
    missing: list[Derivation]


def _fit_finetuned(
    store: Reads,
    visitor: Visitor,
    state: TaskState,
    decision: FitDecision,
    *,
    kernels: Mapping[str, str | None],
    backbones: Collection[str],
) -> _Finetuned:
    """Fit the fine-tuned learners of some backbones beside their kernel learners, all at once."""
    ready: dict[str, list[Derivation]] = {}
    for backbone, composition in decision.compositions.items():
        if backbone not in backbones:
            continue
        kernel, trained = kernels[backbone], decision.carried.get(backbone, [])
        finetuned = finetuned_beside(store, state, backbone, composition, kernel)
        carried = _carried(store, state, backbone, composition, trained)
        finetuned = _with_carried(finetuned, carried)
        waiting = [one for one in finetuned if kernel is None and _is_composed(one)]
        ready[backbone] = [one for one in finetuned if one not in waiting]
        for one in waiting:
            visitor.leave(state.name, DerivationKind.LEARNER, AFTER_KERNEL, expected=[one])
    due = [one for some in zip_longest(*ready.values()) for one in some if one is not None]
    results = visitor.derive_all(due, decision.why) if due else []
    digests = {one.key: digest for one, digest in zip(due, results, strict=True)}
    there = {
        backbone: [(one, digest) for one in some if (digest := digests[one.key]) is not None]
        for backbone, some in ready.items()
    }
    return _Finetuned(
        digests={name: [digest for _, digest in some] for name, some in there.items() if some},
        carried={
            name: [one.inputs.get("learner") for one, _ in some] for name, some in there.items()
        },
        missing=[one for one in due if digests[one.key] is None],
    )


def fast_derivation(store: Reads, state: TaskState, fitted: FittedLearners) -> Derivation:
    """Describe the predictor that asks one learner alone, the one that costs least."""
    records = {digest: Learner.from_doc(store.record(digest)) for digest in fitted.learners}
    names = {digest: name for name, digest in state.backbones.items()}

    def order(digest: str) -> tuple[int, float, str]:
        learner = records[digest]
        composition = Composition.from_doc(
            store.record(fitted.compositions[names[learner.backbone]])
        )
        cost = _n_encoders(learner, composition) * _n_parameters(store, learner.backbone)
        return cost, learner.validation_mae, digest

    chosen = min(records, key=order)
    composition = fitted.compositions[names[records[chosen].backbone]]
    return predictor_derivation(state, [composition], [chosen])


def _n_encoders(learner: Learner, composition: Composition) -> int:
    """Count the encoders that an answer of a learner asks, at most; one gives the domain."""
    on_composition = learner.start is StartKind.COMPOSITION
    own = 0 if learner.method is LearnerMethod.KERNEL and on_composition else 1
    reading = len(composition.modules) if learner.readouts and on_composition else 0
    return 1 + own + reading


def _n_parameters(store: Reads, backbone: str) -> int:
    shapes = backbone_record(store, backbone).manifest["shapes"]
    return sum(prod(shape) for shape in shapes)


def finetuned_beside(
    store: Reads, state: TaskState, backbone: str, composition: str, kernel: str | None
) -> list[Derivation]:
    """Describe the fine-tuned learners of a backbone beside its kernel learner, if it has any."""
    if not state.trains:
        return []
    composed = (
        composition == UNKNOWN_COMPOSITION
        or len(Composition.from_doc(store.record(composition)).modules) > 0
    )
    return finetuned_derivations(
        state,
        backbone,
        composition if composed else None,
        readouts=kernel is not None and Learner.from_doc(store.record(kernel)).readouts,
        multitask=multitask_beside(store, state, backbone),
    )


def finetuned_expected(
    store: Reads, state: TaskState, backbones: Sequence[str]
) -> list[Derivation]:
    """Describe the fine-tuned learners that would follow from compositions not derived yet.

    Which backbones are fine-tuned is not known then; the larger ones take more time.
    """

    def size(backbone: str) -> int:
        return _n_parameters(store, state.backbones[backbone])

    largest = sorted(backbones, key=size, reverse=True)[
        : state.recipe.predictor.finetuned_backbones
    ]
    return [
        one
        for backbone in largest
        for one in finetuned_beside(store, state, backbone, UNKNOWN_COMPOSITION, None)
    ]


def learners_at_hand(store: Reads, state: TaskState) -> set[str]:
    """Give the learners that the next fit of a task would look up, or carry over.

    Only some of them answer, and are reached from a predictor.
    """
    fitted = store.ref(RefKind.FITTED.of(state.name))
    return set() if fitted is None else set(Predictor.from_doc(store.record(fitted)).tried)


def _finetuned_before(store: Reads, state: TaskState) -> set[str]:
    """List the backbones with fine-tuned learners in the last fit of a task."""
    names = {digest: name for name, digest in state.backbones.items()}
    records = (Learner.from_doc(store.record(one)) for one in learners_at_hand(store, state))
    tuned = (one.backbone for one in records if one.method is not LearnerMethod.KERNEL)
    return {names[backbone] for backbone in tuned if backbone in names}


def _finetuned_backbones(
    store: Reads, state: TaskState, compositions: Mapping[str, str], before: Collection[str]
) -> set[str]:
    """Choose the backbones that are fine-tuned: those with the least objectives.

    Objectives are shares of the targets' variance, so that those of several backbones can be
    compared. One that was fine-tuned before stays, unless that of another is lower by the share
    that is worth a fit.
    """
    less = 1.0 - max(0.0, state.recipe.worth_it)

    def objective(backbone: str) -> tuple[float, str]:
        record = Composition.from_doc(store.record(compositions[backbone]))
        return record.objective * (less if backbone in before else 1.0), backbone

    return {*sorted(compositions, key=objective)[: state.recipe.predictor.finetuned_backbones]}


def _with_carried(
    finetuned: Sequence[Derivation], carried: Mapping[tuple[str, bool], Derivation]
) -> list[Derivation]:
    """Carry learners over in place of trainings, where there are such; the others are trained."""
    left = dict(carried)
    kept = [left.pop((one.inputs["method"], _is_composed(one)), one) for one in finetuned]
    return [*kept, *left.values()]


def _carried(
    store: Reads, state: TaskState, backbone: str, composition: str, trained: Sequence[str]
) -> dict[tuple[str, bool], Derivation]:
    """Describe trained learners as carried over: by method, and whether a composition began them.

    Beside the composition there is one of a method: a multitask module that has seen too much gives
    way to the backbone.
    """
    records = {digest: Learner.from_doc(store.record(digest)) for digest in trained}
    return {
        (record.method.value, record.start is StartKind.COMPOSITION): carried_derivation(
            state, backbone, composition, digest, record
        )
        for digest, record in records.items()
    }


def _is_composed(derivation: Derivation) -> bool:
    return bool(derivation.inputs.get("start") == StartKind.COMPOSITION)
