"""Fitting a predictor: kernel head and fine-tuned encoder, calibrated, the better one to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import combinations
from threading import Event, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import Arrays, FloatArray
from moma_cl.backbones.base import Backbone
from moma_cl.core.threads import side_by_side
from moma_cl.datasets.folds import cv_groups
from moma_cl.datasets.split import Roles, roles_of
from moma_cl.derivations.derived import PENDING_BLOB, Derived
from moma_cl.derivations.keys import Derivation
from moma_cl.derivations.leakage import UNSEEN_ONLY, judged_by_unseen, unseen_beside
from moma_cl.learning.head import Head
from moma_cl.learning.kernel_head import KernelChoice, KernelHead, fit_kernel_head
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.training import TrainingError, TrainingSet, predict_graphs, train
from moma_cl.predictors.calibration import Answered, calibrate, learned_rows
from moma_cl.predictors.golden import golden_arrays
from moma_cl.predictors.opinions import HEARING, Hearing, Panel, Prior
from moma_cl.predictors.predictor import ADAPTERS, BESIDE, head_vector
from moma_cl.progress import Progress
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.records import (
    Calibration,
    Composition,
    Grouping,
    Method,
    ModuleKind,
    Predictor,
    Task,
)
from moma_cl.workspace.workspace import Workbench, software

FROM_COMPOSITION = "finetuned from composition"  # of errors by start, beside those by method
FROM_BACKBONE = "finetuned from backbone"
FROM_MULTITASK = "finetuned from multitask"  # in its place, where the hub has such a module
ADAPTED_COMPOSITION = "adapted composition"
ADAPTED_BACKBONE = "adapted backbone"
AVERAGED = 3  # version of predictors from which on several starts may answer together
ADAPTED = 4  # and from which on adapters of either are trained as well


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Material:
    """What every head is fitted on.

    Attributes
    ----------
    embeddings
        Of all live rows by the composed encoder, shape ``(n_rows, n_features)``.
    opinions
        The modules', as features, shape ``(n_rows, n_modules)``.
    hearing
        How opinions became features.
    targets
        Normalised, shape ``(n_rows,)``.
    """

    bench: Workbench
    task: Task
    recipe: Recipe
    settings: Mapping[str, Any]
    dataset: str
    composition: Composition
    multitask: str | None
    roles: Roles
    normaliser: Normaliser
    embeddings: FloatArray
    opinions: FloatArray
    hearing: Hearing
    targets: FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Answers:
    """Normalised predictions of one head, on the rows that decide and the rows that calibrate."""

    validation: FloatArray
    held_out: FloatArray
    arrays: Arrays


def fit_predictor(bench: Workbench, derivation: Derivation, recipe: Recipe) -> Derived:
    """Fit what answers for a task.

    Parameters
    ----------
    bench
        What it reads.
    derivation
        Names task, dataset, composition and the heads to try.
    recipe
        The settings.

    Returns
    -------
    Derived
        A `Predictor` with heads, normaliser, domain and calibration.
    """
    inputs = derivation.inputs
    task = Task.from_doc(bench.store.record(inputs["task"]))
    composition = Composition.from_doc(bench.store.record(inputs["composition"]))
    rows = bench.rows(inputs["dataset"])
    roles = roles_of(rows, task.grouping, recipe.predictor)
    if recipe.predictor.version >= UNSEEN_ONLY:
        roles = judged_by_unseen(bench, composition.modules, task, rows, roles)
    multitask, roles = unseen_beside(bench, inputs.get("multitask"), task, rows, roles)
    normaliser = Normaliser.fit(rows.targets[roles.train], Transform(task.transform))
    vector = bench.merged(composition)
    embedded = bench.embeddings(composition.module, vector, rows, recipe.embedding)
    panel = Panel.of(bench, composition, hears=recipe.kernel.version >= HEARING)
    opinions = panel.of_rows(bench, rows, recipe.embedding)
    hearing = Hearing.of(opinions[roles.train], panel.weights)
    material = _Material(
        bench=bench,
        task=task,
        recipe=recipe,
        settings=derivation.settings,
        dataset=inputs["dataset"],
        composition=composition,
        multitask=multitask,
        roles=roles,
        normaliser=normaliser,
        embeddings=embedded.astype(np.float64),
        opinions=hearing.features(opinions),
        hearing=hearing,
        targets=normaliser.forward(rows.targets),
    )
    if roles.calibration == Calibration.HELD_OUT:
        fitted = _fit_on_folds(material, vector, finetune=Method.FINETUNED in inputs["heads"])
    else:
        fitted = _fit_by_cross_validation(material)
    return _described(material, inputs["task"], inputs["composition"], fitted)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Fitted:
    method: Method
    answers: _Answers
    validation_maes: dict[str, float]
    held_out_maes: dict[str, float]
    decided_on: NDArray[np.int64]  # rows of `answers.validation`


def _fit_on_folds(material: _Material, vector: NDArray[np.float32], *, finetune: bool) -> _Fitted:
    roles = material.roles
    heads = {Method.KERNEL: _kernel_answers(material)}
    starts: dict[str, _Answers] = {}
    if finetune:
        hears = "kernel_opinions" in heads[Method.KERNEL].arrays
        starts = _finetuned_by_start(material, vector, hears=hears)
        heads[Method.FINETUNED] = _together(material, starts)
        heads[Method.MEAN] = _mean(heads[Method.KERNEL], heads[Method.FINETUNED])
    told = {**{str(name): found for name, found in heads.items()}, **starts}
    maes = {
        name: _mae(material, found.validation, roles.validation) for name, found in told.items()
    }
    method = min(heads, key=lambda name: maes[name])
    return _Fitted(
        method=method,
        answers=heads[method],
        validation_maes=maes,
        held_out_maes={
            name: _mae(material, one.held_out, roles.held_out) for name, one in told.items()
        },
        decided_on=roles.validation,
    )


def _kernel_answers(material: _Material) -> _Answers:
    """Decide by a head that has not seen the validation rows; answer by one that has."""
    roles = material.roles
    head, choice = _kernel(material, roles.train)
    validation = _asked(head, material, roles.validation)[:, 0]
    known = np.sort(np.concatenate([roles.train, roles.validation]))
    head, _ = _kernel(material, known, choice=choice)
    held_out = _asked(head, material, roles.held_out)[:, 0]
    return _Answers(
        validation=validation, held_out=held_out, arrays=_kernel_arrays(head, material.hearing)
    )


def _asked(head: KernelHead, material: _Material, rows: NDArray[np.int64]) -> FloatArray:
    return head.predict(material.embeddings[rows], material.opinions[rows])


def _kernel_arrays(head: KernelHead, hearing: Hearing) -> Arrays:
    return {**head.to_arrays("kernel_"), **(hearing.to_arrays() if head.hears else {})}


def _kernel(
    material: _Material,
    rows: NDArray[np.int64],
    *,
    choice: KernelChoice | None = None,
    subsets: list[NDArray[np.bool_]] | None = None,
) -> tuple[KernelHead, KernelChoice]:
    return fit_kernel_head(
        material.embeddings[rows],
        material.targets[rows],
        material.recipe.kernel,
        groups=material.bench.rows(material.dataset).fingerprints[rows],
        choice=choice,
        subsets=subsets,
        opinions=material.opinions[rows],
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Tuning:
    """One of the fine-tunings of a predictor: what it begins with is trained in place.

    Attributes
    ----------
    name
        Of the start.
    prior
        Of what only the rest is learned; none: the targets themselves.
    prefix
        Of the names of its arrays.
    """

    name: str
    encoder: Backbone
    head: Head
    prior: Prior | None
    prefix: str = ""


def _finetuned_by_start(
    material: _Material, vector: NDArray[np.float32], *, hears: bool
) -> dict[str, _Answers]:
    """Fine-tune the composed encoder and another beside it, and adapters of it and the backbone.

    Gradients can make more of a start than its frozen features promise, or less: the weights tell
    which modules are of use to a task, not whether any is a better start than the backbone.
    Adapters keep more of what is there already.
    """
    tunings = list(_tunings(material, vector, _prior(material) if hears else None))
    _train_all(material, tunings)
    return {tuning.name: _finetuned_answers(material, tuning) for tuning in tunings}


def _tunings(
    material: _Material, vector: NDArray[np.float32], prior: Prior | None
) -> Iterator[_Tuning]:
    bench, composition = material.bench, material.composition
    version = material.recipe.predictor.version
    kind = composition.module
    composed = bool(composition.modules)
    if composed:
        yield _tuning(material, FROM_COMPOSITION, bench.encoder(kind, vector), prior)
    if version > 1 or not composed:
        name = FROM_MULTITASK if material.multitask else FROM_BACKBONE
        beside = bench.encoder(kind, bench.parameters(material.multitask, kind))
        yield _tuning(material, name, beside)
    if version < ADAPTED or kind != ModuleKind.FULL:
        return
    if composed:
        adaptable = bench.adaptable(vector)
        yield _tuning(material, ADAPTED_COMPOSITION, adaptable, prior, prefix=ADAPTERS)
    adaptable = bench.adaptable(bench.parameters(None, kind))
    yield _tuning(material, ADAPTED_BACKBONE, adaptable, prefix=f"{BESIDE}{ADAPTERS}")


def _tuning(
    material: _Material,
    name: str,
    encoder: Backbone,
    prior: Prior | None = None,
    *,
    prefix: str = "",
) -> _Tuning:
    settings = material.recipe.finetune
    head = Head(encoder.feature_dim, encoder.n_blocks, settings.head_width, seed=settings.seed)
    return _Tuning(name=name, encoder=encoder, head=head, prior=prior, prefix=prefix)


def _train_all(material: _Material, tunings: Sequence[_Tuning]) -> None:
    """Train all, as many at once as there are cores."""
    bench, roles, settings = material.bench, material.roles, material.recipe.finetune
    graphs = bench.graphs(bench.rows(material.dataset))
    steps = _Steps(f"predictor {material.task.name}", bench.progress, len(tunings))

    def fit(tuning: _Tuning) -> None:
        said, spread = _said(material, tuning)
        data = TrainingSet(
            graphs=graphs,
            targets=(material.targets - said) / spread,
            train=roles.train,
            validation=roles.validation,
        )
        counted = partial(steps.count, tuning.name)
        train(tuning.encoder, tuning.head, data, settings, progress=counted)
        steps.end(tuning.name)

    # an optimiser imports it when first made; two at once would each see half of it
    import_module("torch._dynamo")
    try:
        side_by_side([partial(fit, tuning) for tuning in tunings])
    finally:
        steps.unwanted.set()


@dataclass(slots=True)
class _Steps:
    """Adds up how far trainings are that run at once; ends what still runs of them if one fails."""

    label: str
    progress: Progress
    n_trainings: int  # of as many steps each
    unwanted: Event = field(default_factory=Event)
    _done: dict[str, int] = field(default_factory=dict)
    _each: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, name: str, done: int, each: int) -> None:
        """Say how many steps of one training are done."""
        if self.unwanted.is_set():
            raise TrainingError("the training was given up: another one failed, or was interrupted")
        with self._lock:
            self._done[name], self._each = done, each
            self.progress(self.label, sum(self._done.values()), each * self.n_trainings)

    def end(self, name: str) -> None:
        """Count the steps that a training stopped short of."""
        self.count(name, self._each, self._each)


def _said(material: _Material, tuning: _Tuning) -> tuple[FloatArray, float]:
    """Give what the prior of a fine-tuning says of every row, and the spread of the rest."""
    if tuning.prior is None:
        return np.zeros(len(material.targets)), 1.0
    return tuning.prior.said(material.opinions), tuning.prior.spread


def _renamed(answers: _Answers, prefix: str) -> _Answers:
    names = {"parameters": f"{prefix}parameters", "head": f"{prefix}head"}
    renamed = {names.get(name, name): array for name, array in answers.arrays.items()}
    return replace(answers, arrays=renamed)


def _together(material: _Material, starts: Mapping[str, _Answers]) -> _Answers:
    """Take the mean of all starts, unless validation rows speak against it.

    Starts err differently, so that their mean is mostly better than each; not where one of them is
    far worse. Something else answers if it errs less by more than one standard error of the
    difference: few rows, some with large targets, cannot tell more.

    References
    ----------
    Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, section 7.10 (the
    one-standard-error rule).
    """
    version = material.recipe.predictor.version
    most = len(starts) if version >= AVERAGED else 1
    tried = [
        _joined({name: starts[name] for name in names})
        for size in range(1, most + 1)
        for names in combinations(starts, size)
    ]
    errors = [_errors(material, one.validation, material.roles.validation) for one in tried]
    best = min(range(len(tried)), key=lambda index: float(errors[index].mean()))
    excess = errors[-1] - errors[best]  # of the mean of all
    telling = np.std(excess) / np.sqrt(max(1, len(excess) - 1))
    return tried[-1] if version >= ADAPTED and excess.mean() <= telling else tried[best]


def _joined(starts: Mapping[str, _Answers]) -> _Answers:
    if len(starts) > 1:
        beside = {FROM_BACKBONE, FROM_MULTITASK} & starts.keys()
        starts = {**starts, **{name: _renamed(starts[name], BESIDE) for name in beside}}
    return _mean(*starts.values())


def _finetuned_answers(material: _Material, tuning: _Tuning) -> _Answers:
    """Round what a training left, and let it answer."""
    bench, settings, roles = material.bench, material.recipe.finetune, material.roles
    encoder, head = tuning.encoder, tuning.head
    adapted = encoder.adapters is not None and material.composition.module == ModuleKind.FULL
    kind = ModuleKind.ADAPTER if adapted else material.composition.module
    trained = bench.round_parameters(encoder, kind, settings.rounded_bits)
    graphs = bench.graphs(bench.rows(material.dataset))
    said, spread = _said(material, tuning)
    validation, held_out = (
        predict_graphs(encoder, head, [graphs[row] for row in rows]) * spread + said[rows]
        for rows in (roles.validation, roles.held_out)
    )
    arrays: Arrays = {"parameters": trained, "head": head_vector(head)}
    if tuning.prior:
        arrays |= {**tuning.prior.to_arrays(), **material.hearing.to_arrays()}
    answers = _Answers(validation=validation, held_out=held_out, arrays=arrays)
    return _renamed(answers, tuning.prefix)


def _prior(material: _Material) -> Prior | None:
    known = material.roles.train
    return Prior.fit(material.opinions[known], material.targets[known])


def _mean(*answers: _Answers) -> _Answers:
    return _Answers(
        validation=np.mean([one.validation for one in answers], axis=0),
        held_out=np.mean([one.held_out for one in answers], axis=0),
        arrays={name: array for one in answers for name, array in one.arrays.items()},
    )


def _fit_by_cross_validation(material: _Material) -> _Fitted:
    """Fit a head on all rows to answer, and one per left-out group to say how wrong it is."""
    roles, settings = material.roles, material.recipe.kernel
    rows = material.bench.rows(material.dataset)
    known = roles.train
    groups = cv_groups(
        [rows.formulas[row] for row in known],
        rows.fingerprints[known],
        _cv_grouping(material.task.grouping),
        material.bench.hub.salt,
        max_folds=settings.cv_folds,
    )
    n_groups = int(groups.max(initial=-1)) + 1
    subsets = [np.ones(len(known), dtype=bool), *(groups != group for group in range(n_groups))]
    head, _ = _kernel(material, known, subsets=subsets)
    answers = _asked(head, material, known)
    left_out = answers[np.arange(len(known)), groups + 1]
    held_out = _asked(head, material, roles.held_out)[:, 0]
    arrays: Arrays = {
        **_kernel_arrays(head, material.hearing),
        "cv_residuals": np.abs(left_out - material.targets[known]),
        "cv_groups": groups.astype(np.int64),
    }
    mae = _mae(material, left_out, known)
    held_out_maes = (
        {str(Method.KERNEL): _mae(material, held_out, roles.held_out)} if len(held_out) else {}
    )
    return _Fitted(
        method=Method.KERNEL,
        answers=_Answers(validation=left_out, held_out=held_out, arrays=arrays),
        validation_maes={str(Method.KERNEL): mae},
        held_out_maes=held_out_maes,
        decided_on=known,
    )


def _cv_grouping(grouping: Grouping) -> Grouping:
    """Group by formula under a column, which says nothing of how known rows belong together."""
    return Grouping.FORMULA if grouping == Grouping.COLUMN else grouping


def _described(
    material: _Material, task_digest: str, composition_digest: str, fitted: _Fitted
) -> Derived:
    bench, roles = material.bench, material.roles
    rows = bench.rows(material.dataset)
    known = bench.crystals(rows, learned_rows(roles))
    answered = Answered(
        embeddings=material.embeddings,
        feature_dim=bench.backbone.feature_dim,
        targets=material.targets,
        fingerprints=rows.fingerprints,
        elements=tuple(sorted({int(z) for one in known for z in one.atomic_numbers})),
        roles=roles,
        validation=fitted.answers.validation,
        held_out=fitted.answers.held_out,
    )
    known_targets = rows.targets[answered.learned]
    arrays: Arrays = {
        **fitted.answers.arrays,
        **calibrate(answered, material.recipe.predictor),
        "normaliser": material.normaliser.to_array(),
        "label_range": np.array([known_targets.min(), known_targets.max()]),
        "decided_rows": fitted.decided_on,
        "decided_answers": fitted.answers.validation,
    }
    record = Predictor(
        task=task_digest,
        dataset=material.dataset,
        composition=composition_digest,
        blob=PENDING_BLOB,
        method=fitted.method,
        n_train=len(roles.train),
        calibration=roles.calibration,
        validation_mae=fitted.validation_maes[fitted.method],
        validation_maes=fitted.validation_maes,
        held_out_mae=fitted.held_out_maes.get(fitted.method),
        held_out_maes=fitted.held_out_maes,
        settings=dict(material.settings),
        made_by=dict(software()),
        multitask=material.multitask,
    )
    if material.recipe.predictor.version > 1:
        arrays |= golden_arrays(bench, record, arrays)
    base = bench.base(material.composition.module) if "parameters" in arrays else None
    return Derived(record=record, arrays=arrays, base=base)


def _mae(material: _Material, normalised: FloatArray, rows: NDArray[np.int64]) -> float:
    """Mean absolute error in the task's unit."""
    return float(_errors(material, normalised, rows).mean())


def _errors(material: _Material, normalised: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
    """Absolute errors in the task's unit, shape ``(n_rows,)``."""
    targets = material.bench.rows(material.dataset).targets[rows]
    return np.asarray(np.abs(material.normaliser.inverse(normalised) - targets))
