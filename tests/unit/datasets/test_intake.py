"""From files to arrays: what is kept, what is refused, what is an error."""

import time

import numpy as np
import pytest

from moma_cl.datasets.intake import read_task_rows
from moma_cl.properties.transforms import Transform
from moma_cl.records.task_spec import TaskSpec
from moma_store.errors import InvalidInputError, NotFoundError
from tests.helpers.rows import write_rows


def structure(species=("Cs", "Cl"), length=4.2):
    return {
        "lattice": [[length, 0, 0], [0, length, 0], [0, 0, length]],
        "species": list(species),
        "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    }


def row(row_id, target, **columns):
    return {"id": row_id, "structure": structure(), "tc": target, **columns}


@pytest.fixture
def write(tmp_path):
    return lambda *rows: [write_rows(tmp_path / "data.jsonl", rows)]


def refusals(intake):
    return [(refusal.id, refusal.code) for refusal in intake.refusals]


def test_good_rows_are_packed_in_order(write):
    other = {**row("b", 2), "structure": structure(("Na", "Cl"), 3.5)}
    intake = read_task_rows(write(row("a", 1.5), other), TaskSpec(target="tc", unit="1"))
    assert intake.ids == ["a", "b"]
    assert intake.targets.tolist() == [1.5, 2.0]
    assert intake.formulas == ["Cl1Cs1", "Na1Cl1"]
    assert intake.crystals[1].atomic_numbers.tolist() == [11, 17]
    assert intake.crystals[1].lattice[0, 0] == 3.5
    assert intake.fingerprints.dtype == np.uint64
    assert len(set(intake.fingerprints.tolist())) == 2
    assert intake.fold_labels is None
    assert intake.refusals == ()


def test_bad_targets_are_refused_with_line_and_id(write):
    sources = write(
        row("a", 1),
        row("b", None),
        row("c", "high"),
        row("d", float("nan")),
        row("e", 2),
        row("f", -1),
    )
    intake = read_task_rows(sources, TaskSpec(target="tc", unit="1", transform=Transform.LOG10))
    assert intake.ids == ["a", "e"]
    assert refusals(intake) == [
        ("b", "missing-target"),
        ("c", "non-numeric-target"),
        ("d", "not-finite-target"),
        ("f", "outside-transform"),
    ]
    assert intake.refusals[0].source == f"{sources[0]}:2"


def test_bad_structures_are_refused_beside_good_ones(write):
    sources = write(
        row("a", 1),
        {**row("b", 1), "structure": structure(("Cs", "Po"))},
        {**row("c", 1), "structure": structure(length=0.4)},
        {"id": "d", "tc": 1},
        row("e", 2),
    )
    intake = read_task_rows(sources, TaskSpec(target="tc", unit="1"), elements=frozenset({17, 55}))
    assert intake.ids == ["a", "e"]
    assert refusals(intake) == [
        ("b", "unsupported-element"),
        ("c", "zero-volume"),
        ("d", "missing-structure"),
    ]
    assert intake.quarantine.summary()[0] == "3 rows refused"


def test_repeats_are_taken_once_and_contradictions_refused(write):
    nearly = row("a", 1.5)
    nearly["structure"]["frac_coords"][1][0] += 1e-10
    moved = row("c", 3.0)
    moved["structure"]["frac_coords"][1][0] += 1e-3
    sources = write(
        row("a", 1.5),
        row("b", 1.0),
        nearly,
        row("b", 2.0),
        row("c", 3.0),
        moved,
        row("d", 4),
        row("a", 1.5),
    )
    intake = read_task_rows(sources, TaskSpec(target="tc", unit="1"))
    assert intake.ids == ["a", "d"]
    assert intake.repeats == 2
    assert refusals(intake) == [(i, "duplicate-id") for i in ("b", "b", "c", "c")]
    assert f"{sources[0]}:2, {sources[0]}:4" in intake.refusals[0].message


def test_rows_of_another_fold_column_are_left_out_not_refused(write):
    sources = write(
        row("a", 1, fold="train"),
        row("b", 2, fold=None),
        row("c", 3),
        row("d", 4, fold="held-out"),
        row("e", 5, fold="test"),
        row("f", 5, fold=["train"]),
    )
    intake = read_task_rows(sources, TaskSpec(target="tc", unit="1", fold_column="fold"))
    assert intake.ids == ["a", "d"]
    assert intake.fold_labels == ["train", "held-out"]
    assert intake.left_out == 2
    assert refusals(intake) == [("e", "unknown-fold"), ("f", "unknown-fold")]
    with pytest.raises(InvalidInputError, match="2 without a value in the fold column"):
        read_task_rows(
            write(row("a", 1, fold=None), row("b", 1, fold="")),
            TaskSpec(target="tc", unit="1", fold_column="fold"),
        )


def test_a_missing_column_is_an_error_with_a_near_miss(write):
    sources = write(row("a", 1, band_gap=1.0))
    with pytest.raises(
        InvalidInputError, match=r"tc, band_gap; did you mean 'band_gap'\?"
    ) as caught:
        read_task_rows(sources, TaskSpec(target="bandgap", unit="1"))
    assert caught.value.code == "invalid-input.missing-column"
    with pytest.raises(InvalidInputError, match="has a column 'fold'"):
        read_task_rows(sources, TaskSpec(target="tc", unit="1", fold_column="fold"))


def test_a_constant_target_is_an_error_unless_appended(write):
    sources = write(row("a", 1), row("b", 1))
    with pytest.raises(InvalidInputError) as caught:
        read_task_rows(sources, TaskSpec(target="tc", unit="1"))
    assert caught.value.code == "invalid-input.constant-target"
    assert read_task_rows(sources, TaskSpec(target="tc", unit="1"), appended=True).ids == ["a", "b"]


def test_no_good_row_is_an_error_that_says_why(write, tmp_path):
    with pytest.raises(InvalidInputError, match=r"missing-target, e\.g\. b at .*:2") as caught:
        read_task_rows(
            write({"id": "a", "structure": None, "tc": 1}, row("b", None)),
            TaskSpec(target="tc", unit="1"),
        )
    assert caught.value.code == "invalid-input.no-rows"
    with pytest.raises(InvalidInputError, match="it is empty"):
        read_task_rows(write(), TaskSpec(target="tc", unit="1"))
    with pytest.raises(NotFoundError):
        read_task_rows([tmp_path / "none.jsonl"], TaskSpec(target="tc", unit="1"))


def test_progress_ends_with_the_number_of_rows(write):
    seen = []
    read_task_rows(
        write(*(row(str(i), i) for i in range(250))),
        TaskSpec(target="tc", unit="1"),
        progress=seen.append,
    )
    assert seen == [100, 200, 250]


def test_ten_thousand_rows_of_which_a_third_are_bad_take_seconds(write):
    rows = []
    for i in range(10_000):
        good = {**row(f"r{i}", float(i)), "structure": structure(length=4 + i / 5000)}
        bad = [
            {**good, "tc": None},
            {**good, "structure": structure(("D", "Cl"))},
            {**good, "structure": structure(length=0.1)},
        ]
        rows.append(bad[i % 3] if i % 10 < 3 else good)
    start = time.perf_counter()
    intake = read_task_rows(write(*rows), TaskSpec(target="tc", unit="1"))
    assert time.perf_counter() - start < 15  # about 2 s on a quiet machine
    assert len(intake.ids) == 7000
    assert len(intake.refusals) == 3000
