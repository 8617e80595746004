"""Answers beside labels."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from moma_cl.hub import Hub
from moma_cl.predictors.scores import Scores
from moma_cl.records.records import ModuleKind
from moma_store.errors import InvalidInputError, NotFoundError
from tests.helpers.hubs import refs


@pytest.fixture(scope="module")
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def task(add_task):
    """A task of 60 energies, rows 0 to 59."""
    add_task("task", 60, target="energy", unit="eV/atom", module=ModuleKind.NONE)


def test_scores_are_those_of_the_textbook(generator):
    measured = generator.normal(size=50)
    answers = measured + generator.normal(scale=0.3, size=50)
    scores = Scores.of(measured, answers, (answers - 0.3, answers + 0.5), 0.2)
    errors = answers - measured
    assert scores.n_rows == 50
    assert scores.mae == pytest.approx(np.mean(np.abs(errors)))
    assert scores.rmse == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert scores.r2 == pytest.approx(
        1 - np.sum(errors**2) / np.sum((measured - np.mean(measured)) ** 2)
    )
    assert scores.rank_correlation == pytest.approx(spearmanr(answers, measured).statistic)
    assert scores.baseline_mae == pytest.approx(np.mean(np.abs(measured - 0.2)))
    assert scores.of_baseline == pytest.approx(scores.mae / scores.baseline_mae)
    assert scores.coverage == np.mean((errors >= -0.5) & (errors <= 0.3))
    assert scores.width == pytest.approx(0.8)


def test_what_equal_labels_do_not_determine_is_left_out():
    equal = np.full(3, 2.0)
    scores = Scores.of(equal, np.array([1.0, 2.0, 3.0]), (equal, equal), 2.0)
    assert (scores.r2, scores.rank_correlation, scores.of_baseline) == (None, None, None)
    assert scores.mae == pytest.approx(2 / 3)


def test_rows_are_scored_together_and_by_what_is_known_of_them(hub, task, write_rows, made_up):
    before = refs(hub)
    found = Hub(hub).evaluate("task", write_rows(made_up(40, first=50)))
    assert refs(hub) == before  # nothing is learned
    assert [row.id for row in found.rows] == [f"row-{i}" for i in range(50, 90)]
    assert found.n_known == 10
    groups = found.scores
    assert (groups["all"].n_rows, groups["new"].n_rows) == (40, 30)
    places = [groups[name].n_rows for name in ("inside", "edge", "outside") if name in groups]
    assert sum(places) == 40
    answers = Hub(hub).predict("task", made_up(40, first=50))
    for row, answer, asked in zip(found.rows, answers, made_up(40, first=50), strict=True):
        assert (row.value, row.lower, row.upper) == (answer.value, answer.lower, answer.upper)
        assert row.measured == asked["energy"]
        assert row.error == row.value - row.measured
        assert row.within == (row.lower <= row.measured <= row.upper)
    errors = np.array([row.error for row in found.rows])
    assert groups["all"].mae == pytest.approx(np.abs(errors).mean())
    assert groups["new"].mae == pytest.approx(np.abs(errors[10:]).mean())
    targets = [row["energy"] for row in made_up(60)]
    assert found.baseline == pytest.approx(np.median(targets))
    assert found.to_frame()["measured"].tolist() == [row.measured for row in found.rows]


def test_labels_may_be_in_another_column_and_unit(hub, task, write_rows, made_up):
    rows = made_up(5, first=70)
    renamed = [
        {"id": row["id"], "structure": row["structure"], "mine [meV/atom]": 1000 * row["energy"]}
        for row in rows
    ]
    found = Hub(hub).evaluate("task", write_rows(renamed), target="mine")
    assert [row.measured for row in found.rows] == pytest.approx([row["energy"] for row in rows])
    assert found.unit == "eV/atom"


def test_rows_without_label_or_answer_are_told(hub, task, write_rows, made_up):
    rows = made_up(4, first=70)
    del rows[1]["energy"]
    rows[2]["structure"]["frac_coords"] = [[0, 0, 0], [0, 0, 0.001]]
    found = Hub(hub).evaluate("task", write_rows(rows))
    assert [row.id for row in found.rows] == ["row-70", "row-73"]
    assert [refusal.id for refusal in found.refusals] == ["row-71", "row-72"]


@pytest.mark.parametrize(
    ("name", "target", "error"),
    [("none", None, NotFoundError), ("task", "nothing", InvalidInputError)],
)
def test_what_is_not_there_is_refused(hub, task, write_rows, made_up, name, target, error):
    with pytest.raises(error):
        Hub(hub).evaluate(name, write_rows(made_up(2, first=70)), target=target)
