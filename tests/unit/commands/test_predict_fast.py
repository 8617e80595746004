"""``predict --fast``: the cheapest learner answers alone."""

import pytest

from moma_cl.hub import Hub
from moma_cl.records.records import Learner, Predictor
from moma_store.store import Store
from tests.helpers.hubs import add_task, make_hub, record
from tests.helpers.rows import made_up_rows


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    path = make_hub(tmp_path_factory.mktemp("fast") / "hub")
    add_task(path, "energy", 200)
    return path


def structures():
    return [row["structure"] for row in made_up_rows(6)]


def test_the_cheapest_learner_answers_alone_with_intervals_of_its_own(hub):
    fitted = Predictor.from_doc(record(hub, "predictors/energy"))
    assert fitted.fast is not None
    with Store.open(hub) as store:
        fast = Predictor.from_doc(store.record(fitted.fast))
        (learner,) = (Learner.from_doc(store.record(digest)) for digest in fast.learners)
    name = f"{learner.name}@cgcnn"
    assert fast.validation_mae == pytest.approx(fitted.validation_maes[name])
    rows = [{"id": str(n), "structure": one} for n, one in enumerate(structures())]
    slow_answers = Hub(hub).predict("energy", rows)
    fast_answers = Hub(hub).predict("energy", rows, fast=True)
    assert {row.predictor for row in fast_answers} == {fitted.fast}
    assert all(row.lower < row.value < row.upper for row in fast_answers)
    assert [row.value for row in fast_answers] != [row.value for row in slow_answers]


def test_a_predictor_of_one_learner_is_its_own_fast_one(tmp_path):
    hub = make_hub(tmp_path / "hub")
    add_task(hub, "energy", 40, module="none")
    assert record(hub, "predictors/energy")["fast"] is None
    rows = [{"id": str(n), "structure": one} for n, one in enumerate(structures())]
    answers = [Hub(hub).predict("energy", rows, fast=fast) for fast in (False, True)]
    assert answers[0].to_dicts() == answers[1].to_dicts()


def test_what_answers_fast_survives_gc(hub):
    before = record(hub, "predictors/energy")["fast"]
    Hub(hub).gc()
    rows = [{"id": "a", "structure": structures()[0]}]
    (row,) = Hub(hub).predict("energy", rows, fast=True)
    assert row.predictor == before["$record"]
    assert row.status == "ok"
