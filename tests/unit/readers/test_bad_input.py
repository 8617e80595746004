"""Every row of the table "Bad input" in what moma-cl promises, and the test that shows it."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from moma_cl.hub import Hub
from moma_cl.readers.rows import BOXED, ISOLATED, REMARKS, SLAB
from moma_store.errors import InvalidInputError

TESTS = Path(__file__).parents[2]

# The rows in their order; "file::test" of everything that shows one.
SHOWN = {
    "NaN, infinite or missing target; constant target": [
        "unit/test_structures_intake.py::test_bad_targets_are_refused_with_line_and_id",
        "unit/test_structures_intake.py::test_a_constant_target_is_an_error_unless_appended",
    ],
    "duplicate ids, in one file and against what is stored": [
        "unit/test_structures_intake.py::test_repeats_are_taken_once_and_contradictions_refused",
        "unit/test_reconcile.py::test_a_stored_row_changes_only_when_asked",
    ],
    "unit unknown, or not convertible to the task's": [
        "unit/test_bad_input.py::test_units_that_cannot_be_converted_are_both_named",
        "unit/test_properties.py::test_inconvertible_units_are_both_named",
    ],
    "fewer rows than k + 1; fewer than 150; fewer than 10": [
        "unit/test_bad_input.py::test_a_handful_of_rows_is_answered",
    ],
    "disordered, partial occupancy, deuterium, dummy, unknown or unsupported element": [
        "unit/test_readers.py::test_unusable_documents_are_refused_with_their_reason",
        "unit/test_readers.py::test_unusable_texts_are_refused_with_their_reason",
        "unit/test_validation.py::test_an_element_the_backbone_lacks_is_named",
    ],
    "one-atom cell, no neighbours, slab, molecule without a cell": [
        "unit/test_bad_input.py::test_what_is_no_bulk_crystal_is_answered_and_flagged",
        "unit/test_bad_input.py::test_a_slab_is_judged_by_its_distance_where_known_rows_near_it_are_slabs",
        "unit/test_vacuum.py::test_slabs_chains_and_molecules_have_vacuum_and_bulk_crystals_have_none",
        "unit/test_input_formats.py::test_a_molecule_is_put_into_a_box",
    ],
    "zero or near-zero volume, overlapping atoms, NaN coordinates": [
        "unit/test_validation.py::test_bad_structures_are_refused_with_their_reason",
        "unit/test_validation.py::test_the_largest_cells_are_checked_within_two_seconds",
    ],
    "more atoms than a stated limit": [
        "unit/test_validation.py::test_the_limit_on_atoms_comes_before_anything_costly",
    ],
    "malformed, binary, empty or endless file; one that hangs the parser": [
        "unit/test_readers.py::test_a_text_that_hangs_the_parser_costs_its_row_only",
        "unit/test_readers.py::test_a_folder_of_files_gives_a_row_for_each",
        "unit/test_input_fuzz.py::test_mutated_files_never_end_the_run",
        "unit/test_hostile_inputs.py::test_a_text_made_to_take_long_does_not",
    ],
    "archive with .., absolute paths, links, devices, case clashes, 1000:1 compression": [
        "unit/test_input_formats.py::test_archives_with_unsafe_names_are_refused_whole",
        "unit/test_input_formats.py::test_archives_with_links_and_devices_are_refused_whole",
        "unit/test_input_formats.py::test_bombs_are_given_up_soon",
    ],
    "a pickle": [
        "unit/test_bad_input.py::test_pickles_are_never_loaded",
    ],
    "weights of another backbone, other keys or shapes": [
        "unit/test_upkeep.py::test_weights_that_are_not_the_backbone_s_are_refused",
    ],
    "an estimate column with NaN": [
        "unit/test_reconcile.py::test_a_module_whose_embeddings_are_not_finite_is_excluded_and_reported",
    ],
}


@pytest.mark.parametrize("promise", SHOWN)
def test_every_promise_names_tests_that_exist(promise):
    for name in SHOWN[promise]:
        file, test = name.split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def hub(tmp_path_factory, made_up):
    folder = tmp_path_factory.mktemp("bad-input")
    Hub(folder / "hub").init(backbone="cgcnn")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in made_up(40)))
    Hub(folder / "hub").add_task("gap", [rows], target="gap", unit="eV", compose=False)
    return folder / "hub"


def test_what_is_no_bulk_crystal_is_answered_and_flagged(hub, tmp_path, made_up):
    far = {"lattice": (20 * np.eye(3)).tolist(), "species": ["Na"], "frac_coords": [[0, 0, 0]]}
    close = {"lattice": (3.5 * np.eye(3)).tolist(), "species": ["Na"], "frac_coords": [[0, 0, 0]]}
    slab = json.loads(json.dumps(made_up(1)[0]["structure"]))
    slab["lattice"] = [[4, 0, 0], [0, 4, 0], [0, 0, 30]]
    slab["frac_coords"] = [[0, 0, 0], [0.5, 0.5, 0.07]]
    molecule = {"species": ["Na", "Cl"], "positions": [[0, 0, 0], [0, 0, 2.4]]}
    path = tmp_path / "rows.jsonl"
    structures = [far, close, slab, molecule]
    path.write_text("".join(json.dumps({"structure": s}) + "\n" for s in structures))
    answers = list(Hub(hub).iter_predictions("gap", [path]))
    assert [answer.status for answer in answers] == ["ok"] * 4
    assert all(np.isfinite([a.value, a.lower, a.upper]).all() for a in answers)
    assert [answer.applicability for answer in answers] == ["outside"] * 4
    remarks = [REMARKS[ISOLATED], "", REMARKS[SLAB], REMARKS[BOXED]]
    assert [answer.message for answer in answers] == remarks


def test_a_slab_is_judged_by_its_distance_where_known_rows_near_it_are_slabs(tmp_path, made_up):
    rows = made_up(40)
    for row in rows:
        first, second, third = row["structure"]["lattice"]
        row["structure"] = {**row["structure"], "lattice": [first, second, [9 * x for x in third]]}
    Hub(tmp_path / "hub").init(backbone="cgcnn")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Hub(tmp_path / "hub").add_task("gap", [path], target="gap", unit="eV", compose=False)
    answers = list(Hub(tmp_path / "hub").iter_predictions("gap", [path]))
    assert {answer.message for answer in answers} == {""}
    assert "inside" in {answer.applicability for answer in answers}


def test_a_handful_of_rows_is_answered(tmp_path, made_up):
    Hub(tmp_path / "hub").init(backbone="cgcnn")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in made_up(4)))
    Hub(tmp_path / "hub").add_task("gap", [rows], target="gap", unit="eV", compose=False)
    values = [row["gap"] for row in made_up(4)]
    for answer in Hub(tmp_path / "hub").iter_predictions("gap", [rows]):
        assert (answer.status, answer.calibration) == ("ok", "range")
        assert answer.upper - answer.lower >= np.ptp(values)


def test_units_that_cannot_be_converted_are_both_named(hub, tmp_path, made_up):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({**made_up(1, first=50)[0], "unit": "GPa"}) + "\n")
    with pytest.raises(InvalidInputError, match=r"inconvertible-unit.*GPa.* to eV"):
        Hub(hub).add_data("gap", [rows], compose=False)
    for unit in ("GPa", "parrots"):
        with pytest.raises(InvalidInputError, match=unit):
            Hub(hub).add_data("gap", [rows], unit=unit, compose=False)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "array.npy", "rows.pickle"])
def test_pickles_are_never_loaded(hub, tmp_path, name):
    ran = tmp_path / "ran"
    payload = b"cbuiltins\nopen\n(V" + str(ran).encode() + b"\nVw\ntR."
    (tmp_path / name).write_bytes(payload)
    for path in (tmp_path / name, tmp_path):
        for answer in Hub(hub).iter_predictions("gap", [path]):
            assert answer.status == "unknown-format"
    assert not ran.exists()
