"""Summary of a task: its composition, and how the modules have changed its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moma_cl.derivations.promotion import compare
from moma_cl.progress import quiet
from moma_cl.records.champions import champions
from moma_cl.records.records import Composition, Predictor
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_names, task_state
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

BACKBONE = "backbone"
"""Name of module zero among the modules of a composition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The change that modules have made: the predictor fitted last against the first one.

    The first is the kernel head on the bare backbone. Errors are those on the rows that decide
    between predictors, the same rows for both.

    Attributes
    ----------
    error_without, error_with
        Mean absolute errors of the first and of the last, in the task's unit.
    interval
        The 95 % interval of their paired difference, in the task's unit.
    """

    error_without: float
    error_with: float
    interval: tuple[float, float]

    @property
    def change(self) -> float:
        """The difference, as a share of the error without modules."""
        return self.error_with / self.error_without - 1.0

    @property
    def change_interval(self) -> tuple[float, float]:
        """Its interval, as shares of the error without modules."""
        low, high = self.interval
        return low / self.error_without, high / self.error_without


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """Composition and errors of a task.

    Attributes
    ----------
    task
        The task's name.
    unit
        Its unit.
    rows
        Its live rows.
    weights
        Weights of the present composition by name of the module, heaviest first; none is zero.
    excluded
        Modules that are no candidates, and why.
    gain
        The change that modules have made; none where rows were added since and no rows are left
        on which the two predictors can be compared.
    error_answering
        Mean absolute error of the predictor that answers, in the unit: the best so far on the rows
        that decide.
    """

    task: str
    unit: str
    rows: int
    weights: Mapping[str, float]
    excluded: Mapping[str, str]
    gain: Gain | None
    error_answering: float


def task_summaries(hub: Path) -> dict[str, TaskSummary]:
    """Summarise every task of a hub that has been composed, by the task's name."""
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        refs = store.refs(RefKind.FITTED.prefix)
        return {
            name: _summary(store, workspace, name, fitted)
            for name in task_names(store)
            if (fitted := refs.get(RefKind.FITTED.of(name))) is not None
        }


def three_digits(value: float) -> str:
    """Write a number with three significant digits, thousands not as a power of ten."""
    return f"{float(f'{value:.3g}'):g}"


def _summary(store: Store, workspace: Workspace, name: str, fitted: str) -> TaskSummary:
    state = task_state(store, name)
    (backbone,) = state.backbones  # the demo's hub has one
    composition = Composition.from_doc(
        store.record(store.refs()[RefKind.COMPOSITION.on(name, backbone)])
    )
    names = {
        digest: RefKind.MODULE.name_in(ref)
        for ref, digest in store.refs(RefKind.MODULE.prefix).items()
    }
    answered = champions(store, name)
    answering = Predictor.from_doc(
        store.record(store.refs(RefKind.PREDICTOR.prefix)[RefKind.PREDICTOR.of(name)])
    )
    return TaskSummary(
        task=name,
        unit=state.task.unit,
        rows=state.dataset.n_rows,
        weights=_weights(composition, names),
        excluded={names.get(d, d[:12]): why for d, why in composition.excluded.items()},
        gain=_gain(store, workspace, answered[-1], fitted, state.task.unit),
        error_answering=answering.validation_mae,
    )


def _weights(composition: Composition, names: Mapping[str, str]) -> dict[str, float]:
    weights = {BACKBONE: composition.backbone_weight}
    for digest, weight in zip(composition.modules, composition.weights, strict=True):
        weights[names.get(digest, digest[:12])] = weight
    heaviest_first = sorted(weights.items(), key=lambda pair: -pair[1])
    return {name: weight for name, weight in heaviest_first if weight > 0}


def _gain(store: Store, workspace: Workspace, first: str, fitted: str, unit: str) -> Gain | None:
    after = Predictor.from_doc(store.record(fitted))
    verdict = compare(workspace, first, after, unit)
    if "champion_mae" not in verdict:
        return None
    low, high = verdict["difference_interval_95"]
    return Gain(
        error_without=verdict["champion_mae"],
        error_with=after.validation_mae,
        interval=(low, high),
    )
