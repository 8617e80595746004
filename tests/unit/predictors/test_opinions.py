"""Readouts, and what a predictor makes of the opinions of modules."""

import numpy as np
import pytest

from moma_cl.hub import Hub
from moma_cl.learning.kernel_head import KernelHead, fit_kernel_head
from moma_cl.predictors.opinions import MOST_DEVIATIONS, Hearing, Prior
from moma_cl.recipe import KernelSettings
from moma_cl.records.records import ModuleKind, Predictor
from moma_store.store import Store
from tests.helpers import hubs

SETTINGS = KernelSettings()


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_a_kernel_head_hears_an_opinion_that_helps_and_not_one_that_does_not(generator):
    embeddings = generator.normal(size=(80, 30))
    opinion = generator.normal(size=(80, 1))
    targets = opinion[:, 0] + 0.05 * embeddings[:, 0]
    known, asked = slice(0, 60), slice(60, 80)
    hearing, choice = fit_kernel_head(
        embeddings[known], targets[known], SETTINGS, opinions=opinion[known]
    )
    assert choice.opinions > 0
    error = np.abs(hearing.predict(embeddings[asked], opinion[asked])[:, 0] - targets[asked])
    deaf, _ = fit_kernel_head(embeddings[known], targets[known], SETTINGS)
    deaf_error = np.abs(deaf.predict(embeddings[asked])[:, 0] - targets[asked])
    assert error.mean() < 0.3 * deaf_error.mean()
    noise = generator.normal(size=(80, 1))
    indifferent, _ = fit_kernel_head(embeddings, targets, SETTINGS, opinions=noise)
    assert not indifferent.hears


def test_a_stored_kernel_head_answers_with_the_same_bits(generator):
    embeddings, opinions = generator.normal(size=(50, 8)), generator.normal(size=(50, 2))
    targets = opinions @ [1.0, 0.5] + 0.1 * embeddings[:, 0]
    head, _ = fit_kernel_head(embeddings, targets, SETTINGS, opinions=opinions)
    stored = KernelHead.from_arrays(head.to_arrays("kernel_"), "kernel_")
    assert stored.hears
    assert np.array_equal(stored.predict(embeddings, opinions), head.predict(embeddings, opinions))


def test_opinions_far_outside_those_of_known_rows_do_not_run_away(generator):
    known = generator.normal(size=(40, 2))
    hearing = Hearing.of(known, np.array([0.64, 0.36]))
    features = hearing.features(np.array([[1e6, -1e6], [0.0, 0.0]]))
    assert features[0].tolist() == pytest.approx([0.8 * MOST_DEVIATIONS, -0.6 * MOST_DEVIATIONS])
    again = Hearing.from_arrays(hearing.to_arrays(), hearing.weights)
    assert np.array_equal(again.features(known), hearing.features(known))


def test_nobody_to_hear_makes_no_features_and_no_arrays():
    hearing = Hearing.of(np.zeros((5, 0)), np.zeros(0))
    assert hearing.features(np.zeros((5, 0))).shape == (5, 0)
    assert hearing.to_arrays() == {}


def test_a_prior_leaves_only_what_opinions_do_not_explain(generator):
    features = generator.normal(size=(500, 2))
    noise = 0.1 * generator.normal(size=500)
    targets = features @ [2.0, -1.0] + 3.0 + noise
    prior = Prior.fit(features, targets)
    assert prior is not None
    rest = (targets - prior.said(features)) / prior.spread
    assert abs(rest.mean()) < 1e-9
    assert rest.std() == pytest.approx(1.0)
    assert prior.spread == pytest.approx(0.1, rel=0.2)
    again = Prior.from_arrays(prior.to_arrays())
    assert again is not None
    assert np.array_equal(again.said(features), prior.said(features))
    assert Prior.from_arrays({}) is None


def test_opinions_that_are_not_nearly_the_answer_make_no_prior(generator):
    features = generator.normal(size=(500, 2))
    assert Prior.fit(features, features[:, 0] + generator.normal(size=500)) is None


def test_a_small_task_hears_the_module_of_a_large_one(tmp_path, short_recipe, write_rows, made_up):
    listening = hubs.short_recipe(kernel=KernelSettings(opinions_worth=-1.0))
    hub = hubs.make_hub(tmp_path / "hub", listening)
    hubs.add_task(hub, "large", 200, target="energy", unit="eV/atom")
    few = [{**row, "difference": 2.0 * row["energy"] + 0.3} for row in made_up(40, first=300)]
    options = {"target": "difference", "unit": "eV/atom", "module": ModuleKind.NONE}
    hubs.add_task(hub, "small", few[:30], **options)
    with Store.open(hub) as store:
        predictor = Predictor.from_doc(store.record(store.ref("fitted/small")))
        arrays = store.blob(predictor.blob).arrays
    assert "opinion_centre" in arrays
    answers = {row.id: row.value for row in Hub(hub).iter_predictions("small", [write_rows(few)])}
    errors = [abs(answers[row["id"]] - row["difference"]) for row in few[30:]]
    spread = np.std([row["difference"] for row in few])
    assert np.mean(errors) < 0.5 * spread
