"""The sites that a CIF lists: which element each is, where, and that it is filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from moma_cl.readers.cif.syntax import UNSET, Block, malformed, number
from moma_cl.readers.structure_json import FULL_OCCUPANCY, disordered
from moma_cl.structures.elements import NUMBERS, SYMBOLS, atomic_number
from moma_store.errors import InvalidInputError

_AXES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_TYPE = re.compile(r"([A-Za-z]+)(?:\d*\.?\d*[+-]?|[+-]\d*\.?\d*)")
_MULTIPLICITIES = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")


@dataclass(frozen=True, slots=True)
class Site:
    """A site of the asymmetric unit.

    Attributes
    ----------
    label
        Its name in the file.
    atomic_number
        Its element.
    frac_coords
        Where it is, in units of the lattice vectors.
    precision
        How exact that is: one of the last digit written.
    multiplicity
        Number of equivalent sites in the cell as the file states it; 0 if it does not.
    """

    label: str
    atomic_number: int
    frac_coords: tuple[float, float, float]
    precision: float
    multiplicity: int


def has_sites(block: Block) -> bool:
    """Say whether a data block lists atoms; a form that nobody filled in lists none."""
    columns = [values for tag, values in block.items() if tag.startswith("_atom_site_")]
    return any(value not in UNSET for values in columns for value in values) and any(
        tag in block for tag in (*_AXES, "_atom_site_label", "_atom_site_cartn_x")
    )


def read_sites(block: Block, formula: Mapping[int, float]) -> list[Site]:
    """Read the sites of a block; the elements of the formula help where a label is ambiguous."""
    missing = [tag for tag in _AXES if tag not in block]
    if missing:
        raise malformed(f"the sites have no {missing[0]}")
    count = len(block[_AXES[0]])
    columns = {tag: values for tag, values in block.items() if tag.startswith("_atom_site_")}
    rows = [
        {tag: values[row] for tag, values in columns.items() if len(values) == count}
        for row in range(count)
    ]
    return [_site(row, formula) for row in rows]


def _site(row: dict[str, str], formula: Mapping[int, float]) -> Site:
    symbol, label = row.get("_atom_site_type_symbol", ""), row.get("_atom_site_label", "")
    name = label or symbol
    if symbol not in UNSET:
        element = _of_type(symbol)
        _check_label(label, element, formula)
    else:
        element = _of_label(label, formula)
    _check_filled(row, name)
    written = [row.get(axis, "?") for axis in _AXES]
    if any(value in UNSET for value in written):
        raise _site_error(f"site {name[:20]!r} has no coordinates")
    x, y, z = (number(value, f"a coordinate of {name[:20]!r}") for value in written)
    stated = next((row[tag] for tag in _MULTIPLICITIES if row.get(tag, "?") not in UNSET), "0")
    return Site(
        label=name,
        atomic_number=element,
        frac_coords=(x, y, z),
        precision=max(map(_last_digit, written)),
        multiplicity=round(number(stated, "a multiplicity")),
    )


def _check_filled(row: Mapping[str, str], name: str) -> None:
    """Refuse a site that is empty, shared, a dummy or stands for more than an atom."""
    occupancy = row.get("_atom_site_occupancy", ".")
    if occupancy not in UNSET:  # the dictionary's default is 1
        filled = number(occupancy, f"the occupancy of {name[:20]!r}")
        if not FULL_OCCUPANCY <= filled <= 2 - FULL_OCCUPANCY:
            raise disordered(f"site {name[:20]} has an occupancy of {filled:g}")
    if row.get("_atom_site_calc_flag", "").lower() == "dum":
        raise _site_error(f"site {name[:20]!r} is marked as a dummy: remove it")
    hydrogens = row.get("_atom_site_attached_hydrogens", ".")
    if hydrogens not in UNSET and number(hydrogens, "a number of hydrogens"):
        raise _site_error(
            f"site {name[:20]!r} has {hydrogens[:10]} hydrogen atoms that are not listed: add them"
        )


def _of_type(symbol: str) -> int:
    """Read a type symbol: an element, with or without an oxidation state or a serial number."""
    match = _TYPE.fullmatch(symbol)
    if re.match(r"\d+[A-Z]", symbol):
        raise InvalidInputError(
            f"species {symbol[:20]!r} is an isotope: no backbone tells isotopes apart; write "
            f"{symbol.lstrip('0123456789')[:10]!r} if the property does not depend on it",
            code="invalid-input.isotope",
        )
    if match is None:
        return atomic_number(symbol)
    letters = match[1]
    if len(letters) == 2 and letters.isupper() and letters[0] in NUMBERS and letters[1] in NUMBERS:
        raise _site_error(f"species {symbol[:20]!r} may be {letters.title()} or two elements")
    return atomic_number(letters.capitalize() if len(letters) <= 2 else letters)


def _candidates(label: str) -> list[int]:
    """List the elements with which a label may begin, what it looks like most first."""
    letters = (re.match(r"[A-Za-z]*", label) or [""])[0]
    pair = letters[:2].capitalize()
    found = [NUMBERS[pair]] if len(pair) == 2 and pair in NUMBERS else []
    if len(letters) >= 2 and letters[1].islower() and found:
        return found
    first = letters[:1].upper()
    return [*found, NUMBERS[first]] if first in NUMBERS else found


def _of_label(label: str, formula: Mapping[int, float]) -> int:
    """Find the element of a site of which only the label is known."""
    if re.match(r"\d+[A-Z]", label) or re.match(r"[DT](?![A-Za-z])", label):
        return _of_type(label)
    letters = (re.match(r"[A-Za-z]*", label) or [""])[0]
    possible = _candidates(label)
    if formula:
        possible = [element for element in possible if element in formula]
    elif re.search(r"-[A-Za-z]", label) or (
        len(possible) == 1 and len(SYMBOLS[possible[0]]) != len(letters)
    ):
        possible = []
    if len(possible) == 1:
        return possible[0]
    raise _site_error(
        f"the label {label[:20]!r} does not tell which element it is: add _atom_site_type_symbol"
    )


def _check_label(label: str, element: int, formula: Mapping[int, float]) -> None:
    """Refuse a label that is the symbol of another element, where no formula decides."""
    match = re.fullmatch(r"([A-Z][a-z]?)\d*", label)
    if not formula and match and match[1] in NUMBERS and NUMBERS[match[1]] != element:
        raise _site_error(f"site {label!r} is said to be {SYMBOLS[element]}: which is right?")


def _last_digit(written: str) -> float:
    """Give the worth of the last digit of a number."""
    mantissa, _, exponent = written.lower().partition("e")
    decimals = len(re.sub(r"\(.*", "", mantissa).partition(".")[2])
    digits = re.fullmatch(r"[+-]?\d{1,2}", exponent)
    return 10.0 ** (int(exponent) - decimals) if digits else 10.0**-decimals


def _site_error(message: str) -> InvalidInputError:
    return InvalidInputError(f"the CIF is not clear: {message}", code="invalid-input.cif-site")
