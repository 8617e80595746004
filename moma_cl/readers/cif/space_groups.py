"""The settings of the 230 space groups, by number, Hermann-Mauguin and Hall symbol."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from moma_cl.readers.cif.operations import PARTS, Operations, quiet_spglib

_SETTINGS = 530  # of the International Tables
_STANDARD = frozenset({"", "1", "2"})
# Short monoclinic symbols mean the axis b; these mean any, and the cell tells which.
_ANY_AXIS = frozenset({"p 2", "p 21", "p m", "p 2/m", "p 21/m"})
_OF_AXIS_B = re.compile(r"[pcai] (?:2|21|m|[acn]|2/m|21/m|2/[acn]|21/[acn])")
_OLD_NAMES = {39: "a b m 2", 41: "a b a 2", 64: "c m c a", 67: "c m m a", 68: "c c c a"}
_SUFFIX_LETTERS = {"s": "1", "z": "2", "h": "H", "r": "R"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: axes and origin of a space group.

    Attributes
    ----------
    hall_number
        Its place among the 530 settings, from 1.
    number
        Number of the space group.
    choice
        What tells it apart from other settings of the group, such as ``"b1"`` or ``"2"``.
    names
        Hermann-Mauguin symbols in lower case, parts separated by a space.
    hall
        Hall symbol in lower case without spaces.
    """

    hall_number: int
    number: int
    choice: str
    names: frozenset[str]
    hall: str


@lru_cache(maxsize=1)
def all_settings() -> tuple[Setting, ...]:
    """List all settings."""
    import spglib

    with quiet_spglib():
        kinds: list[Any] = [spglib.get_spacegroup_type(place) for place in range(1, _SETTINGS + 1)]
    return tuple(
        Setting(
            hall_number=place,
            number=kind.number,
            choice=kind.choice,
            names=_names(kind.number, kind.choice, kind.international, kind.international_full),
            hall=hall_key(kind.hall_symbol),
        )
        for place, kind in enumerate(kinds, start=1)
    )


@lru_cache(maxsize=_SETTINGS)
def operations_of(hall_number: int) -> Operations:
    """Give the symmetry operations of a setting."""
    import spglib

    with quiet_spglib():
        symmetry: Any = spglib.get_symmetry_from_database(hall_number)
    return Operations.of(
        symmetry["rotations"].astype(np.int64),
        np.rint(symmetry["translations"] * PARTS).astype(np.int64),
    )


def hall_key(symbol: str) -> str:
    """Write a Hall symbol so that equal ones are the same text."""
    return re.sub(r"[\s_]", "", symbol).lower()


@lru_cache(maxsize=1024)
def named(symbol: str) -> tuple[Setting, ...]:
    """Find the settings for which a Hermann-Mauguin symbol may stand; none if it is not known."""
    name, suffix = _split(symbol)
    found = [setting for setting in all_settings() if name in setting.names]
    if not found:
        packed = name.replace(" ", "")
        found = _packed().get(packed, [])
        if not found and not suffix and packed[-1:] in _SUFFIX_LETTERS:
            found = _packed().get(packed[:-1], [])
            suffix = _SUFFIX_LETTERS[packed[-1]]
    return tuple(setting for setting in found if _is_choice(suffix, setting.choice))


def _is_choice(suffix: str, choice: str) -> bool:
    """Say whether a suffix, which may give the origin alone, allows a choice such as 2cab."""
    if suffix in {"1", "2"}:
        return choice.startswith(suffix)
    return not suffix or choice == suffix


def _split(symbol: str) -> tuple[str, str]:
    """Part a symbol into its name and the choice of its setting."""
    symbol = re.sub(r"\((\d)\)", r"\1", symbol.replace("_", ""))
    symbol = re.sub(r"\s*\(\s*(?:no\.?)?\s*\d+\s*\)\s*$", "", symbol, flags=re.IGNORECASE)
    name, _, suffix = (part.strip() for part in symbol.partition(":"))
    words = name.lower().split()
    if not suffix and len(words) > 1 and words[-1] in {*_SUFFIX_LETTERS, "o1", "o2"}:
        last = words.pop()
        return " ".join(words), _SUFFIX_LETTERS.get(last, last[-1])
    suffix = suffix.lower()
    return " ".join(words), _SUFFIX_LETTERS.get(suffix, suffix)


@lru_cache(maxsize=1)
def _packed() -> dict[str, list[Setting]]:
    """Group the settings by their names without spaces."""
    table: dict[str, list[Setting]] = {}
    for setting in all_settings():
        for name in {name.replace(" ", "") for name in setting.names}:
            table.setdefault(name, []).append(setting)
    return table


def _names(number: int, choice: str, international: str, full: str) -> frozenset[str]:
    """Give all symbols of a setting: long and short, of today and of earlier editions."""
    names = {_plain(name) for name in (*international.split("="), full)}
    if 3 <= number <= 15:
        names.discard(_plain(international.partition("=")[0]))  # the same for all its settings
        names |= {short for name in set(names) if _is_clear(short := _shortened(name), choice)}
    if number >= 195:  # a threefold inversion was written without its bar
        names |= {name.replace("-3", "3") for name in names}
    if number in _OLD_NAMES:
        names |= {name.replace("e", letter) for name in set(names) for letter in "abc"}
        if choice in _STANDARD:
            names.add(_OLD_NAMES[number])
        else:
            names.discard(_OLD_NAMES[number])
    return frozenset(names)


def _shortened(name: str) -> str:
    return " ".join(word for word in name.split() if word != "1")


def _is_clear(short: str, choice: str) -> bool:
    """Say whether a short monoclinic symbol may stand for a setting with this choice."""
    return "b" in choice or short in _ANY_AXIS or _OF_AXIS_B.fullmatch(short) is None


def _plain(name: str) -> str:
    return " ".join(name.replace("_", "").lower().split())
