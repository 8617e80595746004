"""Fitting learners: each by itself, several at once, kept as soon as each is there."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from moma_cl.core import threads
from moma_cl.derivations import finetuned_learners, trainings
from moma_cl.hub import Hub
from moma_cl.learning.training import TrainingError
from moma_cl.predictors.predictor import load_artifact, load_predictor
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.reconciling import composer
from moma_cl.reconciling.costs import Allowance
from moma_cl.records.records import Learner, ModuleKind, Predictor
from moma_store.records import record_link
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import encoders_of, memo_results, open_workspace, record

FROM_MODULES = {"finetuned from composition", "adapted composition"}
FROM_BACKBONE = {"finetuned from backbone", "adapted backbone"}


def learners(hub, task="energy"):
    """The learners of a task that were ever fitted, by digest."""
    with Store.open(hub) as store:
        found = {
            memo.result: Learner.from_doc(store.record(memo.result))
            for memo in store.memos("learner:").values()
        }
        return {d: one for d, one in found.items() if store.record(one.task)["name"] == task}


def names(hub, task="energy"):
    return {one.name for one in learners(hub, task).values()}


def on_cgcnn(names):
    """Names among learners of all backbones."""
    return {f"{name}@cgcnn" for name in names}


def fitted_again(done, task="energy"):
    """Names of the learners that a pass has fitted."""
    return {
        entry.text.partition("@")[0]
        for entry in done
        if (entry.task, entry.action, entry.kind) == (task, "derived", "learner")
    }


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
                told.append(steps) if label == "learners modulus" else None
            ),
        )
        fitted.append(memo_results(hub))
    assert fitted[0] == fitted[1]
    assert len([key for key in fitted[0] if key.startswith("learner:")]) >= 6
    done, planned = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert {*planned} == {done[-1]}


def test_an_interrupt_ends_all_trainings(hub, add_task, monkeypatch):
    monkeypatch.setattr(threads, "n_cores", lambda: 2)
    ended = threading.Event()
    begun = threading.Barrier(2)

    def never_ending(encoder, head, data, settings, *, progress):
        begun.wait(30.0)
        if encoder.adapters is None:
            return
        try:
            for step in range(1, 10_000):
                time.sleep(0.01)
                progress(step, 10_000)
        except TrainingError:
            ended.set()
            raise

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainings, "train", never_ending)
    monkeypatch.setattr(finetuned_learners, "_fitted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add_task("energy", 200, module=ModuleKind.NONE)
    assert ended.wait(10.0)


def test_a_training_that_fails_leaves_the_others_and_is_tried_again(hub, add_task, monkeypatch):
    trained = trainings.train

    def failing(encoder, *arguments, **options):
        if encoder.adapters is not None:
            raise TrainingError("the loss became nan")
        return trained(encoder, *arguments, **options)

    monkeypatch.setattr(trainings, "train", failing)
    done = add_task("energy", 200, module=ModuleKind.NONE).done
    assert [one.text for one in done if one.action == "failed"] == [
        "[training] the loss became nan"
    ]
    assert names(hub) == {"kernel", "finetuned from backbone"}
    monkeypatch.undo()
    assert fitted_again(Hub(hub).update()) == {"adapted backbone"}
    assert record(hub, "fitted/energy")["validation_maes"].keys() >= on_cgcnn(FROM_BACKBONE)


@pytest.mark.fault("a pass that is killed between two trainings")
def test_a_pass_that_is_stopped_keeps_the_learners_that_are_there(
    hub, add_task, tmp_path, monkeypatch
):
    add_task("energy", 200, module=ModuleKind.NONE, compose=False)
    monkeypatch.setattr(threads, "n_cores", lambda: 1)
    trained, calls = trainings.train, []

    def stopped(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return trained(*arguments, **options)

    monkeypatch.setattr(trainings, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        Hub(hub).update()
    assert names(hub) == {"kernel", "finetuned from backbone"}
    assert fitted_again(Hub(hub).update()) == {"adapted backbone"}
    assert len(calls) == 3
    undisturbed = hubs.make_hub(tmp_path / "undisturbed")
    hubs.add_task(undisturbed, "energy", 200, module=ModuleKind.NONE, compose=False)
    Hub(undisturbed).update()
    assert memo_results(hub) == memo_results(undisturbed)


def test_a_changed_composition_fits_only_the_learners_that_start_from_it(tmp_path):
    hub = hubs.make_hub(tmp_path / "hub", hubs.short_recipe(2, worth_it=-1.0))
    hubs.add_task(hub, "energy", 200, module=ModuleKind.NONE)
    assert names(hub) == {"kernel", *FROM_BACKBONE}
    before = learners(hub)
    Hub(hub).gc()
    done = hubs.add_task(hub, "modulus", 200).done
    assert record(hub, "fitted/energy")["validation_maes"].keys() >= on_cgcnn(
        FROM_MODULES | FROM_BACKBONE
    )
    assert fitted_again(done) == {"kernel", *FROM_MODULES}
    kept = {digest for digest, one in before.items() if one.name in FROM_BACKBONE}
    assert kept < learners(hub).keys()


def test_another_level_of_the_intervals_trains_nothing(hub, add_task):
    add_task("energy", 200, module=ModuleKind.NONE)
    done = Hub(hub).set_recipe("energy", {"predictor": {"interval_level": 0.8}}).done
    derived = [entry.kind for entry in done if entry.action == "derived"]
    assert derived == ["predictor", "predictor"]  # one answers fast


def test_what_a_predictor_joins_is_what_it_says(hub, add_task):
    add_task("modulus", 200)
    add_task("energy", 200, module=ModuleKind.NONE)
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("fitted/energy")
        fitted = Predictor.from_doc(store.record(digest))
        joined = [StoredLearner.load(store, one) for one in fitted.learners]
        rows = workspace.rows(fitted.dataset)
        held_out = joined[0].artifact.held_out.rows
        graphs = encoders_of(workspace).graphs(rows)
        predictor = load_predictor(workspace, digest)
        answers = predictor.answer({"cgcnn": [graphs[row] for row in held_out]}, level=0.9).values
        assert store.record(digest)["learners"] == [record_link(one) for one in fitted.learners]
    assert {one.record.task for one in joined} == {fitted.task}
    heads = [one.artifact.held_out.answers for one in joined if one.artifact.kernel is not None]
    tuned = [one.artifact.held_out.answers for one in joined if one.artifact.finetuned is not None]
    if tuned:
        heads.append(np.mean(tuned, axis=0))
    assert np.allclose(predictor.normaliser.forward(answers), np.mean(heads, axis=0), atol=1e-4)
    for one in joined:
        errors = np.abs(
            predictor.normaliser.inverse(one.artifact.validation.answers)
            - rows.targets[one.artifact.validation.rows]
        )
        assert one.record.validation_mae == pytest.approx(errors.mean())
        assert one.record.validation_mae == pytest.approx(
            fitted.validation_maes[f"{one.record.name}@cgcnn"]
        )


def test_a_task_of_few_rows_has_one_learner(hub, add_task):
    add_task("energy", 60, module=ModuleKind.NONE)
    assert {one.name for one in learners(hub).values()} == {"kernel"}
    with Store.open(hub) as store:
        fitted = Predictor.from_doc(store.record(store.ref("fitted/energy")))
        (learner,) = (StoredLearner.load(store, one) for one in fitted.learners)
        crossed = load_artifact(store, fitted).cross_validation
    assert len(crossed.residuals) == fitted.n_train
    assert crossed.groups.tolist() == learner.artifact.folds.tolist()
    assert learner.artifact.validation.rows.tolist() == list(range(60))


def test_an_exported_predictor_answers_with_the_same_bits_elsewhere(hub, add_task, made_up):
    add_task("modulus", 200)
    add_task("energy", 200, module=ModuleKind.NONE)
    archive, other = hub.with_name("hub.moma"), hub.with_name("other")
    Hub(hub).export(archive)
    Hub(other).import_archive(archive)
    rows = hubs.write_rows(hub.with_name("asked.jsonl"), made_up(30, first=400))
    for task in ("energy", "modulus"):
        here, there = (list(Hub(one).iter_predictions(task, [rows])) for one in (hub, other))
        assert here == there
    assert Hub(other).update() == []


def test_learners_that_do_not_answer_survive_a_collection(hub, add_task, monkeypatch):
    trained = finetuned_learners._fitted

    def useless(start, derivation, report):
        derived = trained(start, derivation, report)
        answers = derived.arrays["validation_answers"] + 50.0
        return replace(derived, arrays={**derived.arrays, "validation_answers": answers})

    monkeypatch.setattr(finetuned_learners, "_fitted", useless)
    add_task("energy", 200, module=ModuleKind.NONE)
    present = learners(hub)
    answering = {link["$record"] for link in record(hub, "fitted/energy")["learners"]}
    assert {present[digest].name for digest in answering} == {"kernel"}
    Hub(hub).gc()
    assert learners(hub) == present
    assert {one.name for one in present.values()} == {"kernel", *FROM_BACKBONE}


def test_a_limit_of_time_starts_only_the_trainings_that_are_likely_to_end(
    hub, add_task, monkeypatch
):
    monkeypatch.setattr(composer, "n_cores", lambda: 1)
    add_task("gap", 200, module=ModuleKind.NONE)
    seconds = {"kernel": 0.0, "finetuned": 6e4, "adapted": 4e4}
    with Store.open(hub, write=True) as store, store.transaction("slow") as transaction:
        for key, memo in store.memos("learner:").items():
            method = store.record(memo.result)["method"]
            transaction.put_memo(key, memo.result, seconds[method])
    add_task("energy", 200, module=ModuleKind.NONE, compose=False)
    done = Hub(hub).update(max_seconds=5e4)
    assert names(hub) == {"kernel", "adapted backbone"}
    (left,) = [entry.text for entry in done if entry.action == "postponed"]
    assert left == "finetuned from backbone@cgcnn, which is likely to take 60000 s"
    assert fitted_again(Hub(hub).update()) == {"finetuned from backbone"}


@pytest.mark.parametrize(("cores", "admitted"), [(1, False), (2, True)])
def test_trainings_at_the_same_time_share_the_cores(cores, admitted):
    one = SimpleNamespace(settings={"threads": 1})
    allowance = Allowance(costs=SimpleNamespace(of=lambda _: 40.0), seconds=60.0, cores=cores)
    assert allowance.admits(one)
    assert allowance.admits(one, beside=[one]) == admitted
