"""The one table of properties: their units, bounds and names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from moma_cl.properties.units import canonical_unit, convert
from moma_store.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A property as the table has it, before any data.

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
        "dielectric_electronic",
        "1",
        "poly_electronic eps_electronic log_eps_electronic epsx",
        lower=0,
    ),
    _property("dielectric_total", "1", "poly_total eps_total", lower=0),
    _property("dielectric_constant", "1", lower=0),
    _property("refractive_index", "1", lower=0, determined_by="dielectric_electronic"),
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
    """Find the name in the table of a property; an unknown name comes back in lower case."""
    lowered = name.strip().lower()
    return _BY_ALIAS.get(lowered, lowered)


def names_of(name: str) -> tuple[str, ...]:
    """List all names of a property in lower case, in the order of the table."""
    listed = known_property(name)
    if listed is None:
        return (canonical_property(name),)
    return tuple(alias.lower() for alias in (listed.name, *listed.aliases))


def known_property(name: str) -> Property | None:
    """Look a property up by any of its names; none when it is not in the table."""
    return PROPERTIES.get(canonical_property(name))


def bounds_in(unit: str, name: str, column: str = "") -> tuple[float, float] | None:
    """Give the least and the largest value that a property can have, in a unit.

    None where the property, under any of its names, is not in the table; where it is stored as its
    logarithm, by its name or that of its column; or where the unit is not one of the property.
    """
    listed = known_property(name)
    if listed is None or any(text.strip().lower().startswith("log") for text in (name, column)):
        return None
    try:
        return convert(listed.lower, listed.unit, unit), convert(listed.upper, listed.unit, unit)
    except InvalidInputError:
        return None


def unit_of_task(unit: str | None, property_name: str) -> str:
    """Decide the unit of a new task: the one asked for, or that of the property.

    A unit that is not known, or a property without one, is refused.
    """
    if unit is not None:
        return canonical_unit(unit)
    listed = known_property(property_name)
    if listed is None:
        raise InvalidInputError(
            f"{property_name!r} is no property whose unit is known: name it with --unit (1 for a "
            "number)",
            code="invalid-input.missing-unit",
        )
    return listed.unit


def same_or_determines(module_property: str, task_property: str) -> bool:
    """Whether a module of one property would give away the answers of a task.

    True when the two are the same property under any name, or when the module's is among those that
    determine the task's.
    """
    ours, theirs = canonical_property(module_property), canonical_property(task_property)
    determining = PROPERTIES[theirs].determined_by if theirs in PROPERTIES else ()
    return ours == theirs or ours in determining
