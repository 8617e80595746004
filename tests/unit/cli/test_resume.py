"""Output files that go on where an interrupted run stopped."""

import csv
import io
import json

import pytest

from moma_cl.commands.predict import row_key
from moma_cl.commands.predictions import PredictedRow
from moma_cli.output_file import unfinished_path
from moma_cli.prediction_formats import EXPLAINED, FIELDS, WRITERS, fields, write_csv
from moma_cli.resume import unfinished_file
from moma_store.errors import InvalidInputError


def row(number, *, row_id=None, predictor="a" * 64):
    return PredictedRow(
        id=row_id or f"row-{number}",
        source=f"rows.jsonl:{number}",
        status="ok",
        message="",
        task="energy",
        value=0.5,
        lower=0.1,
        upper=float("inf"),
        unit="eV/atom",
        level=0.9,
        applicability="outside",
        distance=2.0,
        calibration="held-out",
        predictor=predictor,
        per_atom=True,
        unseen_elements=("Fe", "O"),
    )


def write(path, layout, rows, *, explain=False, header=True):
    with path.open("a", encoding="utf-8", newline="") as stream:
        WRITERS[layout](rows, stream, columns=fields(explain=explain), header=header)


@pytest.fixture(params=["jsonl", "csv"])
def layout(request):
    return request.param


@pytest.fixture
def file(tmp_path, layout):
    return tmp_path / f"out.{layout}"


def test_rows_that_were_answered_are_read_again(file, layout):
    write(unfinished_path(file), layout, [row(1), row(2, row_id='a "quoted",\nid')])
    resumed = unfinished_file(file, layout, FIELDS)
    assert resumed.earlier.answered == {
        row_key("row-1", "rows.jsonl:1"): 1,
        row_key('a "quoted",\nid', "rows.jsonl:2"): 1,
    }
    assert resumed.earlier.shared == {"task": "energy", "predictor": "a" * 64, "level": 0.9}
    assert resumed.n_bytes == unfinished_path(file).stat().st_size


def test_rows_that_share_id_and_place_are_counted(file, layout):
    write(unfinished_path(file), layout, [row(1), row(1), row(2)])
    resumed = unfinished_file(file, layout, FIELDS)
    assert sorted(resumed.earlier.answered.values()) == [1, 2]


@pytest.mark.parametrize("row_id", ["=1+1", "'=1+1", "+cmd|' /C calc'!A0", "@sum(1)", "\uff1d1+1"])
def test_an_id_like_a_formula_goes_through_a_file_and_comes_back(file, layout, row_id):
    write(unfinished_path(file), layout, [row(1, row_id=row_id)])
    resumed = unfinished_file(file, layout, FIELDS)
    assert list(resumed.earlier.answered) == [row_key(row_id, "rows.jsonl:1")]


def test_a_spreadsheet_computes_no_cell_and_numbers_stay_numbers():
    stream = io.StringIO()
    write_csv([row(1, row_id="=HYPERLINK(1)"), row(2, row_id="-7.5e3")], stream)
    cells = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert [cell["id"] for cell in cells] == ["'=HYPERLINK(1)", "-7.5e3"]
    assert [cell["value"] for cell in cells] == ["0.5", "0.5"]


def test_a_file_torn_anywhere_goes_on_from_its_last_whole_row(file, layout):
    path = unfinished_path(file)
    write(path, layout, [row(1), row(2, row_id="two\nlines")])
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        resumed = unfinished_file(file, layout, FIELDS)
        kept = path.read_bytes()
        assert whole.startswith(kept)
        left = [row(1), row(2, row_id="two\nlines")][resumed.earlier.answered.total() :]
        write(path, layout, left, header=resumed.n_bytes == 0)
        assert path.read_bytes() == whole


def test_a_finished_file_can_go_on_and_stays_until_it_is_whole_again(file, layout):
    write(file, layout, [row(1)])
    before = file.read_bytes()
    assert len(unfinished_file(file, layout, FIELDS).earlier.answered) == 1
    assert file.read_bytes() == before
    assert unfinished_file(file.with_name(f"other.{layout}"), layout, FIELDS) is None


@pytest.mark.parametrize(
    ("rows", "names", "reason"),
    [
        ([row(1)], (*FIELDS, *EXPLAINED), "other fields"),
        ([row(1), row(2, predictor="b" * 64)], FIELDS, "not all of one predictor"),
    ],
)
def test_a_file_of_another_run_is_refused(file, layout, rows, names, reason):
    write(unfinished_path(file), layout, rows)
    with pytest.raises(InvalidInputError, match=reason) as refused:
        unfinished_file(file, layout, names)
    assert refused.value.code == "invalid-input.cannot-resume"


def test_what_is_no_row_is_refused(tmp_path):
    (tmp_path / "out.jsonl").write_text("[1]\n")
    with pytest.raises(InvalidInputError, match="line 1 is not a row"):
        unfinished_file(tmp_path / "out.jsonl", "jsonl", FIELDS)
    (tmp_path / "out.jsonl").write_text("{\n{}\n")
    (tmp_path / "out.jsonl.unfinished").unlink()
    with pytest.raises(InvalidInputError, match="line 1 is not JSON"):
        unfinished_file(tmp_path / "out.jsonl", "jsonl", FIELDS)


def test_json_and_csv_say_the_same():
    written = {}
    for layout in ("jsonl", "csv"):
        stream = io.StringIO()
        WRITERS[layout]([row(1)], stream, columns=fields(explain=True))
        written[layout] = stream.getvalue()
    from_json = json.loads(written["jsonl"])
    (from_csv,) = csv.DictReader(io.StringIO(written["csv"]))
    assert tuple(from_json) == tuple(from_csv) == fields(explain=True)
    assert from_json["unseen_elements"] == from_csv["unseen_elements"].split() == ["Fe", "O"]
    assert from_json["upper"] is None
    assert not from_csv["upper"]
    assert json.loads(from_csv["neighbours"]) == from_json["neighbours"]


def test_parquet_holds_numbers_as_numbers(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    from moma_cli.prediction_formats import write_parquet

    write_parquet([row(1), row(2)], tmp_path / "out.parquet", columns=fields(explain=True))
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(fields(explain=True))
    assert table.column("value").to_pylist() == [0.5, 0.5]
    assert table.column("upper").to_pylist() == [None, None]
