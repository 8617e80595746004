"""A small part of the campaign of CIF files in `benchmarks.cif_campaign`."""

from __future__ import annotations

import random

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from benchmarks.cif_campaign import faulty, outcome, settings
from benchmarks.crystal_files import crystal_of

CORUNDUM = ("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]])
RUTILE = (
    "P4_2/mnm",
    Lattice.tetragonal(4.594, 2.959),
    ["Ti", "O"],
    [[0, 0, 0], [0.305, 0.305, 0]],
)


@pytest.fixture(scope="module", params=[CORUNDUM, RUTILE], ids=["corundum", "rutile"])
def structure(request):
    return Structure.from_spacegroup(*request.param)


def test_no_setting_is_read_as_another_by_its_symbols():
    counts = settings(every=29)
    assert counts["different"] == 0
    assert counts["same"] > counts["refused"] > 0


@pytest.mark.filterwarnings("ignore")
def test_a_fault_is_refused_or_changes_nothing(structure):
    text = str(CifWriter(structure, symprec=0.01))
    right = crystal_of(structure)
    assert outcome(text, right) == "same"
    rng = random.Random(1)
    found = [
        (kind, outcome(spoiled, right)) for kind, spoiled in (faulty(text, rng) for _ in range(80))
    ]
    assert not [kind for kind, said in found if said == "different"]
    for kind in ("site", "element", "number"):
        assert (kind, "refused") in found
    assert ("label", "same") in found
