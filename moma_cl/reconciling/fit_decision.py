"""What a task's learners start from in the next fit, and which of them stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moma_cl.reconciling.reasons import Reason, StepStatus
from moma_cl.reconciling.task_derivations import PREDICTOR_SECTIONS
from moma_cl.records.hub import Reads
from moma_cl.records.records import (
    Composition,
    Dataset,
    Learner,
    LearnerMethod,
    Predictor,
    Segment,
)
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState

_DATA_CHANGED = "its data changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitDecision:
    """What a task's learners start from, and why those that are missing are due."""

    compositions: Mapping[str, str]  # that learners start from, by the names of backbones
    carried: Mapping[str, list[str]]  # fine-tuned learners that stay as they are, by backbone
    why: str  # of what is not there yet
    not_worth_it: Reason | None  # why newer compositions are left, where some are


def decide_fit(store: Reads, state: TaskState, compositions: Mapping[str, str]) -> FitDecision:
    """Decide from which compositions, the present ones by backbone, a task is fitted again.

    On a backbone whose composition became no better by the recipe's share, learners stay as they
    are; so do fine-tuned ones while the rows have hardly grown.
    """

    def from_all(why: str) -> FitDecision:
        return FitDecision(compositions=compositions, carried={}, why=why, not_worth_it=None)

    digest = store.ref(RefKind.FITTED.of(state.name))
    if digest is None:
        return from_all("the task has no fitted predictor")
    fitted = Predictor.from_doc(store.record(digest))
    trained = _trained_before(store, state, fitted)
    stale = _why_all(store, state, fitted, trained)
    if stale is not None:
        return from_all(stale)
    before = {**_started_from(store, trained), **_compositions(store, state, fitted)}
    missing = _DATA_CHANGED if fitted.dataset != state.dataset_digest else "learners are missing"
    reasons = {
        backbone: _why_composition(store, state, backbone, before.get(backbone), composition)
        for backbone, composition in compositions.items()
        if before.get(backbone) != composition
    }
    due = {name: one for name, one in reasons.items() if one.status is StepStatus.STALE}
    left = [one for one in reasons.values() if one.status is not StepStatus.STALE]
    return FitDecision(
        compositions={
            name: present if name in due else before.get(name, present)
            for name, present in compositions.items()
        },
        carried={name: some for name, some in trained.items() if name not in due},
        why="; ".join(one.text for one in due.values()) or missing,
        not_worth_it=left[0] if left else None,
    )


def _compositions(store: Reads, state: TaskState, fitted: Predictor) -> dict[str, str]:
    """Give the compositions that the predictor fitted last rests on, by the names of backbones."""
    names = {record: name for name, record in state.backbones.items()}
    found = {
        names.get(Composition.from_doc(store.record(one)).backbone): one
        for one in fitted.compositions
    }
    return {name: found[name] for name in state.backbones if name in found}


def _why_all(
    store: Reads, state: TaskState, fitted: Predictor, trained: Mapping[str, list[str]]
) -> str | None:
    """Say why all learners of a task are due; none where its data and recipe are as before."""
    if fitted.settings != state.settings(*PREDICTOR_SECTIONS):
        return "its recipe changed"
    if fitted.dataset == state.dataset_digest:
        return None
    points = {
        Learner.from_doc(store.record(one)).dataset for some in trained.values() for one in some
    }
    if points and all(_has_hardly_grown(store, state, point) for point in points):
        return None
    return _DATA_CHANGED


def _trained_before(store: Reads, state: TaskState, fitted: Predictor) -> dict[str, list[str]]:
    """Give the fine-tuned learners of the last fit whose training was on fewer rows, by backbone.

    They are those that were trained, not those that were carried over since.
    """
    names = {record: name for name, record in state.backbones.items()}
    found: dict[str, list[str]] = {}
    for one in fitted.tried:
        learner = Learner.from_doc(store.record(one))
        root = one if learner.origin is None else learner.origin
        trained = Learner.from_doc(store.record(root))
        name = names.get(trained.backbone)
        is_older = trained.dataset != state.dataset_digest
        if name is not None and is_older and trained.method is not LearnerMethod.KERNEL:
            found.setdefault(name, []).append(root)
    return found


def _started_from(store: Reads, trained: Mapping[str, list[str]]) -> dict[str, str]:
    """Give the compositions that learners were trained from, by the names of backbones."""
    found: dict[str, str] = {}
    for backbone, learners in trained.items():
        for one in learners:
            composition = Learner.from_doc(store.record(one)).composition
            if composition is not None:
                found[backbone] = composition
    return found


def _has_hardly_grown(store: Reads, state: TaskState, point: str) -> bool:
    """Say whether a task has its rows of an earlier dataset, and hardly more.

    No row may have been replaced or retracted since: a learner must not answer for what it learned
    from a row that is no longer there.
    """
    digest, dataset = state.dataset_digest, state.dataset
    while digest != point and dataset.previous is not None:
        before = Dataset.from_doc(store.record(dataset.previous))
        added = Segment.from_doc(store.record(dataset.segments[-1])).n_rows
        if dataset.n_rows != before.n_rows + added:
            return False
        digest, dataset = dataset.previous, before
    return digest == point and state.dataset.n_rows < state.recipe.refit_factor * dataset.n_rows


def _why_composition(
    store: Reads, state: TaskState, backbone: str, before: str | None, after: str
) -> Reason:
    """Say why a composition is worth new learners, or is not."""
    if before is None:
        return Reason(StepStatus.STALE, f"the backbone {backbone} is not in the last predictor")
    was, now = _objectives(store, before, after)
    fall = (was - now) / was if was > 0 else 0.0
    change = f"the objective went from {was:.4g} to {now:.4g}"
    if fall >= state.recipe.worth_it:
        return Reason(StepStatus.STALE, f"{change}, a fall of {fall:.1%}")
    least = f"{state.recipe.worth_it:.1%}"
    return Reason(StepStatus.NOT_WORTH_IT, f"not worth it: {change}, not a fall of {least}")


def _objectives(store: Reads, before: str, after: str) -> tuple[float, float]:
    """Give the objectives of two compositions; of other rows, over those of the bare backbone."""
    was, now = (Composition.from_doc(store.record(one)) for one in (before, after))
    if was.dataset == now.dataset:
        return was.objective, now.objective
    if not was.backbone_objective or not now.backbone_objective:
        return 1.0, 1.0  # nothing to compare: no better
    return was.objective / was.backbone_objective, now.objective / now.backbone_objective
