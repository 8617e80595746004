"""Functions that Numba compiles on first use; compiled code is kept on disk for later starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])

logger = logging.getLogger(__name__)


def compiled(function: Function) -> Function:
    """Compile a function of numbers and arrays; other threads run while it runs.

    What it calls must be compiled as well and stand in the same file, or else a change of that file
    would leave the old code in use.
    """
    kept: Function = numba.njit(cache=True, nogil=True)(function)
    return kept


class _Announcer(event.Listener):  # type: ignore[misc]  # numba is untyped
    """Says once in a process that functions are being compiled, which takes some seconds."""

    said = False

    def on_start(self, event: Any) -> None:
        package = __name__.partition(".")[0]
        ours = event.data["dispatcher"].py_func.__module__.startswith(f"{package}.")
        if ours and not self.said:
            self.said = True
            logger.info("compiling the backbone's kernels, once after installing: 8 to 15 s")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())
