"""What the demo says: commands that can be pasted, lines that fit, nothing embellished."""

import shlex

import pytest

from moma_cl.commands.add_rows import RowsAdded
from moma_cl.commands.predictions import PredictedRow
from moma_cl.demo import demo
from moma_cl.demo import text as demo_text
from moma_cl.demo.gains import Gain, TaskSummary, three_digits
from moma_cl.progress import quiet
from moma_cl.reconciling.pass_actions import Done
from moma_store.errors import AlreadyExistsError

GAIN = Gain(error_without=20.0, error_with=18.0, interval=(-3.0, 1.0))


def summary_of(task, *, excluded=(), gain=GAIN, weight=0.75):
    return TaskSummary(
        task=task,
        unit="GPa",
        rows=50,
        weights={"melting_point": weight, "backbone": 0.25} if weight else {"backbone": 1.0},
        excluded=dict.fromkeys(excluded, "why"),
        gain=gain,
        error_answering=18.0,
    )


def done(task, action, kind="", text=""):
    return Done(task=task, action=action, kind=kind, text=text, seconds=0.5)


def added(*entries):
    return RowsAdded(
        task="youngs_modulus",
        rows=50,
        added=50,
        repeated=0,
        left_out=0,
        grouping="formula",
        folds={},
        refusals=(),
        flagged=(),
        done=entries,
    )


def predicted(value, distance, applicability):
    return PredictedRow(
        id="NaCl",
        source="NaCl.cif",
        status="ok" if value is not None else "invalid-input",
        message="" if value is not None else "what is wrong",
        task="bulk_modulus",
        value=value,
        lower=1.0,
        upper=100.0,
        unit="GPa",
        level=0.9,
        applicability=applicability,
        distance=distance,
        calibration="cross-validation",
        predictor="0" * 64,
    )


def test_a_command_can_be_pasted_into_a_shell():
    words = [
        "add-task",
        "t",
        "my data/" + "x" * 70 + ".jsonl",
        "--unit",
        "W/(m K)",
        "--target",
        "t",
    ]
    lines = demo_text.command(*words)
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    pasted = "\n".join(lines).replace("\\\n", " ").strip().removeprefix("$")
    assert shlex.split(pasted) == ["moma-cl", *words]


def test_an_option_stays_on_the_line_of_its_value():
    for length in range(40, 100):
        lines = demo_text.command("add-task", "x" * length, "--target", "bulk_modulus")
        assert any("--target bulk_modulus" in line for line in lines)


def test_a_step_says_what_was_fitted_anew_and_what_was_left_alone():
    entries = [
        done("youngs_modulus", "derived", "predictor"),
        done("melting_point", "derived", "predictor"),
        done("melting_point", "kept-beside", "predictor", "mean error 3 against 2 K, difference 1"),
    ]
    tasks = ("youngs_modulus", "melting_point", "bulk_modulus")
    lines = demo_text.step(added(*entries), {task: summary_of(task) for task in tasks}, 2)
    assert "  fitted anew melting_point: kept-beside, mean error 3 against 2 K" in lines
    assert "  left alone  2 modules, 1 predictor (bulk_modulus)" in lines
    assert "  computed    2 predictors, in 1.5 s" in lines


def test_a_step_says_what_failed_and_what_was_barred():
    entries = [done("melting_point", "failed", text="[storage] disk full")]
    shown = summary_of("youngs_modulus", excluded=("bulk_modulus",))
    lines = demo_text.step(added(*entries), {"youngs_modulus": shown}, 1)
    assert "  failed      melting_point: [storage] disk full" in lines
    assert "  barred      bulk_modulus: it reveals the answers" in lines
    error = "  error       18 GPa with modules, 20 without: -10.0 % [-15.0, +5.0]"
    assert error in lines


@pytest.mark.parametrize("weight", [0.0, 0.75])
def test_help_is_claimed_where_modules_are_composed_even_by_the_first_task(weight):
    first = summary_of("youngs_modulus", weight=weight)
    lines = demo_text.step(added(), {"youngs_modulus": first}, 0)
    assert any("with modules" in line for line in lines) == (weight > 0)


def test_the_summary_shows_tasks_that_the_modules_made_worse():
    worse = Gain(error_without=20.0, error_with=22.0, interval=(-1.0, 5.0))
    lines = demo_text.summary([summary_of("bulk_modulus", gain=worse)])
    assert any("+10.0 %" in line and "[-5.0, +25.0]" in line for line in lines)


@pytest.mark.parametrize(
    ("applicability", "words", "warned"),
    [
        ("inside", "within reach", False),
        ("edge", "at the edge", False),
        ("outside", "outside", True),
    ],
)
def test_predictions_say_how_far_outside_a_structure_lies(applicability, words, warned):
    lines = demo_text.predictions([predicted(50.0, 4.25, applicability)])
    assert words in lines[1]
    assert any("promises nothing" in line for line in lines) is warned


def test_a_structure_that_failed_is_shown_with_its_reason():
    lines = demo_text.predictions([predicted(None, None, None)])
    assert "what is wrong" in lines[1]


def test_changed_records_are_not_called_unchanged():
    assert "unchanged" in demo_text.unchanged(3, 2, 0)[1]
    assert "unchanged" not in demo_text.unchanged(3, 2, 1)[1]


@pytest.mark.parametrize(
    ("value", "text"), [(1685.2, "1690"), (0.012345, "0.0123"), (22.25, "22.2"), (3.0, "3")]
)
def test_figures_have_three_digits_and_no_power_of_ten(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize("what", ["file", "folder"])
def test_the_demo_refuses_a_path_that_holds_something(what, tmp_path):
    place = tmp_path / "demo"
    if what == "folder":
        place.mkdir()
        (place / "thesis.tex").write_text("mine")
    else:
        place.write_text("mine")
    with pytest.raises(AlreadyExistsError, match="demo FOLDER"):
        demo.run(place, say=lambda line: None, progress=quiet)
