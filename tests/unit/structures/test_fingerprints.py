"""A structure is recognised in every disguise, and not taken for another."""

import time
from pathlib import Path

import numpy as np
import pytest

from moma_cl.readers.dispatch import read_rows
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.fingerprints import fingerprint, known_in, reduced_formula, steps_apart
from moma_cl.testing.crystals import supercell

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "paper"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")


GRID = np.stack(np.meshgrid(*[[0, 0.5]] * 3), axis=-1).reshape(-1, 3)


def random_crystal(rng):
    """Six atoms near the sites of a distorted simple cubic lattice."""
    return Crystal(
        lattice=np.diag(rng.uniform(4.5, 6.5, 3)) + rng.normal(0, 0.3, (3, 3)),
        atomic_numbers=rng.choice([8, 14, 22, 56], 6),
        frac_coords=rng.permutation(GRID)[:6] + rng.uniform(-0.06, 0.06, (6, 3)),
    )


def disguises(crystal, rng):
    """The same structure, written in other ways."""
    order = rng.permutation(crystal.n_atoms)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    change = np.array([[1, 0, 0], [3, 1, 0], [-2, 4, 1]])
    lattice, numbers, coords = crystal.lattice, crystal.atomic_numbers, crystal.frac_coords
    for new_lattice, new_numbers, new_coords in (
        (lattice, numbers[order], coords[order]),
        (lattice, numbers, coords + rng.random(3)),
        (lattice, numbers, coords + rng.integers(-3, 4, coords.shape)),
        (lattice @ rotation, numbers, coords),
        (change @ lattice, numbers, coords @ np.linalg.inv(change)),
    ):
        yield Crystal(lattice=new_lattice, atomic_numbers=new_numbers, frac_coords=new_coords)
    yield supercell(crystal, (2, 1, 3))


def as_array(*fingerprints):
    return np.array(fingerprints, dtype=np.uint64)


def test_disguises_do_not_change_the_fingerprint():
    rng = np.random.default_rng(0)
    for _ in range(20):
        crystal = random_crystal(rng)
        original = fingerprint(crystal)
        assert 0 <= original < 2**64
        assert [fingerprint(other) for other in disguises(crystal, rng)] == [original] * 6


def test_small_noise_is_tolerated_by_known_in():
    rng = np.random.default_rng(1)
    crystals = [random_crystal(rng) for _ in range(100)]
    noisy = [
        Crystal(
            lattice=c.lattice,
            atomic_numbers=c.atomic_numbers,
            frac_coords=c.frac_coords + rng.normal(0, 1e-4 / 5, c.frac_coords.shape),
        )
        for c in crystals
    ]
    originals = as_array(*map(fingerprint, crystals))
    found = as_array(*map(fingerprint, noisy))
    assert (originals == found).mean() > 0.9
    assert known_in(found, originals).all()


def test_known_in_allows_one_step_in_each_feature_but_not_two_nor_another_formula():
    base = 0xABCDEF01_00FF7F80
    reference = as_array(base)
    near = as_array(base, base ^ 0x00FF7F80 ^ 0xFF008081, base + 1, base - 1)
    far = as_array(base + 2, base ^ (1 << 32), base + 0x0200)
    assert known_in(near, reference).tolist() == [True] * 4
    assert known_in(far, reference).tolist() == [False] * 3
    assert known_in(as_array(), reference).tolist() == []
    assert known_in(reference, as_array()).tolist() == [False]


def test_other_compositions_and_volumes_differ():
    rng = np.random.default_rng(2)
    for _ in range(20):
        crystal = random_crystal(rng)
        lattice, numbers, coords = crystal.lattice, crystal.atomic_numbers, crystal.frac_coords
        others = [
            Crystal(lattice=1.03 * lattice, atomic_numbers=numbers, frac_coords=coords),
            Crystal(lattice=lattice, atomic_numbers=numbers + 1, frac_coords=coords),
        ]
        prints = as_array(*map(fingerprint, others))
        assert not known_in(prints, as_array(fingerprint(crystal))).any()


def test_orderings_of_two_elements_on_one_lattice_differ():
    layers, chess = GRID[:, 2] > 0, (2 * GRID).sum(axis=1) % 2 > 0
    layered, mixed = (
        fingerprint(
            Crystal(
                lattice=np.eye(3) * 5.6,
                atomic_numbers=np.where(chosen, 11, 17),
                frac_coords=GRID,
            )
        )
        for chosen in (layers, chess)
    )
    assert not known_in(as_array(layered), as_array(mixed)).any()


def test_an_atom_without_neighbours_has_a_fingerprint():
    alone = Crystal(
        lattice=np.eye(3) * 20, atomic_numbers=np.array([18]), frac_coords=np.zeros((1, 3))
    )
    assert fingerprint(alone) == fingerprint(supercell(alone, (2, 1, 1)))


def test_a_fingerprint_is_pinned_for_ever():
    # Stored fingerprints are compared with new ones.
    rock_salt = Crystal(
        lattice=np.array([[0, 2.81, 2.81], [2.81, 0, 2.81], [2.81, 2.81, 0]]),
        atomic_numbers=np.array([11, 17]),
        frac_coords=np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    )
    assert f"{fingerprint(rock_salt):016x}" == "767e011a35e05fa6"


def test_formulas_are_reduced_and_ordered_by_atomic_number():
    assert reduced_formula([22, 8, 8, 22, 8, 8]) == "O2Ti1"
    assert reduced_formula([17, 11]) == "Na1Cl1"
    assert reduced_formula(np.full(8, 6)) == "C1"


def read(name):
    return list(read_rows([DATA / name]))


@needs_data
def test_materials_shared_by_two_files_are_recognised():
    ours, theirs = (
        {row.values["source_id"]: fingerprint(row.crystal) for row in read(f"{name}.jsonl.gz")}
        for name in ("mp_eps_electronic", "mp_poly_electronic")
    )
    shared = sorted(set(ours) & set(theirs))
    a, b = as_array(*(ours[k] for k in shared)), as_array(*(theirs[k] for k in shared))
    tolerant = [known_in(a[i : i + 1], b[i : i + 1])[0] for i in range(len(shared))]
    assert len(shared) == 523
    assert (a == b).mean() > 0.95
    assert np.mean(tolerant) > 0.975


@needs_data
def test_on_real_data_formulas_never_collide_and_polymorphs_rarely():
    crystals = [row.crystal for row in read("mp_eps_electronic.jsonl.gz")]
    start = time.perf_counter()
    prints = [fingerprint(crystal) for crystal in crystals]
    assert len(crystals) / (time.perf_counter() - start) > 1000
    formulas = [reduced_formula(crystal.atomic_numbers) for crystal in crystals]
    assert len(set(zip(prints, formulas, strict=True))) == len(set(prints))
    same_formula = len(crystals) - len(set(formulas))
    assert len(crystals) - len(set(prints)) < 0.3 * same_formula


def test_steps_are_counted_both_ways_round_the_bins():
    formula = 7 << 32
    one = formula | 0x00_05_FF_80
    others = np.array([one, formula | 0xFF_06_00_80, formula | 0x00_05_FF_90], dtype=np.uint64)
    assert steps_apart(one, others).sum(axis=1).tolist() == [0, 3, 16]
    assert steps_apart(one, others).max(axis=1).tolist() == [0, 1, 16]
