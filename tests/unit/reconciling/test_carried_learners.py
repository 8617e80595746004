"""Fine-tuned learners are carried over while a task hardly grows."""

import numpy as np
import pytest

from moma_cl.derivations import learner
from moma_cl.hub import Hub
from moma_cl.learning.training import TrainingError
from moma_cl.predictors.predictor import graphs_for, load_artifact, load_predictor
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.records.records import Learner, LearnerMethod, Predictor
from moma_store.store import Store
from tests.helpers.hubs import (
    add_data,
    add_task,
    make_hub,
    open_workspace,
    record,
    refs,
    short_recipe,
)
from tests.helpers.rows import made_up_rows

N_FIRST = 200


def rows(first, last):
    return made_up_rows(last)[first:]


def fitted(hub):
    return Predictor.from_doc(record(hub, "fitted/energy"))


def tried(hub):
    with Store.open(hub) as store:
        return {d: Learner.from_doc(store.record(d)) for d in fitted(hub).tried}


def finetuned(hub):
    return {d: one for d, one in tried(hub).items() if one.method is not LearnerMethod.KERNEL}


@pytest.fixture
def hub(tmp_path):
    path = make_hub(tmp_path / "hub")
    add_task(path, "energy", N_FIRST, module="none")
    return path


def test_a_tenth_more_rows_train_nothing_and_are_answered(hub):
    before = finetuned(hub)
    assert before
    added = add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    after = finetuned(hub)
    assert {one.origin for one in after.values()} == set(before)
    assert {one.dataset for one in after.values()} == {fitted(hub).dataset}
    assert {one.n_train for one in after.values()} == {one.n_train for one in before.values()}
    assert not [entry for entry in added.done if entry.action == "failed"]
    with Store.open(hub) as store:
        for digest in after:
            new = StoredLearner.load(store, digest)
            old = StoredLearner.load(store, new.record.origin)
            assert np.array_equal(
                new.artifact.finetuned.parameters, old.artifact.finetuned.parameters
            )
            assert len(new.artifact.validation.rows) >= len(old.artifact.validation.rows)
        kernels = [one for one in tried(hub).values() if one.method is LearnerMethod.KERNEL]
        assert all(one.origin is None for one in kernels)
        assert all(one.n_train > max(b.n_train for b in before.values()) for one in kernels)


def test_what_is_carried_answers_as_before_in_the_tasks_unit(hub):
    with Store.open(hub) as store:
        first = {d: StoredLearner.load(store, d) for d in finetuned(hub)}
        before = fitted(hub)
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    with Store.open(hub) as store:
        then, now = (load_artifact(store, one).normaliser for one in (before, fitted(hub)))
        for digest in finetuned(hub):
            new = StoredLearner.load(store, digest)
            old = first[new.record.origin].artifact.held_out
            common, at_old, at_new = np.intersect1d(
                old.rows, new.artifact.held_out.rows, return_indices=True
            )
            assert len(common)
            assert now.inverse(new.artifact.held_out.answers[at_new]) == pytest.approx(
                then.inverse(old.answers[at_old]), rel=1e-6, abs=1e-6
            )


def test_a_predictor_answers_by_carried_learners_as_it_was_judged(hub):
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    with open_workspace(hub) as (store, workspace):
        predictor = load_predictor(workspace, store.ref("fitted/energy"))
        answering = [StoredLearner.load(store, one) for one in predictor.record.learners]
        assert any(one.record.origin for one in answering)
        held_out = answering[0].artifact.held_out.rows
        live = workspace.rows(predictor.record.dataset)
        graphs = graphs_for(workspace, predictor.record, live, held_out)
        given = predictor.normaliser.forward(predictor.answer(graphs, level=0.9).values)
        methods = {}
        for one in answering:
            is_kernel = one.record.method is LearnerMethod.KERNEL
            methods.setdefault(is_kernel, []).append(one.artifact.held_out.of(held_out))
        expected = np.mean([np.mean(some, axis=0) for some in methods.values()], axis=0)
    assert given == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_predictor_that_answers_the_same_is_promoted_since_it_knows_the_new_rows(hub):
    before = record(hub, "predictors/energy")
    assert before["method"] == "finetuned"
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    after = record(hub, "predictors/energy")
    assert after["dataset"] != before["dataset"]
    with Store.open(hub) as store:
        origins = [store.record(one["$record"])["origin"] for one in after["learners"]]
    assert origins == before["learners"]


def test_a_fifth_more_rows_train_again(hub):
    before = finetuned(hub)
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 10))
    add_data(hub, "energy", rows(N_FIRST + 10, N_FIRST + 45))  # since the training, not since then
    after = finetuned(hub)
    assert {one.origin for one in after.values()} == {None}
    assert not set(after) & set(before)


def test_a_retracted_row_is_unlearned(hub):
    Hub(hub).retract("energy", [made_up_rows(1)[0]["id"]])
    assert {one.origin for one in finetuned(hub).values()} == {None}


def test_a_pass_after_it_has_nothing_to_do_and_gc_keeps_what_it_needs(hub):
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    assert Hub(hub).update() == []
    Hub(hub).gc()
    assert Hub(hub).update() == []
    add_data(hub, "energy", rows(N_FIRST + 20, N_FIRST + 25))
    origins = {one.origin for one in finetuned(hub).values()}
    assert origins != {None}
    with Store.open(hub) as store:
        assert all(Learner.from_doc(store.record(one)).origin is None for one in origins)


def test_a_recipe_may_train_again_with_every_row(tmp_path):
    hub = make_hub(tmp_path / "hub", short_recipe(refit_factor=1.0))
    add_task(hub, "energy", N_FIRST, module="none")
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 1))
    assert {one.origin for one in finetuned(hub).values()} == {None}


def test_a_learner_that_could_not_be_carried_is_carried_later(hub, monkeypatch):
    before = finetuned(hub)
    carry = learner.carry_learner

    def failing(workspace, derivation, recipe):
        if derivation.inputs["method"] == LearnerMethod.ADAPTED:
            raise TrainingError("on purpose")
        return carry(workspace, derivation, recipe)

    monkeypatch.setattr(learner, "carry_learner", failing)
    add_data(hub, "energy", rows(N_FIRST, N_FIRST + 20))
    for _ in range(3):  # until the failure waits, and the others are joined without it
        Hub(hub).update()
    assert fitted(hub).dataset == refs(hub)["datasets/energy"]
    answering = {name for name in fitted(hub).validation_maes if "@" in name}
    assert answering == {"kernel@cgcnn", "finetuned from backbone@cgcnn"}
    monkeypatch.undo()
    Hub(hub).update(retry=True)
    assert {one.origin for one in finetuned(hub).values()} == set(before)
