"""Fitting a predictor: which starts of the fine-tuning answer."""

import threading
import time
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from moma_cl.core import threads
from moma_cl.derivations import finetuned_learners, finetuning_starts, join_learners
from moma_cl.derivations.learner import FittedLearner
from moma_cl.learning.training import TrainingError
from moma_cl.predictors.artifact import EncoderSlot, LearnerParts
from moma_cl.predictors.predictor import load_predictor
from moma_cl.recipe import Recipe
from moma_cl.records.records import ModuleKind, Predictor
from tests.helpers import hubs
from tests.helpers.hubs import open_workspace, record


@pytest.mark.parametrize("n_cores", [2, 4])
def test_trainings_side_by_side_leave_the_same_bits(tmp_path, monkeypatch, n_cores):
    fitted = []
    told: list[tuple[int, int]] = []
    for count in (1, n_cores):
        monkeypatch.setattr(threads, "n_cores", lambda count=count: count)
        hub = hubs.make_hub(tmp_path / f"hub-{count}")
        hubs.add_task(hub, "energy", 200, unit="eV/atom")
        told.clear()
        hubs.add_task(
            hub,
            "modulus",
            200,
            unit="GPa",
            module=ModuleKind.NONE,
            progress=lambda label, *steps: (
                told.append(steps) if label == "predictor modulus" else None
            ),
        )
        predictor = record(hub, "fitted/modulus")
        fitted.append((predictor["blob"], predictor["held_out_maes"]))
    assert fitted[0] == fitted[1]
    done, planned = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert {*planned} == {done[-1]}


def test_a_training_that_fails_ends_the_others(add_task, monkeypatch):
    monkeypatch.setattr(threads, "n_cores", lambda: 2)
    ended = threading.Event()
    begun = threading.Barrier(2)

    def never_ending(encoder, head, data, settings, *, progress):
        begun.wait(30.0)
        if encoder.adapters is None:
            raise TrainingError("the loss became nan")
        try:
            for step in range(1, 10_000):
                time.sleep(0.01)
                progress(step, 10_000)
        except TrainingError:
            ended.set()
            raise

    monkeypatch.setattr(finetuned_learners, "train", never_ending)
    taken = add_task("energy", 200, unit="eV/atom", module=ModuleKind.NONE)
    assert ended.wait(10.0)
    assert any("the loss became nan" in str(done) for done in taken.done)


@pytest.mark.parametrize(
    ("errors", "stored"),
    [
        ((0.1, 5.0, 5.0, 5.0), {""}),
        ((5.0, 0.1, 5.0, 5.0), {""}),
        ((5.0, 5.0, 0.1, 5.0), {"adapters_"}),
        ((5.0, 5.0, 5.0, 0.1), {"backbone_adapters_"}),
        ((1.0, -1.0, 5.0, 5.0), {"", "backbone_"}),
        ((5.0, 1.0, -1.0, 5.0), {"backbone_", "adapters_"}),
        ((1.0, 5.0, 5.0, -1.0), {"", "backbone_adapters_"}),
        ((1.0, 1.0, 1.0, -3.0), {"", "backbone_", "adapters_", "backbone_adapters_"}),
    ],
    ids=["composition", "backbone", "adapted", "beside", "two", "two", "two", "all"],
)
def test_of_the_starts_and_their_means_the_best_on_validation_answers(
    hub, add_task, monkeypatch, errors, stored
):
    add_task("energy", 200, unit="eV/atom")
    trained = finetuned_learners._trained_learner
    found = []

    def noted(data, start):
        learner = trained(data, start)
        targets = data.targets[data.split.validation]
        learner = replace(learner, validation=targets + errors[len(found)])
        found.append((data, learner))
        return learner

    monkeypatch.setattr(finetuned_learners, "_trained_learner", noted)
    add_task("modulus", 200, unit="GPa", module=ModuleKind.NONE)
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("fitted/modulus")
        fitted = Predictor.from_doc(store.record(digest))
        assert store.record(fitted.composition)["modules"]
        arrays = store.blob(fitted.blob).arrays
        predictor = load_predictor(workspace, digest)
        data = found[0][0]
        graphs = workspace.graphs(workspace.rows(fitted.dataset))
        held_out = data.split.held_out
        answers = predictor.answer([graphs[row] for row in held_out], level=0.9)
    tried = [
        np.mean([one.validation for _, one in chosen], axis=0)
        for size in (1, 2, 3, 4)
        for chosen in combinations(found, size)
    ]
    least = min(data.mae(one, data.split.validation) for one in tried)
    assert np.isclose(fitted.validation_maes["finetuned"], least, rtol=1e-9, atol=1e-12)
    assert {name for name in arrays if name.endswith("parameters")} == {
        f"{start}parameters" for start in stored
    }
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
        recipe=Recipe(),
        split=SimpleNamespace(validation=rows),
        errors=lambda normalised, rows: np.abs(normalised),
    )
    names = (
        finetuning_starts.FROM_COMPOSITION,
        finetuning_starts.FROM_BACKBONE,
        finetuning_starts.ADAPTED_COMPOSITION,
        finetuning_starts.ADAPTED_BACKBONE,
    )
    stored = dict.fromkeys(EncoderSlot)
    starts = {
        name: FittedLearner(
            validation=error, held_out=np.zeros(0), parts=LearnerParts(finetuned=stored)
        )
        for name, error in zip(names, errors, strict=True)
    }
    chosen = join_learners._join_starts(data, starts).validation
    assert np.allclose(chosen, errors[2] if alone else errors.mean(axis=0))
