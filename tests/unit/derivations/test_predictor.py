"""Joining learners: which of them answer."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from moma_cl.derivations import finetuned_learners, join_learners
from moma_cl.derivations.join_learners import JoinedAnswers
from moma_cl.predictors.predictor import load_predictor
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.records.records import (
    LearnerMethod,
    ModuleKind,
    Predictor,
    StartKind,
    learner_name,
)
from tests.helpers.hubs import encoders_of, open_workspace

NAMES = [
    learner_name(method, start)
    for method in (LearnerMethod.FINETUNED, LearnerMethod.ADAPTED)
    for start in (StartKind.COMPOSITION, StartKind.BACKBONE)
]


@pytest.mark.parametrize(
    ("errors", "answering"),
    [
        ((0.1, 5.0, 5.0, 5.0), {0}),
        ((5.0, 0.1, 5.0, 5.0), {1}),
        ((5.0, 5.0, 0.1, 5.0), {2}),
        ((5.0, 5.0, 5.0, 0.1), {3}),
        ((1.0, -1.0, 5.0, 5.0), {0, 1}),
        ((5.0, 1.0, -1.0, 5.0), {1, 2}),
        ((1.0, 5.0, 5.0, -1.0), {0, 3}),
        ((1.0, 1.0, 1.0, -3.0), {0, 1, 2, 3}),
    ],
    ids=["composition", "backbone", "adapted", "beside", "two", "two", "two", "all"],
)
def test_of_the_learners_and_their_means_the_best_on_validation_answers(
    hub, add_task, monkeypatch, errors, answering
):
    add_task("energy", 200, unit="eV/atom")
    trained = finetuned_learners._fitted
    found = {}

    def noted(start, derivation, report):
        derived = trained(start, derivation, report)
        name, data = derived.record.name, start.data
        rows = derived.arrays["validation_rows"]
        answers = data.targets[rows] + errors[NAMES.index(name)]
        found[name] = data, answers
        return replace(derived, arrays={**derived.arrays, "validation_answers": answers})

    monkeypatch.setattr(finetuned_learners, "_fitted", noted)
    add_task("modulus", 200, unit="GPa", module=ModuleKind.NONE)
    assert found.keys() == set(NAMES)
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("fitted/modulus")
        fitted = Predictor.from_doc(store.record(digest))
        assert store.record(fitted.compositions[0])["modules"]
        arrays = store.blob(fitted.blob).arrays
        learners = [StoredLearner.load(store, one).record.name for one in fitted.learners]
        predictor = load_predictor(workspace, digest)
        data, _ = found[NAMES[0]]
        graphs = encoders_of(workspace).graphs(workspace.rows(fitted.dataset))
        held_out = data.split.held_out
        answers = predictor.answer({"cgcnn": [graphs[row] for row in held_out]}, level=0.9)
    tried = [
        np.mean([found[name][1] for name in chosen], axis=0)
        for size in (1, 2, 3, 4)
        for chosen in combinations(NAMES, size)
    ]
    least = min(data.mae(one, data.split.validation) for one in tried)
    assert np.isclose(fitted.validation_maes["finetuned"], least, rtol=1e-9, atol=1e-12)
    assert [name for name in learners if name != "kernel"] == [NAMES[i] for i in sorted(answering)]
    residuals = np.abs(predictor.normaliser.forward(answers.values) - data.targets[held_out])
    assert np.allclose(np.sort(residuals), arrays["held_out_residuals"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("better_by", "alone"), [(0.01, False), (0.3, True)])
def test_less_than_a_standard_error_does_not_speak_against_the_mean_of_all(better_by, alone):
    rows = np.arange(40)
    generator = np.random.default_rng(0)
    noise = 0.2 * generator.normal(size=(4, len(rows)))
    errors = 1.0 + noise - noise.mean(axis=1, keepdims=True)
    errors[2] -= better_by
    data = SimpleNamespace(
        errors=lambda normalised, rows: np.abs(normalised),
    )
    learners = [
        JoinedAnswers(learners=(name,), validation=error, held_out=np.zeros(0))
        for name, error in zip(NAMES, errors, strict=True)
    ]
    chosen = join_learners._join(data, learners, np.arange(40))
    assert np.allclose(chosen.validation, errors[2] if alone else errors.mean(axis=0))
    assert chosen.learners == ((NAMES[2],) if alone else tuple(NAMES))
