"""Chemical formulas."""

import pytest

from moma_cl.structures.elements import NUMBERS, SYMBOLS
from moma_cl.structures.formulas import chemical_formula, element_fractions


@pytest.mark.parametrize(
    ("atoms", "formula"),
    [
        (["O"] * 4 + ["Ti"] * 2, "TiO2"),
        (["Cl", "Na"], "NaCl"),
        (["O", "O", "O", "C", "Ca"], "CaCO3"),
        (["H"] * 2 + ["O"], "H2O"),
        (["H"] * 4 + ["C"], "CH4"),
        (["As", "Ga"], "GaAs"),
        (["Si"] * 8, "Si"),
        (["S"] * 4 + ["Sn", "Zn"] + ["Cu"] * 2, "Cu2ZnSnS4"),
        (["O"] * 3 + ["Fe", "La"], "LaFeO3"),
    ],
)
def test_formulas_are_those_that_chemists_write(atoms, formula):
    assert chemical_formula([NUMBERS[symbol] for symbol in atoms]) == formula


def test_every_element_has_a_place():
    numbers = range(1, len(SYMBOLS))
    assert sorted(element_fractions(chemical_formula(numbers))) == sorted(SYMBOLS[1:])


def test_fractions_are_shares_of_atoms():
    assert element_fractions("Cu2ZnSnS4") == {"Cu": 0.25, "Zn": 0.125, "Sn": 0.125, "S": 0.5}
    assert element_fractions("") == {}
