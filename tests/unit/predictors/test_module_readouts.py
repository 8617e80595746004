"""What modules predict of their own properties, as features of a predictor."""

import numpy as np
import pytest

from moma_cl.hub import Hub
from moma_cl.learning.kernel_head import fit_kernel_head
from moma_cl.predictors.module_readouts import MAX_DEVIATIONS, ReadoutBaseline, ReadoutScale
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import KernelSettings
from moma_cl.records.records import ModuleKind, Predictor
from moma_store.store import Store
from tests.helpers import hubs

SETTINGS = KernelSettings()


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_a_kernel_head_uses_a_readout_that_helps_and_not_one_that_does_not(generator):
    embeddings = generator.normal(size=(80, 30))
    readout = generator.normal(size=(80, 1))
    targets = readout[:, 0] + 0.05 * embeddings[:, 0]
    training, held_out = slice(0, 60), slice(60, 80)
    head, choice = fit_kernel_head(
        embeddings[training], targets[training], SETTINGS, readouts=readout[training]
    )
    assert choice.readout_weight > 0
    error = np.abs(head.predict(embeddings[held_out], readout[held_out])[:, 0] - targets[held_out])
    without, _ = fit_kernel_head(embeddings[training], targets[training], SETTINGS)
    error_without = np.abs(without.predict(embeddings[held_out])[:, 0] - targets[held_out])
    assert error.mean() < 0.3 * error_without.mean()
    noise = generator.normal(size=(80, 1))
    not_helped, _ = fit_kernel_head(embeddings, targets, SETTINGS, readouts=noise)
    assert not not_helped.uses_readouts


def test_a_kernel_head_follows_a_target_that_bends_with_a_readout(generator):
    embeddings, readouts = generator.normal(size=(120, 30)), generator.normal(size=(120, 2))
    targets = np.sin(2.0 * readouts[:, 0])
    training, held_out = slice(0, 100), slice(100, 120)
    head, _ = fit_kernel_head(
        embeddings[training], targets[training], SETTINGS, readouts=readouts[training]
    )
    answers = head.predict(embeddings[held_out], readouts[held_out])[:, 0]
    straight = np.polyval(np.polyfit(readouts[training, 0], targets[training], 1), readouts[:, 0])
    errors = (np.abs(one[held_out] - targets[held_out]).mean() for one in (straight, targets * 0))
    assert np.abs(answers - targets[held_out]).mean() < 0.5 * min(errors)


def test_readouts_far_outside_those_of_training_rows_are_clipped(generator):
    readouts, weights = generator.normal(size=(40, 2)), np.array([0.64, 0.36])
    scale = ReadoutScale.fit(readouts)
    features = scale.features(np.array([[1e6, -1e6], [0.0, 0.0]]), weights)
    assert features[0].tolist() == pytest.approx([0.8 * MAX_DEVIATIONS, -0.6 * MAX_DEVIATIONS])


def test_no_readouts_make_no_features():
    features = ReadoutScale.fit(np.zeros((5, 0))).features(np.zeros((5, 0)), np.zeros(0))
    assert features.shape == (5, 0)


def test_a_baseline_leaves_only_what_readouts_do_not_explain(generator):
    features = generator.normal(size=(500, 2))
    noise = 0.1 * generator.normal(size=500)
    targets = features @ [2.0, -1.0] + 3.0 + noise
    baseline = ReadoutBaseline.fit(features, targets)
    assert baseline is not None
    rest = (targets - baseline.predict(features)) / baseline.spread
    assert abs(rest.mean()) < 1e-9
    assert rest.std() == pytest.approx(1.0)
    assert baseline.spread == pytest.approx(0.1, rel=0.2)


def test_readouts_that_explain_little_make_no_baseline(generator):
    features = generator.normal(size=(500, 2))
    assert ReadoutBaseline.fit(features, features[:, 0] + generator.normal(size=500)) is None


def test_a_small_task_uses_the_readout_of_the_module_of_a_large_one(
    tmp_path, short_recipe, write_rows, made_up
):
    eager = hubs.short_recipe(kernel=KernelSettings(readouts_worth=-1.0))
    hub = hubs.make_hub(tmp_path / "hub", eager)
    hubs.add_task(hub, "large", 200, target="energy", unit="eV/atom")
    few = [{**row, "difference": 2.0 * row["energy"] + 0.3} for row in made_up(40, first=300)]
    options = {"target": "difference", "unit": "eV/atom", "module": ModuleKind.NONE}
    hubs.add_task(hub, "small", few[:30], **options)
    with Store.open(hub) as store:
        predictor = Predictor.from_doc(store.record(store.ref("fitted/small")))
        (learner,) = (StoredLearner.load(store, digest) for digest in predictor.learners)
    assert learner.record.readouts
    assert learner.artifact.readout_scale.centre.shape == (1,)
    answers = {row.id: row.value for row in Hub(hub).iter_predictions("small", [write_rows(few)])}
    errors = [abs(answers[row["id"]] - row["difference"]) for row in few[30:]]
    spread = np.std([row["difference"] for row in few])
    assert np.mean(errors) < 0.5 * spread
