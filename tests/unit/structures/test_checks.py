"""What is refused, why, and how fast."""

import time

import numpy as np
import pytest

from moma_cl.properties.transforms import Transform
from moma_cl.structures.checks import (
    Quarantine,
    Refusal,
    check_crystal,
    check_crystals,
    check_not_constant,
    checked_target,
)
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.lattices import heights, reduced_basis
from moma_cl.testing.crystals import crystal_of
from moma_store.errors import InvalidInputError

CUBE = np.eye(3) * 4.2


def crystal(lattice=CUBE, numbers=(11, 17), coords=((0, 0, 0), (0.5, 0.5, 0.5))):
    return crystal_of(lattice, numbers, coords)


def code(*args, elements=None, max_atoms=1000, **kwargs):
    problem = check_crystal(crystal(*args, **kwargs), elements=elements, max_atoms=max_atoms)
    return problem and problem.code


def test_good_structures_pass():
    assert code() is None
    assert code(np.eye(3) * 20, [6], [[0, 0, 0]]) is None  # an atom alone
    assert code(np.diag([3, 3, 60]), [29, 29], [[0, 0, 0.4], [0.5, 0.5, 0.45]]) is None  # a slab


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("not-finite", {"coords": [[0, 0, 0], [0.5, np.nan, 0.5]]}),
        ("not-finite", {"lattice": np.diag([4, 4, np.inf])}),
        ("zero-volume", {"lattice": np.diag([4, 4, 0])}),
        ("zero-volume", {"lattice": np.diag([4, 4, 1e-3])}),
        ("zero-volume", {"lattice": [[4, 0, 0], [8, 0, 0], [0, 0, 4]]}),
        ("cell-too-large", {"lattice": np.diag([4, 4, 1e200])}),
        ("cell-too-large", {"lattice": np.diag([900, 900, 900])}),
        ("coordinates-out-of-range", {"coords": [[0, 0, 0], [1e300, 0, 0]]}),
        ("overlapping-atoms", {"coords": [[0, 0, 0], [0.1, 0, 0]]}),
        ("overlapping-atoms", {"coords": [[0, 0, 0.01], [0, 0, 0.99]]}),  # across the boundary
        ("overlapping-atoms", {"coords": [[0, 0, 0], [3.02, -7.0, 12.0]]}),  # far images
        ("no-atoms", {"numbers": [], "coords": []}),
        ("unsupported-element", {"numbers": [11, 119]}),
    ],
)
def test_bad_structures_are_refused_with_their_reason(expected, changes):
    assert code(**changes) == expected


def test_many_structures_are_told_what_each_would_be_told():
    generator = np.random.default_rng(0)
    found = [
        crystal(CUBE * scale, generator.integers(1, 90, n_atoms), generator.random((n_atoms, 3)))
        for scale in (0.3, 1.0, 1.5, 300.0)
        for n_atoms in (0, 1, 2, 3, 8, 41)
        for _ in range(10)
    ]
    found += [
        crystal(coords=[[0, 0, 0], [0.5 / 4.2 + off, 0, 0]]) for off in (-1e-9, 0.0, 1e-9, 1e-3)
    ]
    found += [crystal(np.diag([1.0 + off, 4, 4])) for off in (-1e-9, 0.0, 1e-9, 0.1)]
    found += [crystal(coords=[[0, 0, 0], [np.nan, 0, 0]]), crystal(np.diag([4, 4, np.inf]))]
    found += [crystal(np.diag([4, 4, 0])), crystal(CUBE[[0, 0, 2]]), crystal(coords=CUBE[:2] * 1e9)]
    elements = frozenset(range(1, 80))
    expected = [check_crystal(one, elements=elements) for one in found]
    assert check_crystals(found, elements=elements) == expected
    assert 0.2 < np.mean([problem is None for problem in expected]) < 0.8


def test_an_atom_too_close_to_its_own_image_is_refused():
    assert code(np.diag([0.3, 4, 4]), [6], [[0, 0, 0]]) == "overlapping-atoms"
    assert code(np.diag([0.3, 0.3, 0.3]), [6], [[0, 0, 0]]) == "zero-volume"
    # The short vector is hidden: b - 100 a has length 0.3.
    hidden = [[4, 0, 0], [400.0, 0.3, 0], [0, 0, 6]]
    assert code(hidden, [6], [[0, 0, 0]]) == "overlapping-atoms"


def test_a_skewed_cell_of_a_good_crystal_passes():
    skewed = np.array([[1, 0, 0], [60, 1, 0], [-35, 48, 1]]) @ CUBE
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) @ CUBE @ np.linalg.inv(skewed)
    assert code(skewed, coords=coords) is None
    assert code(skewed, coords=coords * 0.01) == "overlapping-atoms"


def test_an_element_the_backbone_lacks_is_named():
    problem = check_crystal(crystal(), elements=frozenset({17}))
    assert problem is not None
    assert problem.code == "unsupported-element"
    assert "Na" in problem.message


def test_the_limit_on_atoms_comes_before_anything_costly():
    n_atoms = 200_000
    many = Crystal(
        lattice=CUBE,
        atomic_numbers=np.full(n_atoms, 6),
        frac_coords=np.zeros((n_atoms, 3)),
    )
    problem = check_crystal(many)
    assert problem is not None
    assert problem.code == "too-many-atoms"
    assert "200,000" in problem.message


@pytest.mark.parametrize("skew", [0, 1, 40])
def test_the_largest_cells_are_checked_within_two_seconds(skew):
    grid = np.stack(np.meshgrid(*[np.arange(10) / 10] * 3), axis=-1).reshape(-1, 3)
    lattice = np.eye(3) * 22
    cell = np.array([[1, 0, 0], [skew, 1, 0], [0, -skew, 1]]) @ lattice
    coords = grid @ lattice @ np.linalg.inv(cell)
    start = time.process_time()
    assert code(cell, np.full(1000, 14), coords) is None
    assert code(cell, np.full(1000, 14), coords * [1, 1, 0]) == "overlapping-atoms"
    assert time.process_time() - start < 2


def test_closest_pairs_agree_with_a_search_over_images():
    rng = np.random.default_rng(3)
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), axis=-1).reshape(-1, 3)
    verdicts = set()
    for _ in range(300):
        lattice = rng.normal(0, 1.5, (3, 3))
        coords = rng.uniform(-1, 2, (2, 3))
        if abs(np.linalg.det(lattice)) < 1.2 or heights(lattice).min() < 0.4:
            continue
        pair = np.linalg.norm((images + coords[0] - coords[1]) @ lattice, axis=1).min()
        itself = np.linalg.norm(images[np.any(images != 0, axis=1)] @ lattice, axis=1).min()
        expected = "overlapping-atoms" if min(pair, itself) < 0.5 else None
        # The coordinates span two cells each way; five images find every short distance here.
        assert code(lattice, [6, 6], coords) == expected
        verdicts.add(expected)
    assert verdicts == {None, "overlapping-atoms"}


def test_reduction_keeps_the_lattice_and_finds_its_shortest_vector():
    rng = np.random.default_rng(0)
    images = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    images = images[np.any(images != 0, axis=1)]
    for _ in range(50):
        short = rng.normal(0, 3, (3, 3))
        change = np.triu(rng.integers(-9, 10, (3, 3)), 1) + np.eye(3)
        reduced = reduced_basis(change @ change.T @ short)
        back = reduced @ np.linalg.inv(short)
        assert np.allclose(back, np.rint(back), atol=1e-6)
        assert abs(np.linalg.det(back)) == pytest.approx(1, abs=1e-6)
        shortest = np.linalg.norm(images @ reduced, axis=1).min()
        assert np.linalg.norm(reduced[0]) == pytest.approx(shortest)


@pytest.mark.parametrize(
    ("value", "transform", "expected"),
    [
        (None, Transform.NONE, "missing-target"),
        ("", Transform.NONE, "missing-target"),
        ("n/a", Transform.NONE, "non-numeric-target"),
        (True, Transform.NONE, "non-numeric-target"),
        ([1.0], Transform.NONE, "non-numeric-target"),
        (float("nan"), Transform.NONE, "not-finite-target"),
        (float("-inf"), Transform.NONE, "not-finite-target"),
        (10**400, Transform.NONE, "not-finite-target"),
        (0.0, Transform.LOG10, "outside-transform"),
        (-2, Transform.LOG, "outside-transform"),
    ],
)
def test_bad_targets_are_refused_with_their_reason(value, transform, expected):
    with pytest.raises(InvalidInputError) as caught:
        checked_target(value, transform)
    assert caught.value.code == f"invalid-input.{expected}"


def test_good_targets_become_floats():
    assert checked_target(3, Transform.NONE) == 3.0
    assert checked_target(-0.5, Transform.NONE) == -0.5
    assert checked_target(1e-9, Transform.LOG10) == 1e-9


def test_a_constant_target_is_an_error_unless_there_is_one_row():
    check_not_constant(np.array([1.0]), "tc")
    check_not_constant(np.array([1.0, 2.0]), "tc")
    with pytest.raises(InvalidInputError, match="'tc' is 1 in all 3 rows") as caught:
        check_not_constant(np.ones(3), "tc")
    assert caught.value.code == "invalid-input.constant-target"


def test_the_quarantine_counts_reasons_and_names_an_example():
    refusals = [
        Refusal(id=f"row-{i}", source=f"a.jsonl:{i}", code="missing-target", message="no value")
        for i in range(1500)
    ]
    refusals.append(Refusal(id="x", source="b.cif", code="disordered", message="order it"))
    report = Quarantine(refusals=tuple(refusals))
    assert report.counts == {"missing-target": 1500, "disordered": 1}
    assert report.summary() == [
        "1,501 rows refused",
        "1,500 missing-target, e.g. row-0 at a.jsonl:0: no value",
        "1 disordered, e.g. x at b.cif: order it",
    ]
    assert report.to_json()["refused"] == 1501
    assert len(report.to_json()["rows"]) == 1501
    assert Quarantine(refusals=()).summary() == []
