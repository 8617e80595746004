"""What `predict` sums up of its rows, and how it prints a known one."""

from dataclasses import replace
from io import StringIO

import pytest

from moma_cl.commands.predictions import FEW_ROWS, PredictedRow
from moma_cli.predict import Tally
from moma_cli.prediction_formats import document, write_csv, write_table

ROW = PredictedRow(
    id="a",
    source="a.cif",
    status="ok",
    message="",
    task="gap",
    value=1.0,
    lower=0.5,
    upper=1.5,
    unit="1",
    level=0.9,
    applicability="inside",
    distance=0.1,
    calibration="held-out",
    predictor="0" * 64,
)


@pytest.mark.parametrize("calibration", ["range", "cross-validation", "held-out"])
def test_intervals_that_promise_nothing_are_warned_of_once(calibration):
    tally = Tally()
    row = replace(ROW, calibration=calibration)
    assert list(tally.count([row, row])) == [row, row]
    told = [(problem.code, problem.message) for problem in tally.problems]
    expected = [("few-rows", f"task 'gap': {FEW_ROWS}")]
    assert told == (expected if calibration == "range" else [])
    assert tally.exit_code == 0


def test_a_known_row_has_its_value_in_every_format_and_a_unit_of_one_is_not_printed():
    known = replace(ROW, known=0.0, known_id="row-3")
    assert document(known)["known"] == 0.0
    table, csv = StringIO(), StringIO()
    write_table([known, ROW], table)
    head, first, second = table.getvalue().splitlines()
    assert head.split()[-1] == "known"
    assert first.endswith("0 (row-3)")
    assert second.endswith("-")
    assert "1.5  -" in first
    write_csv([known], csv)
    cells = dict(zip(*(line.split(",") for line in csv.getvalue().splitlines()), strict=True))
    assert (cells["known"], cells["known_id"]) == ("0.0", "row-3")
    plain = StringIO()
    write_table([ROW], plain)
    assert "known" not in plain.getvalue()
