"""Chemical elements, and the species strings that stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import InvalidInputError

_PERIODS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar "
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe "
    "Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn "
    "Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)

SYMBOLS = ("", *_PERIODS.split())
"""Element symbols by atomic number; the place 0 is empty."""

NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if symbol}
"""Atomic numbers by element symbol."""

# "Fe", "Fe3+", "O2-", "Na0+", "Fe2.5+", and a spin or other note after a comma, as pymatgen writes.
_SPECIES = re.compile(r"(?P<symbol>[A-Z][a-z]*)(?:\d*(?:\.\d+)?[+-])?(?:,.*)?")


@lru_cache(maxsize=4096)
def atomic_number(species: str) -> int:
    """Find the element of a species string: a symbol with or without an oxidation state.

    An isotope, a dummy and what is no element are refused; the code of the error says which.
    """
    match = _SPECIES.fullmatch(species.strip()[:64])
    symbol = match["symbol"] if match else ""
    if symbol in NUMBERS:
        return NUMBERS[symbol]
    if symbol in {"D", "T"}:
        name = "deuterium" if symbol == "D" else "tritium"
        raise InvalidInputError(
            f"species {species!r} is {name}: no backbone tells isotopes apart; write H if the "
            "property does not depend on the isotope",
            code="invalid-input.isotope",
        )
    if symbol.startswith("X"):
        raise InvalidInputError(
            f"species {species!r} is a dummy, not an element: replace it or remove the site",
            code="invalid-input.dummy-species",
        )
    hint = did_you_mean(species.strip()[:64].capitalize(), NUMBERS)
    raise InvalidInputError(
        f"{species[:64]!r} is not an element{hint}", code="invalid-input.unknown-element"
    )


def named(atomic_numbers: Iterable[int]) -> str:
    """List elements for a message: symbols by atomic number, such as ``"O, Fe"``."""
    return ", ".join(
        SYMBOLS[number] if 0 < number < len(SYMBOLS) else f"element {number}"
        for number in sorted(set(atomic_numbers))
    )
