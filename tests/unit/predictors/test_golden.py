"""Golden predictions: what new software must answer too."""

import logging

import numpy as np
import pytest

from moma_cl.core.software import software
from moma_cl.hub import Hub
from moma_cl.predictors import golden
from moma_cl.predictors.golden import ChangedAnswersError, golden_check
from moma_cl.predictors.predictor import LoadedPredictor, load_predictor
from moma_cl.recipe import Recipe
from moma_cl.records.records import ModuleKind
from tests.helpers import hubs
from tests.helpers.hubs import open_workspace


def with_task(hub):
    options = {"target": "energy", "unit": "eV/atom", "module": ModuleKind.NONE, "compose": False}
    hubs.add_task(hub, "task", 200, **options)
    return hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return with_task(hubs.make_hub(tmp_path_factory.mktemp("golden") / "hub", Recipe()))


@pytest.fixture
def other_software(monkeypatch):
    changed = {**software(), "torch": "99.0"}
    monkeypatch.setattr(golden, "made_by", lambda device: changed)


@pytest.fixture
def shifted(monkeypatch):
    """Make every answer differ by a share of itself."""

    def shift(share):
        answer = LoadedPredictor._answer

        def other(self, graphs, level):
            given = answer(self, graphs, level)
            object.__setattr__(given, "values", given.values * (1 + share))
            return given

        monkeypatch.setattr(LoadedPredictor, "_answer", other)

    return shift


def check(hub):
    with open_workspace(hub) as (store, workspace):
        return golden_check(workspace, load_predictor(workspace, store.ref("predictors/task")))


def test_the_same_answers_are_given_again_by_other_software(hub, other_software):
    found = check(hub)
    assert found.deviation == 0.0
    assert [name for name, _, _ in found.changed] == ["torch"]


def test_nothing_is_asked_while_the_software_is_that_of_then(hub, shifted):
    shifted(0.5)
    assert check(hub).deviation == 0.0


@pytest.mark.parametrize("share", [1e-6, 1e-4])
def test_a_small_change_is_told_beyond_rounding(
    hub, other_software, shifted, share, caplog, write_rows, made_up
):
    shifted(share)
    with caplog.at_level(logging.WARNING):
        rows = list(Hub(hub).iter_predictions("task", [write_rows(made_up(2))]))
    assert [row.status for row in rows] == ["ok", "ok"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (share > 1e-5)
    assert all("torch" in text and "99.0 now" in text for text in told)


def test_a_large_change_is_an_error(hub, other_software, shifted, write_rows, made_up):
    shifted(0.1)
    with pytest.raises(ChangedAnswersError, match=r"99\.0 now"):
        next(Hub(hub).iter_predictions("task", [write_rows(made_up(2))]))


def test_answers_that_are_no_numbers_are_a_large_change():
    then = np.array([[1.0, 2.0], [0.5, -np.inf]])
    assert golden._deviation(then, then) == 0.0
    assert golden._deviation(then, np.array([[np.nan, 2.0], [0.5, -np.inf]])) == np.inf
    assert golden._deviation(then, np.array([[1.0, 2.0], [0.5, 3.0]])) == np.inf
