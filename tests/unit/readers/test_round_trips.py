"""A small part of `benchmarks.round_trips`: what other programs write is read as it was."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks import round_trips
from benchmarks.crystal_files import DATABASES, FILES, Sample, crystal_of
from benchmarks.round_trips import Known, decorated, differences, made, trip
from moma_cl.readers.dispatch import Limits, Reader, Reading
from moma_cl.readers.text_parser import StructureParser
from moma_cl.structures.crystals import Crystal
from moma_cl.testing.crystals import example_crystals, supercell


@pytest.mark.filterwarnings("ignore")
def test_what_other_programs_write_is_read_back():
    rng = np.random.default_rng(3)
    samples = [Sample(number, decorated(made(rng), number)) for number in (0, 10, 21, 30, 39)]
    wrong: list[str] = []
    with StructureParser(Limits()) as parser:
        counts = trip(Reader(parser, Reading()), samples, Counter(), wrong)
    assert wrong == []
    # a symbol may fit several settings; VASP 4 names no elements; gemmi need not be installed
    may_differ = {"POSCAR of VASP 4, ASE", *(name for name in FILES if "gemmi" in name)}
    right = {f"{name}: same": 5 for name in (FILES | DATABASES).keys() - may_differ}
    assert {name: counts[name] for name in right} == right
    assert counts["POSCAR of VASP 4, ASE: refused, missing-elements"] == 5
    assert counts["CIF, gemmi: same"] + counts["CIF, gemmi: not written"] == 5


def test_the_cell_and_the_order_of_atoms_make_no_difference():
    crystal = example_crystals()["low symmetry"]
    backwards = Crystal(
        lattice=crystal.lattice,
        atomic_numbers=crystal.atomic_numbers[::-1],
        frac_coords=crystal.frac_coords[::-1] + 2.0,
    )
    for same in (backwards, supercell(crystal, (1, 2, 1))):
        assert differences(same, Known(crystal)) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: {"atomic_numbers": c.atomic_numbers[[0, 1, 2, 2]]}, ["composition"]),
        (lambda c: {"atomic_numbers": c.atomic_numbers[[1, 0, 2, 3]]}, ["fingerprint"]),
        (lambda c: {"lattice": c.lattice * 1.002}, ["volume"]),
        (lambda c: {"frac_coords": c.frac_coords + 0.004 * np.eye(4, 3)}, []),
    ],
    ids=["element", "swap", "volume", "shift"],
)
def test_another_crystal_is_seen(change, found):
    right = example_crystals()["low symmetry"]
    parts = {name: getattr(right, name) for name in ("lattice", "atomic_numbers", "frac_coords")}
    seen = differences(Crystal(**(parts | change(right))), Known(right))
    assert seen[: len(found)] == found
    assert seen == ["composition"] or seen[-1] == "distances"


@pytest.mark.filterwarnings("ignore")
def test_a_crystal_that_is_read_as_another_is_counted(monkeypatch):
    def doubled(sample):
        return (sample.structure * (1, 1, 2)).to(fmt="poscar").replace("1.0\n", "1.01\n", 1)

    monkeypatch.setattr(round_trips, "FILES", {"wrong": (".vasp", doubled)})
    monkeypatch.setattr(round_trips, "DATABASES", {})
    sample = Sample(0, made(np.random.default_rng(5)))
    wrong: list[str] = []
    with StructureParser(Limits()) as parser:
        counts = trip(Reader(parser, Reading()), [sample], Counter(), wrong)
    assert counts == {"wrong: different": 1}
    assert wrong == ["wrong 0: volume, fingerprint, distances"]


def test_a_run_goes_on_where_it_stopped(monkeypatch):
    monkeypatch.setattr(round_trips, "BATCH", 1)
    monkeypatch.setattr(round_trips, "DATABASES", {})
    monkeypatch.setattr(round_trips, "FILES", {"JSON": FILES["JSON, pymatgen"]})
    monkeypatch.setattr(round_trips, "structures", lambda count: map(_numbered, range(count)))
    steps: list[int] = []
    state = round_trips.go_on(2, round_trips.fresh(), lambda s: steps.append(s["structures"]))
    state = round_trips.go_on(3, state, lambda s: steps.append(s["structures"]))
    assert steps == [1, 2, 3]
    assert state["counts"] == {"JSON: same": 3}
    assert state["wrong"] == []


def _numbered(number: int):
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice.cubic(4.0 + number), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_arrays_of_decorated_structures_are_those_of_the_structures():
    structure = _numbered(1)
    for number in (10, 30):  # oxidation states; atoms in other cells
        crystal = crystal_of(decorated(structure.copy(), number))
        assert crystal.atomic_numbers.tolist() == [55, 17]
        assert differences(crystal, Known(crystal_of(structure))) == []
