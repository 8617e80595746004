"""Text that any terminal, file or JSON document can take.

A terminal obeys control characters: it clears itself, sets its title, shows other words than are
there. Names of files and columns may hold them, and may be no UTF-8.
"""

from __future__ import annotations

import os
from contextlib import suppress

_LINES = "\n\t"


def printable(text: str, *, kept: str = "") -> str:
    r"""Write what cannot be printed or encoded as backslash escapes, such as ``\xf6``.

    Characters in ``kept`` stay as they are.
    """
    if text.isprintable():
        return text
    with suppress(UnicodeEncodeError):  # half of a pair, which no name of a file holds
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(
        one if one in kept or one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


def printable_lines(text: str) -> str:
    """Do the same to a text of several lines."""
    return printable(text, kept=_LINES)
