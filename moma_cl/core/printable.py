"""Text that any terminal, file or JSON document can take."""

from __future__ import annotations

import os
from contextlib import suppress


def printable(text: str) -> str:
    r"""Write what cannot be printed or encoded as backslash escapes, such as ``\xf6``.

    Names of files may be no UTF-8, and may hold line breaks or commands for a terminal.
    """
    if text.isprintable():
        return text
    with suppress(UnicodeEncodeError):  # half of a pair, which no name of a file holds
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
