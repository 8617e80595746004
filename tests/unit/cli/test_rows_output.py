"""What is printed of added rows, and of the pass that followed."""

from types import SimpleNamespace

import pytest

from moma_cl.reconciling.pass_actions import FIRST_PREDICTOR, Done
from moma_cl.views.tasks import ComposedOn, Weight
from moma_cli import rows_output

TASK = SimpleNamespace(name="gap", compositions=(), modules={}, method=None, unit="eV")


def done(action, text, seconds=2.0, task="gap"):
    return Done(task=task, action=action, kind="predictor", text=text, seconds=seconds)


@pytest.mark.parametrize(
    ("action", "text", "line"),
    [
        ("promoted", FIRST_PREDICTOR, "first answer: after 3.0 s of computing"),
        ("promoted", "mean error 1 against 2 eV", "better predictor: after 3.0 s of computing"),
        ("kept-beside", "mean error 2 against 1 eV", "fitted anew, not promoted: mean error 2 "),
    ],
)
def test_what_became_of_the_predictor_is_said(action, text, line):
    lines = rows_output._state_lines(TASK, [done("composed", "", 1.0), done(action, text)])
    assert [text for text in lines if text.startswith(line)]
    assert len([text for text in lines if "computing" in text or "promoted" in text]) == 1
    other = rows_output._state_lines(TASK, [done(action, text, task="another")])
    assert other == ["composition: -"]


def test_compositions_are_written_with_the_backbones_by_their_names():
    heavy = Weight(module="energy", digest="d", weight=0.75)
    on = ComposedOn(backbone="cgcnn", modules=(heavy,), backbone_weight=0.25)
    bare = ComposedOn(backbone="second", modules=(), backbone_weight=1.0)
    listed = SimpleNamespace(compositions=(on, bare))
    assert rows_output.composed_of(listed) == (
        "cgcnn: energy 0.75, backbone 0.25; second: backbone 1.00"
    )
    task = SimpleNamespace(**{**vars(TASK), "modules": {"cgcnn": "a" * 64, "second": "b" * 64}})
    assert rows_output._state_lines(task, [])[1:] == [
        f"module of cgcnn: {'a' * 12}",
        f"module of second: {'b' * 12}",
    ]


def test_a_repeated_structure_is_named():
    twin = SimpleNamespace(id="b:2", fold="train", twin="a:2", twin_fold="train")
    checks = SimpleNamespace(n_twins=0, twins=(), n_repeats=1, repeats=(twin,), doubts=())
    (line,) = rows_output._check_lines(checks, "eV")
    assert line.startswith("1 row with the structure of an earlier row, first b:2 (of a:2)")


def test_few_rows_are_a_warning_that_quiet_does_not_hide_and_a_proposal_is_a_note():
    few = SimpleNamespace(code="few-rows", message="task 'gap' has 3 rows")
    proposal = SimpleNamespace(code="try-log10", message="consider log10")
    added = SimpleNamespace(advice=(few, proposal))
    (warning,) = rows_output.warned(added)
    assert (warning.code, warning.message) == ("few-rows", few.message)
    assert rows_output.proposals(added) == [proposal.message]


def test_a_number_without_a_unit_is_written_alone():
    assert rows_output.figure(1.0, "1") == "1"
    assert rows_output.figure(1.0, "GPa") == "1 GPa"
