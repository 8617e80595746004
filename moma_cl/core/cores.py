"""The cores of this machine. Light: planning asks, and imports no torch."""

from __future__ import annotations

import os


def n_cores() -> int:
    """Count the cores that this process may run on.

    Returns
    -------
    int
        One at least.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
