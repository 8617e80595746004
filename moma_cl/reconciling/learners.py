"""The learners of a task: which there are, and how a walk comes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    The kernel learner of a backbone tells whether readouts help those that start from its
    composition; the others need not wait for it. All fine-tuned learners are fitted at once, those
    first that mostly err least, of the backbones whose compositions say most of the targets. A
    backbone whose kernel learner is given up is left out.
    """
    compositions, why = decision.compositions, decision.why
    tuned = _finetuned_backbones(store, state, compositions)
    kernels = {
        backbone: kernel_derivation(state, backbone, composition)
        for backbone, composition in compositions.items()
    }
    fitted = {backbone: visitor.derive(one, why) for backbone, one in kernels.items()}
    ready: dict[str, list[Derivation]] = {}
    for backbone, composition in compositions.items():
        kernel, trained = fitted[backbone], decision.carried.get(backbone, [])
        if backbone not in tuned:
            ready[backbone] = []
            continue
        finetuned = finetuned_beside(store, state, backbone, composition, kernel)
        carried = _carried(store, state, backbone, composition, trained)
        finetuned = _with_carried(finetuned, carried)
        waiting = [one for one in finetuned if kernel is None and _is_composed(one)]
        ready[backbone] = [one for one in finetuned if one not in waiting]
        for one in waiting:
            visitor.leave(state.name, DerivationKind.LEARNER, AFTER_KERNEL, expected=[one])
    finetuned = [one for some in zip_longest(*ready.values()) for one in some if one is not None]
    results = visitor.derive_all(finetuned, why) if finetuned else []
    digests = {one.key: digest for one, digest in zip(finetuned, results, strict=True)}
    missing = [kernels[backbone] for backbone, kernel in fitted.items() if kernel is None]
    missing += [one for one in finetuned if digests[one.key] is None]
    joined = {backbone: one for backbone, one in compositions.items() if fitted[backbone]}
    done = {
        one.inputs.get("learner")
        for backbone in joined
        for one in ready[backbone]
        if digests[one.key] is not None
    }
    roots = {root for name, some in decision.carried.items() if name in tuned for root in some}
    if not joined or not all(visitor.gives_up(one) for one in missing):
        return None
    return FittedLearners(
        compositions=joined,
        learners=[
            digest
            for digest in (
                *(fitted[backbone] for backbone in joined),
                *(digests[one.key] for backbone in joined for one in ready[backbone]),
            )
            if digest is not None
        ],
        left=sorted(roots - done),
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
    """Count the encoders that an answer of a learner asks, at most."""
    own = 0 if learner.method is LearnerMethod.KERNEL else 1
    return 1 + own + (len(composition.modules) if learner.readouts else 0)


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


def _finetuned_backbones(
    store: Reads, state: TaskState, compositions: Mapping[str, str]
) -> set[str]:
    """Choose the backbones that are fine-tuned: those with the least objectives.

    Objectives are mean square errors of the same targets, so that those of several backbones can
    be compared.
    """

    def objective(backbone: str) -> tuple[float, str]:
        return Composition.from_doc(store.record(compositions[backbone])).objective, backbone

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
