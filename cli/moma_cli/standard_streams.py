"""Standard input, output and error, which whoever starts the program may have closed."""

from __future__ import annotations

import sys

from moma_store.standard_descriptors import open_closed_descriptors

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Let the null device stand for each stream that is closed, in Python and below it."""
    open_closed_descriptors()
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  for as long as the program runs
            setattr(sys, name, stream)
