"""Progress: how the library tells its caller how far a long step is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a label, the steps done and the steps planned; zero planned where nobody knows."""


def quiet(label: str, done: int, total: int) -> None:
    """Tell nobody.

    Parameters
    ----------
    label
        What is going on.
    done
        Steps done.
    total
        Steps planned.

    """
