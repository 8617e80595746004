"""Units that the table of `moma_cl.properties.units` lacks, by pint, which is slow to load."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, TypeVar

from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")

# Letters, degrees, operators, and powers of at most two digits: nothing that takes long.
_PLAIN = re.compile(
    r"(?:1\s*/)?"
    r"(?:[^\W\d]|_\d|[°%/*·().\s⁻⁰¹²³⁴-⁹]"
    r"|(?:\^|\*\*)\s*[-+]?\d{1,2}(?:\.\d{1,3})?(?!\d|\s*(?:\^|\*\*)))+"
)
_LONGEST = 80  # characters

# Atoms and formula units are counted, so that energies per atom and per cell stay apart.
_DEFINITIONS = (
    "atom = [atom]",
    "formula_unit = [formula_unit] = f_u",
    "Ha = hartree",
    "Ry = 0.5 * hartree",
    "μB = bohr_magneton",
)


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(cache_folder=None)
    for definition in _DEFINITIONS:
        registry.define(definition)
    return registry


@lru_cache(maxsize=256)
def _parsed(unit: str) -> Any:
    """Parse a unit; none if pint does not know it."""
    text = unit.replace("f.u.", "f_u")
    if len(text) > _LONGEST or not _PLAIN.fullmatch(text):
        return None
    import pint

    try:
        return _registry().Unit(text)
    except (pint.PintError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError):
        return None
    except (TokenError, AssertionError, RecursionError, SyntaxError):  # over odd brackets
        return None


def short_name(unit: str) -> str | None:
    """Find the short name of a unit, which is read the same again; none if pint lacks it."""
    parsed = _parsed(unit)
    if parsed is None:
        return None
    # Fractions have no superscripts; the second form spells powers out.
    names = [f"{parsed:~P}".replace("f_u", "f.u."), f"{parsed:~C}".replace("f_u", "f.u.")]
    return next((name for name in names if _parsed(name) == parsed), None)


def _radians(unit: Any) -> float:
    """Power of an angle in a unit."""
    return float(dict(_registry().get_root_units(unit)[1]._units).get("radian", 0))


def convert(values: Values, from_unit: str, to_unit: str) -> Values:
    """Convert a number or an array as `moma_cl.properties.units.convert` does."""
    import pint

    source, target = _parsed(from_unit), _parsed(to_unit)
    try:
        if source is None or target is None:
            raise InvalidInputError(
                f"{from_unit} cannot be converted to {to_unit}",
                code="invalid-input.inconvertible-unit",
            )
        converted: Values = _registry().Quantity(values, source).to(target).magnitude
        if source.dimensionality == {"[time]": -1.0}:
            # to pint radians are numbers, but one hertz is 2π of them a second
            converted = converted * (2 * math.pi) ** (_radians(target) - _radians(source))
    except pint.PintError as error:
        raise InvalidInputError(
            f"{from_unit} cannot be converted to {to_unit}: the one is a unit of "
            f"{source.dimensionality}, the other of {target.dimensionality}",
            code="invalid-input.inconvertible-unit",
        ) from error
    return converted
