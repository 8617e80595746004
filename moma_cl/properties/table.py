"""Properties, their units and the transforms of targets: the one table of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:  # listing tasks reads this table and shall not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")


class Transform(StrEnum):
    """What is done to a target before it is learned."""

    NONE = "none"
    LOG10 = "log10"
    LOG = "log"

    def defined_at(self, target: float) -> bool:
        """Whether a target has a transformed value.

        Parameters
        ----------
        target
            Target in the unit of the task.

        Returns
        -------
        bool
            True for every finite number without a transform, for the positive ones with a
            logarithm.
        """
        return math.isfinite(target) and (self is Transform.NONE or target > 0)

    def forward(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform targets.

        Parameters
        ----------
        targets
            Targets in the unit of the task, any shape.

        Returns
        -------
        NDArray[np.float64]
            What is learned, same shape.
        """
        import numpy as np

        if self is Transform.NONE:
            return np.array(targets, dtype=np.float64)
        values: NDArray[np.float64] = (np.log10 if self is Transform.LOG10 else np.log)(targets)
        return values

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo the transform.

        Parameters
        ----------
        values
            What a predictor gives, any shape.

        Returns
        -------
        NDArray[np.float64]
            Targets in the unit of the task, same shape; what exceeds the largest float is
            infinite.
        """
        import numpy as np

        if self is Transform.NONE:
            return np.array(values, dtype=np.float64)
        with np.errstate(over="ignore"):
            targets: NDArray[np.float64] = (
                np.power(10.0, values) if self is Transform.LOG10 else np.exp(values)
            )
        return targets


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
    """Find the name under which a unit stands in the table, or else its short name by pint.

    Parameters
    ----------
    unit
        A unit as people write it: ``GPa``, ``eV/A^3``, ``cm^-1``, ``1``.

    Returns
    -------
    str
        Its name, such as ``eV/Å³``.

    Raises
    ------
    InvalidInputError
        The unit is not known.
    """
    name = _in_table(unit)
    if name in _UNITS:
        return name
    from moma_cl.properties import pint_units

    for spelled in (name, _in_table(_BARE_POWER.sub(r"^\g<0>", name))):
        known = spelled if spelled in _UNITS else pint_units.known_name(spelled)
        if known is not None:
            return _in_table(known)
    raise InvalidInputError(
        f"unit {unit!r} is not known{_near(name)}", code="invalid-input.unknown-unit"
    )


def resembles_unit(text: str) -> bool:
    """Say whether a text is a unit, or may be one that is misspelt.

    Parameters
    ----------
    text
        What stands in the brackets of a header.

    Returns
    -------
    bool
        Whether it is known, or near something that is.
    """
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
        The unit wanted.

    Returns
    -------
    Values
        The same quantities in ``to_unit``; the same bits when the units are equal.

    Raises
    ------
    InvalidInputError
        A unit is unknown, or the two are of different dimensions.
    """
    source, wanted = canonical_unit(from_unit), canonical_unit(to_unit)
    if source == wanted:
        return values
    if source not in _UNITS or wanted not in _UNITS:
        from moma_cl.properties import pint_units

        return pint_units.convert(values, source, wanted)
    (dimension, size), (wanted_dimension, wanted_size) = _UNITS[source], _UNITS[wanted]
    if dimension != wanted_dimension:
        raise InvalidInputError(
            f"{from_unit} cannot be converted to {to_unit}: the one is a unit of {dimension}, "
            f"the other of {wanted_dimension}",
            code="invalid-input.inconvertible-unit",
        )
    return values * (size / wanted_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """What is known of a property before any data.

    Attributes
    ----------
    name
        Canonical name.
    unit
        Canonical unit.
    lower
        Least possible value in that unit.
    upper
        Largest possible value in that unit.
    aliases
        Other names it goes by.
    determined_by
        Properties which together give this one, or nearly so.
    """

    name: str
    unit: str
    lower: float = -math.inf
    upper: float = math.inf
    aliases: tuple[str, ...] = ()
    determined_by: tuple[str, ...] = ()


def _property(
    name: str,
    unit: str,
    aliases: str = "",
    *,
    lower: float = -math.inf,
    upper: float = math.inf,
    determined_by: str = "",
) -> Property:
    """Make an entry from lists of names divided by spaces."""
    return Property(
        name=name,
        unit=unit,
        lower=lower,
        upper=upper,
        aliases=tuple(aliases.split()),
        determined_by=tuple(determined_by.split()),
    )


_MODULI = "bulk_modulus shear_modulus"

# Aliases include the names of transformed and of differently computed values (log10_..., _pbe,
# _hse), since they tell as much about one another as the property tells about itself.
_ENTRIES = (
    _property(
        "formation_energy",
        "eV/atom",
        "formation_energy_per_atom formation_energy_peratom e_form eform heat_of_formation",
    ),
    _property("energy_per_atom", "eV/atom", "total_energy_per_atom"),
    _property("energy_above_hull", "eV/atom", "e_above_hull ehull", lower=0),
    _property("exfoliation_energy", "meV/atom"),
    _property(
        "band_gap",
        "eV",
        "band_gap_pbe band_gap_hse band_gap_gllbsc direct_band_gap optb88vdw_bandgap bandgap egap",
        lower=0,
    ),
    _property(
        "bulk_modulus",
        "GPa",
        "bulk_modulus_vrh log10_bulk_modulus_vrh log_kvrh bulk_modulus_kv kvrh k_vrh",
        lower=0,
    ),
    _property(
        "shear_modulus",
        "GPa",
        "shear_modulus_vrh log10_shear_modulus_vrh log_gvrh shear_modulus_gv gvrh g_vrh",
        lower=0,
    ),
    _property("youngs_modulus", "GPa", "young_modulus", lower=0, determined_by=_MODULI),
    _property("poisson_ratio", "1", "poissons_ratio", lower=-1, upper=0.5, determined_by=_MODULI),
    # Takes all elastic constants; two averaged moduli do not give it.
    _property("elastic_anisotropy", "1", "universal_anisotropy", lower=0),
    _property(
        "dielectric_electronic", "1", "poly_electronic eps_electronic log_eps_electronic epsx"
    ),
    _property("dielectric_total", "1", "poly_total eps_total"),
    _property("dielectric_constant", "1"),
    _property("refractive_index", "1", determined_by="dielectric_electronic"),
    _property("last_phdos_peak", "cm⁻¹", "log_last_phdos_peak", lower=0),
    _property("heat_capacity", "J/(mol K)", "heat_capacity_300K ph_heat_capacity", lower=0),
    _property("debye_temperature", "K", lower=0, determined_by=_MODULI),
    _property("melting_point", "K", "melting_temperature", lower=0),
    _property("critical_temperature", "K", "tc", lower=0),
    _property("thermal_conductivity", "W/(m K)", "kappa", lower=0),
    _property("electrical_conductivity", "S/m", lower=0),
    _property("ionic_conductivity", "S/m", lower=0),
    _property("seebeck_coefficient", "μV/K", "seebeck n_seebeck p_seebeck"),
    _property("total_magnetization", "μB", "magnetization"),
    _property("surface_energy", "eV/Å²"),
    _property("cleavage_energy", "eV/Å²", determined_by="surface_energy"),
    _property("work_function", "eV", lower=0),
    _property("density", "g/cm³", lower=0),
    _property("volume_per_atom", "Å³/atom", lower=0, determined_by="density"),
    _property("electric_field_gradient", "10²¹ V/m²", "max_efg"),
    _property("piezoelectric_modulus", "C/m²", "eij_max", lower=0),
)

PROPERTIES: Mapping[str, Property] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Known properties by canonical name; a task may have a property that is not among them."""

_BY_ALIAS: Mapping[str, str] = MappingProxyType(
    {
        alias.lower(): entry.name
        for entry in PROPERTIES.values()
        for alias in (entry.name, *entry.aliases)
    }
)


def canonical_property(name: str) -> str:
    """Find the name under which a property stands in the table.

    Parameters
    ----------
    name
        A name of the property, an alias among them.

    Returns
    -------
    str
        The canonical name; an unknown name comes back as it is, in lower case.
    """
    lowered = name.strip().lower()
    return _BY_ALIAS.get(lowered, lowered)


def known_property(name: str) -> Property | None:
    """Look a property up.

    Parameters
    ----------
    name
        A name of the property, an alias among them.

    Returns
    -------
    Property | None
        Its entry, or ``None`` when it is not in the table.
    """
    return PROPERTIES.get(canonical_property(name))


def unit_of_task(unit: str | None, property_name: str) -> str:
    """Decide the unit of a new task.

    Parameters
    ----------
    unit
        The unit that was asked for, if any.
    property_name
        What is measured.

    Returns
    -------
    str
        That unit by its name, or the canonical unit of the property.

    Raises
    ------
    InvalidInputError
        The unit is not known, or none was asked for and the property is not known either.
    """
    if unit is not None:
        return canonical_unit(unit)
    known = known_property(property_name)
    if known is None:
        raise InvalidInputError(
            f"{property_name!r} is no property whose unit is known: name it with --unit (1 for a "
            "number)",
            code="invalid-input.missing-unit",
        )
    return known.unit


def same_or_determines(module_property: str, task_property: str) -> bool:
    """Whether a module of one property would give away the answers of a task.

    Parameters
    ----------
    module_property
        Property the module was trained on.
    task_property
        Property of the task.

    Returns
    -------
    bool
        True when the two are the same property under any name, or when the first is among those
        that determine the second.
    """
    ours, theirs = canonical_property(module_property), canonical_property(task_property)
    determining = PROPERTIES[theirs].determined_by if theirs in PROPERTIES else ()
    return ours == theirs or ours in determining
