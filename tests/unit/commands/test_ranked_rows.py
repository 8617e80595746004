"""Predictions in the order of a goal."""

from dataclasses import replace

import pytest
from scipy.stats import norm

from moma_cl.commands.predictions import PredictedRow
from moma_cl.commands.ranked_rows import ranked
from moma_cl.commands.ranking import Ranking
from moma_cl.hub import Hub
from moma_cl.records.records import ModuleKind
from moma_store.errors import InvalidInputError

LEVEL = 0.9
HALF_WIDTH = float(norm.ppf((1 + LEVEL) / 2))  # of the interval of a standard normal distribution


def answer(row_id, value, deviation=1.0, *, formula="NaCl", **changes):
    lower, upper = value - HALF_WIDTH * deviation, value + HALF_WIDTH * deviation
    row = PredictedRow(
        id=row_id,
        source="rows.jsonl:1",
        formula=formula,
        status="ok",
        message="",
        task="task",
        value=value,
        lower=lower,
        upper=upper,
        unit="eV",
        level=LEVEL,
        applicability="inside",
        distance=abs(value),
        calibration="held-out",
        predictor="d" * 64,
    )
    return replace(row, **changes)


def order(ranking, rows, measured=(0.0,)):
    return [row.id for row in ranked(ranking, rows, measured)]


@pytest.fixture
def rows():
    """A high value, a low one that is uncertain, and one between them."""
    return [
        answer("high", 3.0, 0.1, formula="LiF"),
        answer("low", 1.0, 2.0, formula="KBr"),
        answer("between", 2.0, 0.5, formula="CsI"),
    ]


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"maximise": True}, ["high", "between", "low"]),
        ({"minimise": True}, ["low", "between", "high"]),
        ({"sort": "value"}, ["high", "between", "low"]),
        ({"sort": "width"}, ["high", "between", "low"]),
        ({"sort": "distance"}, ["low", "between", "high"]),
        ({"window": (1.9, 2.2)}, ["between", "low", "high"]),
        ({"maximise": True, "acquire": "ucb"}, ["low", "high", "between"]),
        ({"minimise": True, "acquire": "ucb"}, ["low", "between", "high"]),
    ],
)
def test_the_best_come_first(rows, goal, expected):
    assert order(Ranking(**goal), rows) == expected


def test_scores_are_those_of_the_textbook(rows):
    (improved,) = ranked(Ranking(maximise=True, acquire="ei"), [answer("a", 1.0, 2.0)], [0.5, 1.4])
    z = (1.0 - 1.4) / 2.0
    assert improved.score == pytest.approx((1.0 - 1.4) * norm.cdf(z) + 2.0 * norm.pdf(z))
    (lowered,) = ranked(Ranking(minimise=True, acquire="ei"), [answer("a", -1.0, 2.0)], [-1.4, 0])
    assert lowered.score == pytest.approx(improved.score)
    (bound,) = ranked(Ranking(maximise=True, acquire="ucb"), [answer("a", 1.0, 2.0)], [0.0])
    assert bound.score == pytest.approx(5.0)
    (inside,) = ranked(Ranking(window=(0.0, 3.0)), [answer("a", 1.0, 2.0)], [0.0])
    assert inside.score == pytest.approx(norm.cdf(1.0) - norm.cdf(-0.5))


def test_drawn_values_follow_the_predictions_and_are_the_same_in_every_run():
    many = [answer(f"row-{i}", 1.0, 2.0, formula=f"Na{i + 1}Cl") for i in range(2000)]
    scores = {row.id: row.score for row in ranked(Ranking(maximise=True, acquire="ts"), many, [0])}
    again = {row.id: row.score for row in ranked(Ranking(maximise=True, acquire="ts"), many, [0])}
    assert scores == again
    mean = sum(scores.values()) / len(scores)
    spread = (sum((score - mean) ** 2 for score in scores.values()) / len(scores)) ** 0.5
    assert mean == pytest.approx(1.0, abs=0.15)
    assert spread == pytest.approx(2.0, abs=0.15)


def test_what_is_like_nothing_known_comes_after_the_rest_unless_asked_for(rows):
    strange = [*rows, answer("strange", 9.0, formula="XeF2", applicability="outside")]
    assert order(Ranking(maximise=True), strange) == ["high", "between", "low", "strange"]
    asked = order(Ranking(maximise=True, outside=True), strange)
    assert asked == ["strange", "high", "between", "low"]


def test_rows_without_an_answer_come_last_and_are_left_out_of_the_best(rows):
    bad = replace(answer("bad", 0.0, lower=None, upper=None), status="no-atoms", value=None)
    found = ranked(Ranking(maximise=True, top=2), [bad, *rows], [0.0])
    assert [row.id for row in found] == ["high", "between"]
    assert [row.id for row in found.left_out] == ["low", "bad"]
    assert found.left_out[-1].score is None
    wide = answer("wide", 5.0, lower=None, upper=None)
    assert order(Ranking(sort="width"), [wide, *rows])[-1] == "wide"
    assert order(Ranking(maximise=True, acquire="ei"), [wide, *rows])[-1] == "wide"


def test_acquired_rows_differ_and_are_not_measured_yet(rows):
    like = answer("like", 2.9, 0.1, formula="Li11F10")
    measured = answer("measured", 9.0, 0.1, formula="CaO", known=8.9, known_id="old")
    every = [measured, *rows, like]
    acquired = order(Ranking(maximise=True, acquire="ei"), every, [2.5])
    assert acquired[-2:] == ["like", "measured"]
    assert order(Ranking(maximise=True), every)[:2] == ["measured", "high"]


@pytest.mark.parametrize(
    "goal",
    [
        {},
        {"maximise": True, "minimise": True},
        {"maximise": True, "sort": "value"},
        {"window": (2.0, 1.0)},
        {"window": (float("nan"), 1.0)},
        {"window": (0.0, 1.0), "acquire": "ei"},
        {"maximise": True, "acquire": "best"},
        {"sort": "colour"},
        {"maximise": True, "top": 0},
        {"acquire": "ei"},
    ],
)
def test_goals_that_make_no_sense_are_refused(goal):
    with pytest.raises(InvalidInputError) as caught:
        Ranking(**goal)
    assert caught.value.code == "invalid-input.ranking"


def test_a_hub_ranks_what_it_predicts(hub, add_task, made_up):
    add_task("task", 60, target="energy", unit="eV/atom", module=ModuleKind.NONE)
    asked = made_up(20, first=50)
    found = Hub(hub).rank("task", asked, Ranking(minimise=True, outside=True, top=4))
    every = sorted(Hub(hub).predict("task", asked), key=lambda row: row.value)
    assert [row.id for row in found] == [row.id for row in every[:4]]
    assert [row.score for row in found] == [-row.value for row in every[:4]]
    assert len(found.left_out) == 16


def test_several_tasks_answer_every_row(hub, add_task, made_up):
    for name, unit in (("energy", "eV/atom"), ("gap", "eV")):
        add_task(name, 40, unit=unit, module=ModuleKind.NONE)
    asked = [{**row, "note": f"n{place}"} for place, row in enumerate(made_up(3, first=50))]
    found = Hub(hub).predict(["energy", "gap"], asked)
    assert [(row.id, row.task) for row in found] == [
        (f"row-{i}", task) for i in range(50, 53) for task in ("energy", "gap")
    ]
    for task in ("energy", "gap"):
        alone = Hub(hub).predict(task, asked)
        among = [row for row in found if row.task == task]
        assert [row.value for row in among] == [row.value for row in alone]
    assert [row.columns["note"] for row in found] == ["n0", "n0", "n1", "n1", "n2", "n2"]
    assert all(row.formula for row in found)
