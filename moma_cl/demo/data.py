"""Data of the demo: crystals of the elements, their measured properties, and four compounds.

Nothing is downloaded: lattices are ASE's reference states, measured properties are those of
pymatgen's periodic table.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_cl.properties.transforms import Transform

ROOM_TEMPERATURE = 298.15  # K
MOLAR_VOLUME_TOLERANCE = 0.15  # relative; reference cells are cold, molar volumes are not
MODULI_TOLERANCE = 1 / 3  # relative; polycrystals are not that isotropic
_CM3_PER_MOL = 0.602214076  # of one Å³ per atom


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A property of the elements, and how it becomes a task.

    Attributes
    ----------
    task
        Name of the task, its property and its column.
    attribute
        Name in pymatgen's periodic table.
    factor
        From the table's unit to ours.
    unit
        Unit of the column.
    transform
        Of the values before learning; a logarithm where they span decades.
    solid
        Whether the value is that of the solid at room temperature, so that elements which are no
        solids there have to be left out.
    modulus
        Whether elements whose moduli contradict each other have to be left out.
    """

    task: str
    attribute: str
    factor: float = 1.0
    unit: str
    transform: Transform = Transform.LOG10
    solid: bool = True
    modulus: bool = False


# In this order the first module is trained on the property that most elements have, and the module
# of the bulk modulus is there before Young's modulus, which it helps to predict.
MEASURED = (
    Measured(
        task="melting_point",
        attribute="melting_point",
        unit="K",
        transform=Transform.NONE,
        solid=False,
    ),
    Measured(task="bulk_modulus", attribute="bulk_modulus", unit="GPa", modulus=True),
    Measured(
        task="thermal_expansion",
        attribute="coefficient_of_linear_thermal_expansion",
        factor=1e6,
        unit="10^-6 K^-1",
    ),
    Measured(task="brinell_hardness", attribute="brinell_hardness", unit="MPa"),
    Measured(task="youngs_modulus", attribute="youngs_modulus", unit="GPa", modulus=True),
    Measured(task="thermal_conductivity", attribute="thermal_conductivity", unit="W/(m K)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementCrystal:
    """The crystal of an element.

    Attributes
    ----------
    symbol
        Of the element.
    name
        Symbol and kind of lattice.
    document
        ``lattice`` (Å), ``species`` and ``frac_coords``, as in JSON lines.
    """

    symbol: str
    name: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """Crystals of the elements, and the elements that have none here.

    Attributes
    ----------
    crystals
        By atomic number.
    not_built
        Elements whose structure needs more than a lattice, or is not known.
    other_phase
        Elements whose cell does not have the measured molar volume: the measured values are those
        of another structure, as those of carbon are graphite's.
    """

    crystals: tuple[ElementCrystal, ...]
    not_built: tuple[str, ...]
    other_phase: tuple[str, ...]


def crystals_of_elements(atomic_numbers: Collection[int]) -> Elements:
    """Build the crystals of all elements for which a lattice is enough."""
    from ase.build import bulk
    from ase.data import chemical_symbols, reference_states

    crystals, not_built, other_phase = [], [], []
    for number in sorted(atomic_numbers):
        symbol = chemical_symbols[number]
        try:
            atoms = bulk(symbol)
        except (ValueError, RuntimeError):  # what ASE raises for all other structures
            not_built.append(symbol)
            continue
        volume = atoms.get_volume() / len(atoms) * _CM3_PER_MOL
        measured = _value(symbol, "molar_volume") or 0.0
        if abs(volume - measured) > MOLAR_VOLUME_TOLERANCE * measured:
            other_phase.append(symbol)
            continue
        document = {
            "lattice": atoms.cell.array.round(6).tolist(),
            "species": atoms.get_chemical_symbols(),
            "frac_coords": atoms.get_scaled_positions().round(6).tolist(),
        }
        name = f"{symbol}-{reference_states[number]['symmetry']}"
        crystals.append(ElementCrystal(symbol=symbol, name=name, document=document))
    return Elements(
        crystals=tuple(crystals), not_built=tuple(not_built), other_phase=tuple(other_phase)
    )


def contradictory(elements: Elements) -> tuple[str, ...]:
    """List the elements whose tabulated moduli cannot all be right.

    These are the symbols where Young's modulus is far from 9KG/(3K + G), its value in isotropic
    matter.
    """
    symbols = []
    for crystal in elements.crystals:
        moduli = ("bulk_modulus", "rigidity_modulus", "youngs_modulus")
        bulk, shear, young = (_value(crystal.symbol, name) for name in moduli)
        if bulk is None or shear is None or young is None:
            continue
        expected = 9 * bulk * shear / (3 * bulk + shear)
        if abs(expected - young) > MODULI_TOLERANCE * young:
            symbols.append(crystal.symbol)
    return tuple(symbols)


def write_rows(path: Path, measured: Measured, elements: Elements) -> int:
    """Write the rows of a task as JSON lines: elements that have a value; give their number."""
    left_out = contradictory(elements) if measured.modulus else ()
    lines = []
    for crystal in elements.crystals:
        value = _value(crystal.symbol, measured.attribute)
        if value is None or crystal.symbol in left_out:
            continue
        if measured.solid and (_value(crystal.symbol, "melting_point") or 0.0) < ROOM_TEMPERATURE:
            continue
        row = {
            "id": crystal.name,
            measured.task: float(f"{value * measured.factor:.10g}"),
            "structure": crystal.document,
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compound:
    """A crystal to be built from its space group.

    Attributes
    ----------
    name
        Of the compound.
    space_group
        Its number in the International Tables.
    parameters
        Lattice parameters a, b, c in Å and α, β, γ in degrees.
    sites
        Element and fractional coordinates of each occupied orbit.
    """

    name: str
    space_group: int
    parameters: tuple[float, float, float, float, float, float]
    sites: tuple[tuple[str, tuple[float, float, float]], ...]


def _cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return (a, a, a, 90.0, 90.0, 90.0)


# Lattice parameters at room temperature, rounded as textbooks give them.
COMPOUNDS = (
    Compound(
        name="Si",
        space_group=227,
        parameters=_cubic(5.431),
        sites=(("Si", (0.0, 0.0, 0.0)),),
    ),
    Compound(
        name="GaAs",
        space_group=216,
        parameters=_cubic(5.653),
        sites=(("Ga", (0.0, 0.0, 0.0)), ("As", (0.25, 0.25, 0.25))),
    ),
    Compound(
        name="NaCl",
        space_group=225,
        parameters=_cubic(5.640),
        sites=(("Na", (0.0, 0.0, 0.0)), ("Cl", (0.5, 0.5, 0.5))),
    ),
    Compound(
        name="TiO2-rutile",
        space_group=136,
        parameters=(4.594, 4.594, 2.959, 90.0, 90.0, 90.0),
        sites=(("Ti", (0.0, 0.0, 0.0)), ("O", (0.3053, 0.3053, 0.0))),
    ),
)


def write_compounds(folder: Path) -> list[Path]:
    """Write the compounds as CIF files into a folder that exists; give the files in order."""
    from pymatgen.core import Lattice, Structure

    paths = []
    for compound in COMPOUNDS:
        structure = Structure.from_spacegroup(
            compound.space_group,
            Lattice.from_parameters(*compound.parameters),
            [element for element, _ in compound.sites],
            [position for _, position in compound.sites],
        )
        path = folder / f"{compound.name}.cif"
        path.write_text(structure.to(fmt="cif"), encoding="utf-8")
        paths.append(path)
    return paths


def _value(symbol: str, attribute: str) -> float | None:
    """Look up a measured value; none where the table has none, or only words."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No data available", category=UserWarning)
        value = getattr(Element(symbol), attribute)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
