"""Descriptors 0 to 2, which belong to standard input, output and error, whoever closed them.

A process that was started with one of them closed (``2>&-``) gets its number for the next file
that it opens. What a C library then says on standard error would land in that file, be it the
catalogue.
"""

from __future__ import annotations

import os

_STANDARD = (0, 1, 2)


def open_closed_descriptors() -> list[int]:
    """Let the null device stand for each of the three that is closed; those that are open stay.

    Child processes inherit it.

    Returns
    -------
    list[int]
        Those that were closed.
    """
    closed = [descriptor for descriptor in _STANDARD if not _is_open(descriptor)]
    for descriptor in closed:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)
    return closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
