"""The one table of units, and conversion between them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:  # listing tasks reads this table and shall not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")

_EV = 1.602176634e-19  # J, exact
_AVOGADRO = 6.02214076e23  # 1/mol, exact
_PLANCK = 6.62607015e-34  # J s, exact
_LIGHT = 299792458.0  # m/s, exact
_KJ_PER_MOL = 1e3 / (_EV * _AVOGADRO)  # eV

# Dimension and size of each unit. Units of one dimension convert into each other by the ratio of
# their sizes. Energies per atom, per formula unit, per cell and of an excitation are dimensions of
# their own: what lies between them is a count of atoms, which a factor cannot supply.
_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "1": ("number", 1.0),
        "%": ("number", 0.01),
        "eV": ("energy", 1.0),
        "meV": ("energy", 1e-3),
        "J": ("energy", 1 / _EV),
        "Ha": ("energy", 27.211386245988),  # CODATA 2018
        "Ry": ("energy", 13.605693122994),
        "kJ/mol": ("energy", _KJ_PER_MOL),
        "kcal/mol": ("energy", 4.184 * _KJ_PER_MOL),
        "eV/atom": ("energy per atom", 1.0),
        "meV/atom": ("energy per atom", 1e-3),
        "Ha/atom": ("energy per atom", 27.211386245988),
        "kJ/mol/atom": ("energy per atom", _KJ_PER_MOL),
        "eV/f.u.": ("energy per formula unit", 1.0),
        "meV/f.u.": ("energy per formula unit", 1e-3),
        "eV/Å²": ("energy per area", 1.0),
        "meV/Å²": ("energy per area", 1e-3),
        "J/m²": ("energy per area", 1e-20 / _EV),
        "mJ/m²": ("energy per area", 1e-23 / _EV),
        "GPa": ("pressure", 1.0),
        "TPa": ("pressure", 1e3),
        "MPa": ("pressure", 1e-3),
        "Pa": ("pressure", 1e-9),
        "kbar": ("pressure", 0.1),
        "eV/Å³": ("pressure", _EV * 1e21),
        "log10(GPa)": ("logarithm of a pressure", 1.0),
        "K": ("temperature", 1.0),
        "mK": ("temperature", 1e-3),
        "cm⁻¹": ("frequency", 1.0),
        "m⁻¹": ("frequency", 0.01),
        "THz": ("frequency", 1e12 / (100 * _LIGHT)),
        "GHz": ("frequency", 1e9 / (100 * _LIGHT)),
        "Hz": ("frequency", 1 / (100 * _LIGHT)),
        **{
            f"rad/{name}": ("frequency", per_second / (2 * math.pi * 100 * _LIGHT))
            for name, per_second in (("s", 1.0), ("ps", 1e12), ("fs", 1e15))
        },
        # ħω of a vibration; an electronic energy in meV belongs to another dimension.
        "meV phonon": ("frequency", 1e-3 * _EV / (_PLANCK * 100 * _LIGHT)),
        "μB": ("magnetic moment", 1.0),
        "μB/atom": ("magnetic moment per atom", 1.0),
        "μB/f.u.": ("magnetic moment per formula unit", 1.0),
        "Å": ("length", 1.0),
        "nm": ("length", 10.0),
        "pm": ("length", 0.01),
        "bohr": ("length", 0.529177210903),  # CODATA 2018
        "Å³": ("volume", 1.0),
        "nm³": ("volume", 1e3),
        "Å³/atom": ("volume per atom", 1.0),
        "g/cm³": ("density", 1.0),
        "kg/m³": ("density", 1e-3),
        "W/(m K)": ("thermal conductivity", 1.0),
        "mW/(m K)": ("thermal conductivity", 1e-3),
        "W/(cm K)": ("thermal conductivity", 100.0),
        "S/m": ("electrical conductivity", 1.0),
        "S/cm": ("electrical conductivity", 100.0),
        "mS/cm": ("electrical conductivity", 0.1),
        "Ω m": ("resistivity", 1.0),
        "Ω cm": ("resistivity", 0.01),
        "μΩ cm": ("resistivity", 1e-8),
        "μV/K": ("thermopower", 1.0),
        "mV/K": ("thermopower", 1e3),
        "V/K": ("thermopower", 1e6),
        "J/(mol K)": ("molar heat capacity", 1.0),
        "kJ/(mol K)": ("molar heat capacity", 1e3),
        "J/(kg K)": ("specific heat capacity", 1.0),
        "J/(g K)": ("specific heat capacity", 1e3),
        "C/m²": ("surface charge density", 1.0),
        "μC/cm²": ("surface charge density", 0.01),
        "pm/V": ("piezoelectric strain coefficient", 1.0),
        "pC/N": ("piezoelectric strain coefficient", 1.0),
        "V/m²": ("electric field gradient", 1.0),
        "10²¹ V/m²": ("electric field gradient", 1e21),
        "cm²/(V s)": ("mobility", 1.0),
        "m²/(V s)": ("mobility", 1e4),
        "K⁻¹": ("thermal expansion", 1.0),
        "10⁻⁶ K⁻¹": ("thermal expansion", 1e-6),
    }
)

_LOGARITHM = "log10("  # what the unit of a logarithm begins with

# Spellings that a keyboard gives, undone before a unit is looked up.
_SPELLINGS = (
    ("A^", "Å^"),
    ("Å^3", "Å³"),
    ("Å^2", "Å²"),
    ("cm^-1", "cm⁻¹"),
    ("m^-1", "m⁻¹"),
    ("K^-1", "K⁻¹"),
    ("10^-6", "10⁻⁶"),
    ("10^21", "10²¹"),
    ("^2", "²"),
    ("^3", "³"),
    ("µ", "μ"),  # micro sign, Greek mu
    ("\N{ANGSTROM SIGN}", "Å"),
    ("\N{OHM SIGN}", "Ω"),
)
# As in cm-1, J/m2 and W m-1 K-1: a power right after the letters of a unit.
_BARE_POWER = re.compile(r"(?<=[^\W\d_])-?\d(?!\d|\.)")
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "": "1",
        "dimensionless": "1",
        "none": "1",
        "A": "Å",
        "Angstrom": "Å",
        "angstrom": "Å",
        "ev": "eV",
        "ev/atom": "eV/atom",
        "gpa": "GPa",
        "uB": "μB",
        "muB": "μB",
        "uB/atom": "μB/atom",
        "uB/f.u.": "μB/f.u.",
        "1/cm": "cm⁻¹",
        "1/m": "m⁻¹",
        "1/K": "K⁻¹",
        "uV/K": "μV/K",
        "uC/cm²": "μC/cm²",
        "eV/fu": "eV/f.u.",
        "W/mK": "W/(m K)",
        "W/m/K": "W/(m K)",
        "W/(m·K)": "W/(m K)",
        "J/mol/K": "J/(mol K)",
        "J/molK": "J/(mol K)",
        "J/(mol·K)": "J/(mol K)",
        "J/kg/K": "J/(kg K)",
        "J/g/K": "J/(g K)",
        "kelvin": "K",
        "Kelvin": "K",
        "Ang": "Å",
        "log10 GPa": "log10(GPa)",
        "ohm m": "Ω m",
        "ohm cm": "Ω cm",
        "uohm cm": "μΩ cm",
    }
)


def canonical_unit(unit: str) -> str:
    """Find the name of a unit that people write as ``GPa``, ``eV/A^3``, ``cm^-1`` or ``1``.

    It is the name in the table, or else its short name by pint. An unknown unit is refused.
    """
    name = _in_table(unit)
    if name in _UNITS:
        return name
    from moma_cl.properties import pint_units

    for spelled in (name, _in_table(_BARE_POWER.sub(r"^\g<0>", name))):
        short_name = spelled if spelled in _UNITS else pint_units.short_name(spelled)
        if short_name is not None:
            return _in_table(short_name)
    raise InvalidInputError(
        f"unit {unit!r} is not known{_near(name)}", code="invalid-input.unknown-unit"
    )


def with_unit(number: str, unit: str) -> str:
    """Write a number with its unit, which is left out where it is 1."""
    return number if unit in {"", "1"} else f"{number} {unit}"


def without_logarithm(unit: str) -> str:
    """Give the unit of the values whose logarithm is in a unit: ``GPa`` for ``log10(GPa)``."""
    return unit[len(_LOGARITHM) : -1] if unit.startswith(_LOGARITHM) else unit


def dimension_of(unit: str) -> str | None:
    """Name the dimension of a unit, such as ``energy``; none for one that the table lacks."""
    name = canonical_unit(unit)
    return _UNITS[name][0] if name in _UNITS else None


def is_per_atom(unit: str) -> bool:
    """Say whether a unit is one per atom, as it is written."""
    return "atom" in canonical_unit(unit)


def per_atom(unit: str) -> str:
    """Give the unit of a cell's quantity that was divided by the number of atoms."""
    name = canonical_unit(unit)
    return name if is_per_atom(name) else canonical_unit(f"{name}/atom")


def resembles_unit(text: str) -> bool:
    """Say whether a text in the brackets of a header is a unit, or may be one that is misspelt."""
    try:
        canonical_unit(text)
    except InvalidInputError:
        return bool(_near(text))
    return True


def _near(name: str) -> str:
    return did_you_mean(name, _UNITS, most=3, cutoff=0.5)


def _in_table(unit: str) -> str:
    """Spell a unit as the table does, if it is there."""
    name = " ".join(unit.split())
    for spelling, standard in _SPELLINGS:
        name = name.replace(spelling, standard)
    return _ALIASES.get(name, name)


def convert(values: Values, from_unit: str, to_unit: str) -> Values:
    """Convert a number or an array.

    Parameters
    ----------
    values
        Numbers in ``from_unit``.
    from_unit
        The unit they are in.
    to_unit
        The unit to convert them to.

    Returns
    -------
    Values
        The same quantities in ``to_unit``; the same bits when the units are equal.

    Raises
    ------
    InvalidInputError
        A unit is unknown, or the two are of different dimensions.
    """
    source, target = canonical_unit(from_unit), canonical_unit(to_unit)
    if source == target:
        return values
    if source not in _UNITS or target not in _UNITS:
        from moma_cl.properties import pint_units

        return pint_units.convert(values, source, target)
    (dimension, size), (target_dimension, target_size) = _UNITS[source], _UNITS[target]
    if dimension != target_dimension:
        raise InvalidInputError(
            f"{from_unit} cannot be converted to {to_unit}: the one is a unit of {dimension}, "
            f"the other of {target_dimension}",
            code="invalid-input.inconvertible-unit",
        )
    return values * (size / target_size)
