"""Progress: how the library tells its caller how far a long step is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a label, the steps done and the steps planned; zero planned where unknown."""


FIRST_ANSWER = "first answer"
"""How the label begins by which a caller learns that a new task answers now."""


def quiet(label: str, steps_done: int, steps_planned: int) -> None:
    """Report to nobody."""
