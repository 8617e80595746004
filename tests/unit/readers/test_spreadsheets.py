"""Workbooks are read like tables."""

import sys
import zipfile

import pytest

from moma_cl.readers.dispatch import InputFormat, Limits, Reading, read_rows
from tests.helpers.cscl import CIF, POSCAR, codes, is_cscl

HEADER = ["id", "cif", "gap [eV]", "note"]


@pytest.fixture
def written(tmp_path):
    """Write sheets of rows as a workbook."""
    openpyxl = pytest.importorskip("openpyxl")

    def write(*sheets, name="rows.xlsx"):
        workbook = openpyxl.Workbook()
        workbook.remove(workbook.active)
        for number, rows in enumerate(sheets):
            sheet = workbook.create_sheet(f"sheet {number}")
            for row in rows:
                sheet.append(row)
        workbook.save(tmp_path / name)
        return tmp_path / name

    return write


def test_a_workbook_holds_texts_and_numbers(written):
    rows = [HEADER, ["a", CIF, 1.5, "x"], [], [7, POSCAR.replace("\n", "_x000D_\n"), None, True]]
    first, second = read_rows([written(rows, [])])
    assert is_cscl(first)
    assert is_cscl(second)
    assert [first.id, second.id] == ["a", "7"]
    assert first.values == {"gap [eV]": 1.5, "note": "x"}
    assert second.values == {"gap [eV]": None, "note": "True"}
    assert second.source.endswith("rows.xlsx:4")


def test_a_workbook_may_name_files_and_be_called_anything(written, tmp_path):
    (tmp_path / "s.vasp").write_text(POSCAR)
    path = written([["path", "gap"], ["s.vasp", 2]], name="rows.data")
    (row,) = read_rows([path], reading=Reading(format=InputFormat.XLSX))
    assert is_cscl(row)
    assert (row.id, row.values) == ("s", {"gap": 2.0})


def test_a_workbook_in_an_archive_is_read(written, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(written([HEADER, ["a", CIF, 1.5, "x"]]), "in/rows.xlsx")
    (row,) = read_rows([tmp_path / "a.zip"])
    assert is_cscl(row)


def test_two_columns_of_one_name_and_two_sheets_are_refused(written):
    (row,) = read_rows([written([["id", "path", "y", "y"], ["a", "a.cif", 1, 2]])])
    assert row.error.code == "repeated-column"
    (row,) = read_rows([written([HEADER, ["a", CIF]], [HEADER, ["b", CIF]])])
    assert row.error.code == "many-sheets"
    assert "'sheet 0', 'sheet 1'" in row.error.message
    assert codes(read_rows([written([])])) == ["many-sheets"]


def test_a_text_that_the_cell_has_cut_off_is_refused(written):
    cut_off = (CIF + "# " + "x" * 40_000)[:32_767]
    bad, good = read_rows([written([HEADER, ["a", cut_off], ["b", CIF]])])
    assert bad.error.code == "truncated"
    assert is_cscl(good)


def test_a_formula_is_not_computed(written):
    rows = list(read_rows([written([HEADER, ["a", CIF, "=1+1"]])]))
    assert all(map(is_cscl, rows))
    assert rows[0].values["gap [eV]"] is None


def test_what_is_no_workbook_is_refused(written, tmp_path):
    whole = written([HEADER, ["a", CIF]]).read_bytes()
    for content in (b"", b"\xd0\xcf\x11\xe0 an old one", whole[:500], b"PK\x03\x04"):
        (tmp_path / "bad.xlsx").write_bytes(content)
        assert codes(read_rows([tmp_path / "bad.xlsx"])) == ["unreadable"]
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (40 << 20))
    assert codes(read_rows([tmp_path / "bomb.xlsx"])) == ["too-long"]
    (tmp_path / "rows.xlsx").write_bytes(whole)
    assert codes(read_rows([tmp_path / "rows.xlsx"], limits=Limits(text_bytes=100))) == ["too-long"]


def test_what_to_install_is_told(tmp_path, monkeypatch):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (row,) = read_rows([tmp_path / "rows.xlsx"])
    assert row.error.code == "missing-extra"
    assert "pip install 'moma-cl[excel]'" in row.error.message
