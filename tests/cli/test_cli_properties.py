"""``predict --property`` and ``modules --shipped``: answers in a folder without a hub."""

import csv
import json

import pytest

from tests.helpers.processes import ENVIRONMENT, moma_cl
from tests.helpers.rows import rocksalt

LATTICE = 5.64
CIF = f"""data_NaCl
_cell_length_a {LATTICE}
_cell_length_b {LATTICE}
_cell_length_c {LATTICE}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Work in a folder that has no hub, but the structure of table salt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "MOMA_CL_DEVICE", "cpu")
    (tmp_path / "NaCl.cif").write_text(CIF)


def test_a_cif_is_answered_in_the_units_of_the_properties():
    ended = moma_cl(*("predict", "--property", "band_gap,formation_energy"), "NaCl.cif", "--json")
    assert ended.code == 0, ended
    gap, energy = ended.envelope["data"]
    assert [(row["id"], row["property"], row["unit"]) for row in (gap, energy)] == [
        ("NaCl", "band_gap", "eV"),
        ("NaCl", "formation_energy", "eV/atom"),
    ]
    # the values of the Materials Project, which the modules learned: 5.0 eV, -2.1 eV/atom
    assert gap["value"] == pytest.approx(5.0, abs=0.4)
    assert energy["value"] == pytest.approx(-2.1, abs=0.15)
    for row in (gap, energy):
        assert row["lower"] < row["value"] < row["upper"]
        assert (row["status"], row["applicability"], row["level"]) == ("ok", "inside", 0.9)
    assert gap["message"].startswith("band_gap_pbe is meant; there are also band_gap_gllbsc")
    assert (gap["module"], energy["module"]) == (
        "mp_band_gap_pbe@sevennet-0",
        "mp_formation_energy@sevennet-0",
    )


def test_files_come_before_or_after_and_bad_ones_stop_nothing(tmp_path):
    rows = [{"id": "kf", "structure": rocksalt("K", "F")}]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a what\n")
    files = ("NaCl.cif", "absent.cif", "broken.cif", "more.jsonl")
    ended = moma_cl("predict", *files, "--property", "bulk_modulus", "--output", "answers.csv")
    assert ended.code == 0, ended
    assert ended.out == ""
    with (tmp_path / "answers.csv").open() as stream:
        answers = list(csv.DictReader(stream))
    assert list(answers[0])[:4] == ["id", "source", "formula", "property"]
    assert [(row["id"], row["status"] == "ok") for row in answers] == [
        ("NaCl", True),
        ("absent", False),
        ("broken", False),
        ("kf", True),
    ]
    assert answers[1]["value"] == ""
    assert "absent.cif does not exist" in answers[1]["message"]
    assert answers[0]["unit"] == "GPa"
    assert 0 < float(answers[0]["lower"]) < float(answers[0]["value"]) < 60
    assert "2 of 4 rows answered by mp_log_bulk_modulus@sevennet-0 (bulk_modulus)" in ended.err


def test_only_bad_files_fail():
    ended = moma_cl("predict", "--property", "band_gap,tc", "absent.cif", "--json")
    assert ended.code == 4
    assert [row["status"] for row in ended.envelope["data"]] == ["not-found"] * 2


def test_a_table_names_property_and_module_and_a_note_which_gap_is_meant():
    ended = moma_cl("predict", "--property", "band_gap", "NaCl.cif", "--level", "0.5")
    header, line = ended.out.splitlines()
    assert header.split() == [
        *("id", "formula", "property", "value", "lower", "upper", "unit", "applicability"),
        *("status", "module"),
    ]
    assert line.split()[:3] == ["NaCl", "NaCl", "band_gap"]
    assert "intervals at 50% from held-out" in ended.err
    assert "band_gap: band_gap_pbe is meant" in ended.err


def test_a_hub_that_is_named_is_not_opened(tmp_path):
    ask = ("predict", "--property", "band_gap", "NaCl.cif")
    ended = moma_cl("--hub", tmp_path / "none", *ask)
    assert ended.code == 0, ended
    assert "no hub is asked" in ended.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code", "message"),
    [
        (["--property", "density", "x.cif"], "invalid-input.unknown-property", 4, "band_gap_hse"),
        (["--property", "band_gab", "x.cif"], "invalid-input", 4, "did you mean 'band_gap'"),
        (["--property", ",", "x.cif"], "invalid-input", 4, "modules --shipped"),
        (["--property", "band_gap"], "usage", 2, "FILES"),
        (["NaCl.cif"], "usage", 2, "FILES"),
        ([], "usage", 2, "NAME"),
        (["--property", "band_gap", "x.cif", "--level", "1.5"], "invalid-input", 4, "1.5"),
        (["--property", "band_gap", "x.cif", "--at", "abc"], "usage", 2, "--at"),
        (["--property", "band_gap", "x.cif", "--explain"], "usage", 2, "--explain"),
        (["--property", "band_gap", "x.cif", "--resume", "a.csv"], "usage", 2, "--resume"),
    ],
)
def test_bad_questions_are_refused(arguments, code, exit_code, message):
    ended = moma_cl("predict", *arguments, "--json")
    assert ended.code == exit_code
    (problem,) = ended.envelope["errors"]
    assert problem["code"].startswith(code)
    assert message in problem["message"]


def test_modules_says_what_is_answered_without_a_hub(tmp_path):
    listed = moma_cl("modules", "--shipped", "--json").envelope["data"]
    assert moma_cl("modules", "--json").envelope["data"] == listed  # there is no hub here
    energy = next(row for row in listed if row["name"] == "formation_energy")
    assert (energy["unit"], energy["module"]) == ("eV/atom", "mp_formation_energy@sevennet-0")
    assert 0 < energy["mae"] < 0.1 < energy["mae_of_median"]
    table = moma_cl("modules", "--shipped")
    assert table.out.splitlines()[0].split()[:4] == ["property", "column", "unit", "error"]
    named = moma_cl("--hub", tmp_path / "none", "modules")
    assert named.code == 3  # somebody meant a hub
