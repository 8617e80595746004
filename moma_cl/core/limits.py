"""Limits of numbers that users give."""

from __future__ import annotations

import math

from moma_store.errors import InvalidInputError

MOST = 2**31 - 1
"""The highest count of anything."""

LARGEST = 1e100
"""The largest quantity, whatever its unit."""

LONGEST = 366 * 86_400.0
"""The longest time to wait that makes sense, a year, s."""


def check_number(name: str, value: float, *, least: float, most: float) -> None:
    """Refuse a number that is not finite or out of range; `name` says which one it is."""
    if not math.isfinite(value):
        raise InvalidInputError(f"{name} is {value}; expected a finite number")
    if not least <= value <= most:
        raise InvalidInputError(
            f"{name} is {value:g}; expected a number from {least:.10g} to {most:.10g}"
        )


def check_seconds(name: str, value: float, *, least: float = 0.0) -> None:
    """Refuse a time to wait that is not finite, too short, or longer than a year."""
    check_number(f"{name}, in seconds,", value, least=least, most=LONGEST)
