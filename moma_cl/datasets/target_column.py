"""The target column: its value in a row, and the unit of that value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from moma_cl.properties.table import bounds_in
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import convert, is_per_atom, per_atom, resembles_unit
from moma_cl.records.task_spec import TaskSpec
from moma_cl.structures.checks import checked_target
from moma_store.errors import InvalidInputError

# A name, then the unit in brackets of either kind, which may hold parentheses itself.
_HEADER = re.compile(r"(?P<name>.+?)\s*(?:\[(?P<square>[^\[\]]+)\]|\((?P<round>.+)\))")


_LONGEST = 400  # characters of a header: the expression takes their square


@lru_cache(maxsize=1024)
def split_header(header: str) -> tuple[str, str | None]:
    """Take the unit off a header.

    Parameters
    ----------
    header
        Such as ``bulk_modulus [GPa]`` or ``bulk_modulus (GPa)``.

    Returns
    -------
    tuple[str, str | None]
        The name, and the unit if there is one; brackets with something else, such as ``(DFT)``,
        belong to the name.
    """
    match = _HEADER.fullmatch(header.strip()) if len(header) <= _LONGEST else None
    if match is None:
        return header, None
    unit: str = match["square"] or match["round"]
    return (match["name"], unit) if resembles_unit(unit) else (header, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetColumn:
    """The column that holds the target, and the unit to read it in.

    Attributes
    ----------
    spec
        The task's column, unit, property and transform.
    unit
        Unit of targets for which neither row nor header names one; by default the task's.
    """

    spec: TaskSpec
    unit: str | None = None

    def read(self, values: Mapping[str, object], n_atoms: int = 1) -> float:
        """Read the target of a row.

        Parameters
        ----------
        values
            The row's columns.
        n_atoms
            Atoms in the row's cell, by which the values of a task per atom are divided.

        Returns
        -------
        float
            The target, in the task's unit.

        Raises
        ------
        InvalidInputError
            If there is no value, it cannot be learned, or its unit is unknown or cannot be
            converted.
        """
        cell, header_unit = self._cell(values)
        unit = self._row_unit(values) or header_unit or self.unit
        target = checked_target(cell, Transform.NONE)
        if self.spec.per_atom and (unit is None or not is_per_atom(unit)):
            target, unit = target / n_atoms, None if unit is None else per_atom(unit)
        if unit is not None:
            target = convert(target, unit, self.spec.unit)
        return checked_target(target, self.spec.transform)

    def bounds(self) -> tuple[float, float] | None:
        """Give the bounds of the property in the task's unit; none where they are not known."""
        return bounds_in(self.spec.unit, self.spec.property, self.spec.target)

    def _cell(self, values: Mapping[str, object]) -> tuple[object, str | None]:
        """Give the cell, and the unit in its header."""
        column = self.spec.target
        if column in values:
            return values[column], split_header(column)[1]
        with_units = [
            (header, unit)
            for header in values
            for name, unit in (split_header(header),)
            if unit is not None and name == column
        ]
        if len(with_units) > 1:
            headers = " and ".join(repr(header) for header, _ in with_units[:2])
            raise InvalidInputError(
                f"{headers} are both columns {column!r}: name one of them with its unit as target",
                code="invalid-input.repeated-column",
            )
        for header, unit in with_units:
            return values[header], unit
        return None, None

    def _row_unit(self, values: Mapping[str, object]) -> str | None:
        """Give the unit that the row itself names."""
        for name in (f"{self.spec.target}_unit", "unit"):
            unit = values.get(name)
            if isinstance(unit, str) and unit.strip():
                return unit
        return None
