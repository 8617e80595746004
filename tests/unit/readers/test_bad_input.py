"""Every row of the table "Bad input" in what moma-cl promises, and the test that shows it."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from moma_cl.hub import Hub
from moma_cl.readers.rows import BOXED, ISOLATED, REMARKS, SLAB
from moma_store.errors import InvalidInputError
from tests.helpers.hubs import add_data, add_task, make_hub

DEFINED = Counter(
    name
    for file in Path(__file__).parents[2].rglob("test_*.py")
    for name in re.findall(r"^ *def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
)

# The rows in their order, and the tests that show each.
SHOWN = {
    "NaN, infinite or missing target; constant target": [
        "test_bad_targets_are_refused_with_line_and_id",
        "test_a_constant_target_is_an_error_unless_appended",
    ],
    "duplicate ids, in one file and against what is stored": [
        "test_repeats_are_taken_once_and_contradictions_refused",
        "test_a_stored_row_changes_only_when_asked",
    ],
    "unit unknown, or not convertible to the task's": [
        "test_units_that_cannot_be_converted_are_both_named",
        "test_inconvertible_units_are_both_named",
    ],
    "fewer rows than k + 1; fewer than 150; fewer than 10": [
        "test_a_handful_of_rows_is_answered",
    ],
    "disordered, partial occupancy, deuterium, dummy, unknown or unsupported element": [
        "test_unusable_documents_are_refused_with_their_reason",
        "test_unusable_texts_are_refused_with_their_reason",
        "test_an_element_the_backbone_lacks_is_named",
    ],
    "one-atom cell, no neighbours, slab, molecule without a cell": [
        "test_what_is_no_bulk_crystal_is_answered_and_flagged",
        "test_a_slab_is_judged_by_its_distance_where_known_rows_near_it_are_slabs",
        "test_slabs_chains_and_molecules_have_vacuum_and_bulk_crystals_have_none",
        "test_a_molecule_is_put_into_a_box",
    ],
    "periodicity stated as false": [
        "test_vacuum_is_along_directions_that_are_stated_not_to_be_periodic",
    ],
    "two columns of one name": [
        "test_two_columns_of_one_name_are_refused_wherever_they_are",
    ],
    "zero or near-zero volume, overlapping atoms, NaN coordinates": [
        "test_bad_structures_are_refused_with_their_reason",
        "test_the_largest_cells_are_checked_within_two_seconds",
    ],
    "more atoms than a stated limit": [
        "test_the_limit_on_atoms_comes_before_anything_costly",
    ],
    "a cell whose graph does not fit in memory": [
        "test_a_dense_cell_is_refused_before_its_graph_is_built",
        "test_a_run_goes_on_where_a_graph_cannot_be_built",
    ],
    "malformed, binary, empty or endless file; one that hangs the parser": [
        "test_a_text_that_hangs_the_parser_costs_its_row_only",
        "test_a_folder_of_files_gives_a_row_for_each",
        "test_mutated_files_never_end_the_run",
        "test_a_text_made_to_take_long_does_not",
    ],
    "archive with .., absolute paths, links, devices, case clashes, 1000:1 compression": [
        "test_archives_with_unsafe_names_are_refused_whole",
        "test_archives_with_links_and_devices_are_refused_whole",
        "test_bombs_are_given_up_soon",
    ],
    "a pickle": [
        "test_pickles_are_never_loaded",
    ],
    "weights of another backbone, other keys or shapes": [
        "test_weights_that_are_not_the_backbone_s_are_refused",
    ],
    "an estimate column with NaN": [
        "test_a_module_whose_embeddings_are_not_finite_is_excluded_and_reported",
    ],
}


@pytest.mark.parametrize("promise", SHOWN)
def test_every_promise_names_tests_that_exist(promise):
    assert {DEFINED[name] for name in SHOWN[promise]} == {1}


@pytest.fixture(scope="module")
def gap_hub(tmp_path_factory):
    """A hub with a task of band gaps, which tests only read."""
    return with_gaps(make_hub(tmp_path_factory.mktemp("bad-input") / "hub"), 40)


def with_gaps(hub, rows):
    add_task(hub, "gap", rows, unit="eV", compose=False)
    return hub


def test_what_is_no_bulk_crystal_is_answered_and_flagged(gap_hub, write_rows, made_up):
    far = {"lattice": (20 * np.eye(3)).tolist(), "species": ["Na"], "frac_coords": [[0, 0, 0]]}
    close = {"lattice": (3.5 * np.eye(3)).tolist(), "species": ["Na"], "frac_coords": [[0, 0, 0]]}
    slab = json.loads(json.dumps(made_up(1)[0]["structure"]))
    slab["lattice"] = [[4, 0, 0], [0, 4, 0], [0, 0, 30]]
    slab["frac_coords"] = [[0, 0, 0], [0.5, 0.5, 0.07]]
    molecule = {"species": ["Na", "Cl"], "positions": [[0, 0, 0], [0, 0, 2.4]]}
    rows = [{"structure": structure} for structure in (far, close, slab, molecule)]
    answers = list(Hub(gap_hub).iter_predictions("gap", [write_rows(rows)]))
    assert [answer.status for answer in answers] == ["ok"] * 4
    assert all(np.isfinite([a.value, a.lower, a.upper]).all() for a in answers)
    assert [answer.applicability for answer in answers] == ["outside"] * 4
    remarks = [REMARKS[ISOLATED], "", REMARKS[SLAB], REMARKS[BOXED]]
    assert [answer.message for answer in answers] == remarks


def test_a_slab_is_judged_by_its_distance_where_known_rows_near_it_are_slabs(
    hub, write_rows, made_up
):
    rows = made_up(40)
    for row in rows:
        first, second, third = row["structure"]["lattice"]
        row["structure"] = {**row["structure"], "lattice": [first, second, [9 * x for x in third]]}
    answers = list(Hub(with_gaps(hub, rows)).iter_predictions("gap", [write_rows(rows)]))
    assert {answer.message for answer in answers} == {""}
    assert "inside" in {answer.applicability for answer in answers}


def test_a_handful_of_rows_is_answered(hub, write_rows, made_up):
    rows = made_up(4)
    values = [row["gap"] for row in rows]
    for answer in Hub(with_gaps(hub, rows)).iter_predictions("gap", [write_rows(rows)]):
        assert (answer.status, answer.calibration) == ("ok", "range")
        assert answer.upper - answer.lower >= np.ptp(values)


def test_units_that_cannot_be_converted_are_both_named(hub, made_up):
    with_gaps(hub, 10)
    rows = [{**made_up(1, first=50)[0], "unit": "GPa"}]
    with pytest.raises(InvalidInputError, match=r"inconvertible-unit.*GPa.* to eV"):
        add_data(hub, "gap", rows, compose=False)
    for unit in ("GPa", "parrots"):
        with pytest.raises(InvalidInputError, match=unit):
            add_data(hub, "gap", rows, unit=unit, compose=False)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "array.npy", "rows.pickle"])
def test_pickles_are_never_loaded(gap_hub, tmp_path, name):
    ran = tmp_path / "ran"
    payload = b"cbuiltins\nopen\n(V" + str(ran).encode() + b"\nVw\ntR."
    (tmp_path / name).write_bytes(payload)
    for path in (tmp_path / name, tmp_path):
        for answer in Hub(gap_hub).iter_predictions("gap", [path]):
            assert answer.status == "unknown-format"
    assert not ran.exists()
