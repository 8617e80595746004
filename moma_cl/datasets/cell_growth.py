"""Targets that grow with the cell, such as total energies: no answer for a crystal is right.

A crystal and its double are the same structure and get the same answer, but have different total
energies. So a task of such targets is learned per atom, or not at all.
"""

from __future__ import annotations

import re

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.datasets.intake import Intake
from moma_cl.properties.units import canonical_unit, dimension_of, per_atom
from moma_cl.records.task_spec import TaskSpec
from moma_store.errors import InvalidInputError

# Dimensions of quantities of a cell; a pressure, a frequency or an energy per atom does not grow.
_OF_A_CELL = frozenset({"energy", "magnetic moment", "volume", "molar heat capacity", "number"})
_QUALIFIERS = frozenset(
    {"total", "tot", "final", "free", "internal", "potential", "dft", "pbe", "scf", "ref", "cell"}
)
_ENERGIES = frozenset(
    {"energy", "energies", "e", "e0", "etot", "toten", "enthalpy", "formation_energy", "eform"}
    | {"e_form", "formation_enthalpy", "heat_of_formation", "cohesive_energy", "energy_above_hull"}
)
_NAMES = {
    "energy": _ENERGIES,
    "magnetic moment": frozenset({"magnetization", "magmom", "magnetic_moment", "moment"}),
    "volume": frozenset({"volume", "vol"}),
}
MIN_ROWS = 10  # fewer do not tell how targets depend on the size of the cell
MOST_ROWS = 500  # compared with each other, whose pairs are looked at
LEVEL = 0.99
GROWS = 0.5  # exponent between 0 of what does not grow and 1 of what is a sum over atoms


def check_not_growing(intake: Intake, spec: TaskSpec) -> None:
    """Refuse a new task whose targets grow with the cell, by their name and unit or their values.

    Parameters
    ----------
    intake
        The rows of the task.
    spec
        The task; one that is per atom, or stated not to grow, passes.

    Raises
    ------
    InvalidInputError
        If they grow; the message says how to learn them per atom.
    """
    if spec.per_atom or spec.intensive or not _can_grow(spec.unit):
        return
    exponent = least_exponent(intake.targets, np.diff(intake.crystals.offsets))
    if _named_of_cell(spec):
        why = f"{spec.property} in {spec.unit} is a sum over the atoms of the cell"
    elif exponent is not None and exponent > GROWS:
        why = f"{spec.target} grows as the number of atoms to the power {exponent:.2g} or more"
    else:
        return
    raise InvalidInputError(
        f"{why}, so that a crystal and its supercell would need different answers: `--per-atom` "
        f"divides it by the number of atoms, and answers in {per_atom(spec.unit)}; if that is done "
        f"already, give `--unit {per_atom(spec.unit)}`; `--intensive` states that it does not grow",
        code="invalid-input.grows-with-cell",
    )


def least_exponent(targets: FloatArray, n_atoms: IntArray) -> float | None:
    """Estimate how targets grow with the number of atoms, as a power of it.

    The exponent is the Theil-Sen slope of the logarithms, which outliers hardly move; targets that
    are zero are left out.

    Parameters
    ----------
    targets
        Shape ``(n_rows,)``, any unit.
    n_atoms
        Atoms in each cell, same shape.

    Returns
    -------
    float | None
        Lower end of its 98 % interval; none where too few rows, or cells of one size, tell.

    References
    ----------
    Sen, J. Am. Stat. Assoc. 63, 1379 (1968).
    """
    from scipy.stats import theilslopes

    rows = np.flatnonzero(targets)
    if len(rows) < MIN_ROWS or np.ptp(n_atoms[rows]) == 0:
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(np.int64))]
    sizes = np.log(n_atoms[rows])
    if np.ptp(sizes) == 0:
        return None
    return float(theilslopes(np.log(np.abs(targets[rows])), sizes, 2 * LEVEL - 1)[2])


def _can_grow(unit: str) -> bool:
    """Say whether a unit may be that of a whole cell; of units that no table has, any may."""
    dimension = dimension_of(unit)
    if dimension is None:
        return not re.search(r"atom|f\.u\.", canonical_unit(unit))
    return dimension in _OF_A_CELL


def _named_of_cell(spec: TaskSpec) -> bool:
    """Say whether name and unit are those of a sum over a cell, such as a total energy in eV."""
    words = re.split(r"[\W_]+", spec.property.strip().lower())
    name = "_".join(word for word in words if word not in _QUALIFIERS)
    return name in _NAMES.get(dimension_of(spec.unit) or "", frozenset())
