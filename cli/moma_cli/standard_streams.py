"""Standard input, output and error, which may be closed or lead to where nothing can be written."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from moma_store.standard_descriptors import open_closed_descriptors

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Let the null device stand for each stream that is closed, in Python and below it."""
    open_closed_descriptors()
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  for as long as the program runs
            setattr(sys, name, stream)


def flush_or_discard(stream: TextIO) -> bool:
    """Flush a stream; if that fails, let the null device take what is left, and tell so.

    What is still in the buffer would else raise again when the program ends.
    """
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno())
        os.close(null)
        return False
    return True
