"""Texts without the control characters that names of files and columns may hold.

A terminal would obey them: clear itself, set its title, show other words than are there.
"""

from __future__ import annotations

_KEPT = "\n\t"


def printable(text: str) -> str:
    """Replace control characters in a text of one line."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)


def printable_lines(text: str) -> str:
    """Replace control characters in a text of several lines."""
    return "".join(
        character if character in _KEPT or character.isprintable() else "�" for character in text
    )
