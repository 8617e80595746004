"""A hub of two backbones: each has modules and compositions, and learners of both meet."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moma_cl.core import threads
from moma_cl.derivations import derive, finetuned_learners, trainings
from moma_cl.hub import Hub
from moma_cl.learning.training import TrainingError
from moma_cl.predictors.intervals import cross_validation_interval
from moma_cl.predictors.predictor import graphs_for, load_artifact, load_predictor
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import PredictorSettings
from moma_cl.reconciling import learners
from moma_cl.reconciling.reasons import StepStatus
from moma_cl.records.records import Composition, Drift, Learner, ModuleKind, Predictor
from moma_cl.records.tasks import task_state
from moma_store.errors import InvalidInputError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import memo_results, open_workspace, record, refs
from tests.helpers.rows import made_up_rows
from tests.helpers.second_backbone import BOTH, BOTH_TUNED, CGCNN, SECOND, SecondBackbone

pytestmark = pytest.mark.usefixtures("second_backbone")

TARGETS = ("energy", "gap")
N_ROWS = 160  # enough for folds and gradients
# every new composition is worth new learners
RECIPE = hubs.short_recipe(1, worth_it=-1.0, predictor=BOTH_TUNED)
LEARNERS = (
    "kernel",
    "finetuned from composition",
    "finetuned from backbone",
    "adapted composition",
    "adapted backbone",
)


@pytest.fixture(scope="module")
def made(second_backbone, tmp_path_factory) -> Path:
    """A hub of both backbones with two tasks, added one after the other, each with a pass."""
    hub = hubs.make_hub(tmp_path_factory.mktemp("made") / "hub", RECIPE, backbones=BOTH)
    for target in TARGETS:
        hubs.add_task(hub, target, N_ROWS)
    Hub(hub).update()
    return hub


@pytest.fixture
def hub(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "hub"))


def derived_refs(hub):
    """What refs say but for champions, which depend on what answered before."""
    kept = refs(hub).items()
    return {name: d for name, d in kept if not name.startswith(("predictors/", "drift/"))}


def backbones_derived(hub, before=()):
    """Names of backbones that anything was derived on, but for the results named."""
    names = {digest: name.partition("/")[2] for name, digest in refs(hub, "backbones/").items()}
    with Store.open(hub) as store:
        docs = [store.record(d) for d in set(memo_results(hub).values()) - set(before)]
    return {names[doc["backbone"]["$record"]] for doc in docs if "backbone" in doc}


def learners_of(store, fitted):
    """The learners that answer, and the backbone of each."""
    names = {digest: name.partition("/")[2] for name, digest in store.refs("backbones/").items()}
    loaded = [StoredLearner.load(store, digest) for digest in fitted.learners]
    return [(one, names[one.record.backbone]) for one in loaded]


@pytest.mark.parametrize("task", TARGETS)
def test_every_task_has_compositions_and_modules_on_each_backbone(made, task):
    (other,) = set(TARGETS) - {task}
    with Store.open(made) as store:
        for name in BOTH:
            composition = Composition.from_doc(
                store.record(store.ref(f"compositions/{task}@{name}"))
            )
            module = store.record(store.ref(f"modules/{task}@{name}"))
            backbone = store.ref(f"backbones/{name}")
            assert composition.backbone == module["backbone"]["$record"] == backbone
            assert composition.n_candidates == 2
            assert set(composition.modules) <= {store.ref(f"modules/{other}@{name}")}
    (listed,) = (one for one in Hub(made).tasks() if one.name == task)
    assert [one.backbone for one in listed.compositions] == BOTH == list(listed.modules)


@pytest.mark.parametrize("task", TARGETS)
def test_learners_of_both_meet_in_the_predictor(made, task):
    fitted = Predictor.from_doc(record(made, f"fitted/{task}"))
    composed = {name: bool(record(made, f"compositions/{task}@{name}")["modules"]) for name in BOTH}
    expected = {
        f"{learner}@{name}"
        for learner in LEARNERS
        for name in BOTH
        if composed[name] or not learner.endswith("composition")
    }
    assert set(fitted.validation_maes) == expected | {"kernel", "finetuned", "mean"}
    assert set(fitted.compositions) == set(refs(made, f"compositions/{task}@").values())


def test_by_default_the_backbone_whose_composition_says_most_is_fine_tuned(hub):
    def fitted_learners():
        with Store.open(hub) as store:
            results = set(memo_results(hub).values())
            return {one for one in results if store.record(one)["kind"] == "learner"}

    before = fitted_learners()
    Hub(hub).set_recipe("gap", {"predictor": {"finetuned_backbones": 1}})
    assert fitted_learners() == before  # they are looked up
    objectives = {name: record(hub, f"compositions/gap@{name}")["objective"] for name in BOTH}
    tuned, kernels = answering(hub)
    assert tuned == {min(objectives, key=objectives.__getitem__)}
    assert kernels == set(BOTH)
    assert PredictorSettings().finetuned_backbones == 1


def answering(hub):
    """Backbones with fine-tuned learners among those that can be joined, and with kernel ones."""
    fitted = Predictor.from_doc(record(hub, "fitted/gap"))
    answered = [name.split("@") for name in fitted.validation_maes if "@" in name]
    tuned = {backbone for learner, backbone in answered if learner != "kernel"}
    return tuned, {backbone for learner, backbone in answered if learner == "kernel"}


def test_what_is_fine_tuned_is_joined_until_another_backbone_is(hub, monkeypatch):
    one = {"finetune": {"epochs": 2}, "predictor": {"finetuned_backbones": 1}}
    Hub(hub).set_recipe("gap", one)
    before, _ = answering(hub)

    def failing(*arguments, **options):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(learners, "_finetuned_backbones", lambda *_: set(BOTH) - before)
    with monkeypatch.context() as patched:
        patched.setattr(trainings, "train", failing)
        for _ in range(3):
            Hub(hub).update()
        assert answering(hub) == (before, set(BOTH))
    Hub(hub).update(retry=True)
    assert answering(hub)[0] == set(BOTH) - before


def test_the_backbone_that_is_fine_tuned_stays_where_another_is_hardly_better(hub):
    with Store.open(hub) as store:
        state = task_state(store, "gap")
        compositions = {name: store.ref(f"compositions/gap@{name}") for name in BOTH}
        objectives = {n: store.record(d)["objective"] for n, d in compositions.items()}
        best, other = sorted(BOTH, key=objectives.__getitem__)
        share = 1.0 - objectives[best] / objectives[other]
        for worth_it, kept in ((share + 0.01, other), (share - 0.01, best)):
            recipe = replace(state.recipe, worth_it=worth_it, predictor=PredictorSettings())
            given = replace(state, recipe=recipe)
            chosen = learners._finetuned_backbones(store, given, compositions, {other})
            assert chosen == {kept}


def test_modules_of_both_are_trained_at_once(hub, monkeypatch):
    monkeypatch.setattr(threads, "n_cores", lambda: 2)
    begun = threading.Barrier(2)
    train = trainings.train

    def meeting(*arguments, **options):
        begun.wait(30.0)
        return train(*arguments, **options)

    def of_both():
        return {name: record(hub, f"modules/gap@{name}") for name in BOTH}

    before = of_both()
    monkeypatch.setattr(trainings, "train", meeting)
    Hub(hub).set_recipe("gap", {"module": {"seed": 1}})
    after = of_both()
    assert all(after[name]["settings"] != before[name]["settings"] for name in BOTH)


def test_a_module_that_fails_leaves_that_of_the_other_backbone(hub, monkeypatch):
    train = trainings.train

    def failing(encoder, *arguments, **options):
        if not isinstance(encoder, SecondBackbone):
            raise TrainingError("the loss became nan")
        return train(encoder, *arguments, **options)

    before = refs(hub, "modules/gap@")
    monkeypatch.setattr(trainings, "train", failing)
    Hub(hub).set_recipe("gap", {"module": {"seed": 1}})
    for _ in range(2):  # in the second of them, what failed twice waits
        Hub(hub).update()
    after = refs(hub, "modules/gap@")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"modules/gap@{SECOND}"}


def test_all_backbones_answer_where_their_mean_is_best(hub, monkeypatch):
    fit = finetuned_learners._fitted

    def far_off(start, derivation, report):
        derived = fit(start, derivation, report)
        rows = derived.arrays["validation_rows"]
        error = 1.0 if start.encoders.record.name == SECOND else -1.0
        answers = start.data.targets[rows] + error
        return replace(derived, arrays={**derived.arrays, "validation_answers": answers})

    monkeypatch.setattr(finetuned_learners, "_fitted", far_off)
    Hub(hub).set_recipe("gap", {"finetune": {"epochs": 2}})
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("fitted/gap")
        fitted = Predictor.from_doc(store.record(digest))
        joined = learners_of(store, fitted)
        tuned = [(one, name) for one, name in joined if one.artifact.finetuned is not None]
        held_out = load_rows(workspace, fitted, tuned[0][0].artifact.held_out.rows)
        answers = load_predictor(workspace, digest).answer(held_out, level=0.9).values
        normaliser = load_artifact(store, fitted).normaliser
    assert {name for _, name in tuned} == set(BOTH)
    assert answers == pytest.approx(normaliser.inverse(mean_of([one for one, _ in joined])))


def load_rows(workspace, fitted, chosen):
    return graphs_for(workspace, fitted, workspace.rows(fitted.dataset), chosen)


def mean_of(learners):
    """What learners answer together to the rows that calibrate."""
    kernels = [one for one in learners if one.artifact.kernel is not None]
    tuned = [one for one in learners if one.artifact.finetuned is not None]
    heads = [
        np.mean([one.artifact.held_out.answers for one in some], axis=0)
        for some in (kernels, tuned)
        if some
    ]
    return np.mean(heads, axis=0)


def test_incremental_and_from_scratch_derive_the_same(made, tmp_path):
    at_once = hubs.make_hub(tmp_path / "once", RECIPE, backbones=BOTH)
    for target in TARGETS:
        hubs.add_task(at_once, target, N_ROWS, compose=False)
    Hub(at_once).update()
    assert derived_refs(at_once) == derived_refs(made)
    first, second = memo_results(at_once), memo_results(made)
    assert {key: second[key] for key in first.keys() & second.keys()} == {
        key: first[key] for key in first.keys() & second.keys()
    }


@pytest.mark.parametrize("added", BOTH)
def test_a_backbone_that_is_added_later_changes_nothing_that_is_there(made, tmp_path, added):
    (first,) = set(BOTH) - {added}
    hub = hubs.make_hub(tmp_path / "hub", RECIPE, backbones=[first])
    for target in TARGETS:
        hubs.add_task(hub, target, N_ROWS, compose=False)
    Hub(hub).update()
    before, results = refs(hub), memo_results(hub)
    with Store.open(hub) as store, store.snapshot() as view:
        records = set(view.records())
    assert Hub(hub).add_backbone(added).name == added
    assert refs(hub) == {**before, f"backbones/{added}": refs(hub)[f"backbones/{added}"]}
    assert memo_results(hub) == results
    done = Hub(hub).update()
    assert results.items() <= memo_results(hub).items()
    assert backbones_derived(hub, before=results.values()) == {added}
    with Store.open(hub) as store, store.snapshot() as view:
        assert records < set(view.records())
    texts = {one.text for one in done if one.kind == "learner" and one.action == "derived"}
    assert texts
    assert not [text for text in texts if f"@{first}" in text]
    assert derived_refs(hub) == derived_refs(made)  # as if both had been there from the start
    assert [one for one in Hub(hub).update() if one.action != "left"] == []


def test_a_composition_that_is_not_worth_it_leaves_the_learners_of_its_backbone(hub, monkeypatch):
    Hub(hub).set_recipe("gap", {"worth_it": 0.5}, compose=False)
    before, results = Predictor.from_doc(record(hub, "fitted/gap")), memo_results(hub)
    names = {digest: name.partition("/")[2] for name, digest in refs(hub, "backbones/").items()}
    compose = derive.compose

    def better(workspace, derivation, recipe):
        derived = compose(workspace, derivation, recipe)
        worth_it = names[derived.record.backbone] == SECOND
        objective = 0.0 if worth_it else derived.record.objective
        return replace(derived, record=replace(derived.record, objective=objective))

    monkeypatch.setattr(derive, "compose", better)
    hubs.add_task(hub, "modulus", N_ROWS)
    fitted = Predictor.from_doc(record(hub, "fitted/gap"))
    with Store.open(hub) as store:
        again = [
            names[learner.backbone]
            for key, digest in memo_results(hub).items()
            if key not in results and key.startswith("learner:")
            if (learner := Learner.from_doc(store.record(digest))).task == fitted.task
        ]
    assert set(again) == {SECOND}
    new = refs(hub)
    assert new[f"compositions/gap@{SECOND}"] in fitted.compositions
    assert new[f"compositions/gap@{CGCNN}"] not in fitted.compositions
    assert len(set(before.compositions) & set(fitted.compositions)) == 1
    (left,) = (one for one in Hub(hub).plan(tasks=["gap"]) if one.kind == "predictor")
    assert left.status == StepStatus.NOT_WORTH_IT


def test_of_few_rows_the_kernel_learners_of_both_answer_with_intervals_of_their_mean(hub):
    hubs.add_task(hub, "few", 40, target="energy", module=ModuleKind.NONE)
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("fitted/few")
        fitted = Predictor.from_doc(store.record(digest))
        crossed = load_artifact(store, fitted).cross_validation
        joined = learners_of(store, fitted)
        predictor = load_predictor(workspace, digest)
        answers = predictor.answer(load_rows(workspace, fitted, np.arange(40)), level=0.8)
        targets = predictor.normaliser.forward(workspace.rows(fitted.dataset).targets)
        encoded = predictor._encoded(load_rows(workspace, fitted, np.arange(40)))
    assert set(fitted.validation_maes) == {f"kernel@{CGCNN}", f"kernel@{SECOND}", "kernel"}
    assert [name for _, name in joined] == BOTH
    out_of_fold = np.mean([one.artifact.validation.answers for one, _ in joined], axis=0)
    assert np.array_equal(crossed.residuals, np.abs(out_of_fold - targets))
    ends = cross_validation_interval(
        np.mean([heads for one in encoded for heads in one.by_kernel], axis=0)[:, 1:],
        crossed.residuals,
        crossed.groups,
        0.8,
    )
    lower, upper = map(predictor.normaliser.inverse, ends)
    assert np.array_equal(answers.lower, lower)
    assert np.array_equal(answers.upper, upper)
    assert (lower < upper).all()


def test_structures_are_answered_alike_one_by_one_and_together(made):
    rows = made_up_rows(20, first=300)
    together = Hub(made).predict("gap", rows)
    one_by_one = [Hub(made).predict("gap", [row])[0] for row in rows]
    for alone, among in zip(one_by_one, together, strict=True):
        assert [alone.value, alone.lower, alone.upper] == pytest.approx(
            [among.value, among.lower, among.upper], rel=1e-5
        )


def test_a_structure_is_answered_if_the_backbones_that_answer_know_its_elements(hub):
    hubs.add_task(hub, "few", 40, target="energy", module=ModuleKind.NONE, compose=False)
    good, bad = made_up_rows(2, first=300)
    bad["structure"] = {**bad["structure"], "species": ["U", "O"]}
    before = Hub(hub).predict("few", [bad, good])  # by the first backbone alone
    assert [row.status for row in before] == ["ok", "ok"]
    Hub(hub).update(tasks=["few"])
    after = Hub(hub).predict("few", [bad, good])
    assert [row.status for row in after] == ["unsupported-element", "ok"]


def test_an_explanation_names_modules_with_their_backbones(made):
    (row,) = Hub(made).iter_predictions("gap", made_up_rows(1), explain=True)
    with Store.open(made) as store:
        fitted = Predictor.from_doc(store.record(store.ref("predictors/gap")))
        answering = {name for _, name in learners_of(store, fitted)}
    assert set(row.modules) <= {f"{one}@{name}" for one in ("energy", "backbone") for name in BOTH}
    assert {name.partition("@")[2] for name in row.modules} == answering
    for name in answering:
        of_it = [weight for full, weight in row.modules.items() if full.endswith(f"@{name}")]
        assert sum(of_it) == pytest.approx(1.0)


def test_new_rows_are_learned_on_each_backbone_and_asked_of_the_champion_first(hub):
    before, champion = memo_results(hub), refs(hub)["predictors/gap"]
    hubs.add_data(hub, "gap", made_up_rows(20, first=N_ROWS))
    drift = Drift.from_doc(record(hub, "drift/gap"))
    assert (drift.predictor, drift.rows) == (champion, 20)
    dataset = refs(hub)["datasets/gap"]
    for name in BOTH:
        assert record(hub, f"compositions/gap@{name}")["dataset"]["$record"] == dataset
    with Store.open(hub) as store:
        new = [
            learner
            for key, digest in memo_results(hub).items()
            if key.startswith("learner:") and key not in before
            if (learner := Learner.from_doc(store.record(digest))).dataset == dataset
        ]
    assert {one.backbone for one in new} == set(refs(hub, "backbones/").values())


def test_gc_keeps_what_the_next_pass_looks_up_on_each_backbone(hub):
    answers = Hub(hub).predict("gap", made_up_rows(3)).values.tolist()
    Hub(hub).gc()
    assert Hub(hub).verify(deep=True).problems == ()
    assert [one for one in Hub(hub).update() if one.action != "left"] == []
    with Store.open(hub) as store:
        learners = [store.record(memo.result) for memo in store.memos("learner:").values()]
    assert {one["backbone"]["$record"] for one in learners} == set(refs(hub, "backbones/").values())
    assert Hub(hub).predict("gap", made_up_rows(3)).values.tolist() == answers


def test_a_removed_task_leaves_no_ref_on_any_backbone(hub):
    Hub(hub).remove_task("gap")
    assert not [name for name in refs(hub) if "/gap" in name]
    assert {f"modules/energy@{name}" for name in BOTH} <= refs(hub).keys()


def test_show_asks_which_backbone_is_meant(hub):
    modules = {name: refs(hub)[f"modules/energy@{name}"] for name in BOTH}
    with Store.open(hub, write=True) as store, store.transaction("add-module") as transaction:
        for name, digest in modules.items():
            transaction.move_ref(f"modules/adopted@{name}", digest, expected=None)
    with pytest.raises(InvalidInputError, match="adopted@cgcnn, adopted@second"):
        Hub(hub).show("adopted")
    assert Hub(hub).show("adopted@second").digest == modules[SECOND]


def test_show_gives_a_task_with_what_it_has_on_each_backbone(made):
    document = Hub(made).show("energy").document
    assert list(document["modules"]) == list(document["compositions"]) == BOTH
    weights = {
        f"gap@{name}": weight
        for name in BOTH
        for weight in Hub(made).show("gap").document["compositions"][name]["by_name"].values()
    }
    assert Hub(made).show("energy").used_by == weights
