"""Chemical formulas, as chemists write them."""

from __future__ import annotations

import re
from collections import Counter
from math import gcd

import numpy as np
from numpy.typing import ArrayLike

from moma_cl.structures.elements import SYMBOLS

# From electropositive to electronegative: through the groups of the periodic table, each from its
# heaviest element to its lightest, hydrogen between nitrogen and the group of oxygen.
_SEQUENCE = (
    "Og Rn Xe Kr Ar Ne He Fr Cs Rb K Na Li Ra Ba Sr Ca Mg Be "
    "Lr No Md Fm Es Cf Bk Cm Am Pu Np U Pa Th Ac Lu Yb Tm Er Ho Dy Tb Gd Eu Sm Pm Nd Pr Ce La Y Sc "
    "Rf Hf Zr Ti Db Ta Nb V Sg W Mo Cr Bh Re Tc Mn Hs Os Ru Fe Mt Ir Rh Co Ds Pt Pd Ni "
    "Rg Au Ag Cu Cn Hg Cd Zn Nh Tl In Ga Al B Fl Pb Sn Ge Si C Mc Bi Sb As P N H "
    "Lv Po Te Se S O Ts At I Br Cl F"
)
_PLACES = {symbol: place for place, symbol in enumerate(_SEQUENCE.split())}
_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def reduced_counts(atomic_numbers: ArrayLike) -> dict[int, int]:
    """Count the atoms of each element, divided by the greatest common divisor of the counts.

    Atomic numbers have shape ``(n_atoms,)``; the counts are by atomic number, in order of
    appearance.
    """
    counts = Counter(np.asarray(atomic_numbers).tolist())
    divisor = gcd(*counts.values())
    return {number: count // divisor for number, count in counts.items()}


def chemical_formula(atomic_numbers: ArrayLike) -> str:
    """Write a composition with the least numbers, such as ``TiO2``; the same for every cell.

    Parameters
    ----------
    atomic_numbers
        Of the atoms of one cell, shape ``(n_atoms,)``.

    Returns
    -------
    str
        Symbols from electropositive to electronegative, each with its number unless that is 1.

    References
    ----------
    *Nomenclature of Inorganic Chemistry*, IUPAC Recommendations 2005, table VI (the sequence of the
    elements).
    """
    counts = {SYMBOLS[number]: count for number, count in reduced_counts(atomic_numbers).items()}
    parts = ((symbol, counts[symbol]) for symbol in sorted(counts, key=_PLACES.__getitem__))
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in parts)


def element_fractions(formula: str) -> dict[str, float]:
    """Give the share of the atoms that each element of a formula has."""
    counts = {symbol: int(number or 1) for symbol, number in _PART.findall(formula)}
    total = sum(counts.values())
    return {symbol: count / total for symbol, count in counts.items()}
