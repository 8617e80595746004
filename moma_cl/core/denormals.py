"""Numbers so small that they have no full precision, which processors take many times as long over.

Activations far below nought leave them in SiLU, a row in many. What is below 1.2e-38 beside numbers
of order one changes no bit of a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let this thread take such numbers for nought, and threads that it starts meanwhile.

    Yields
    ------
    None
        While it does.
    """
    before = denormals_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def denormals_flushed() -> bool:
    """Say whether this thread takes such numbers for nought."""
    return float(torch.tensor(1e-30) * torch.tensor(1e-10)) == 0.0
