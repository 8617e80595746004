"""Functions that Numba compiles on first use; compiled code is kept on disk for later starts."""

from __future__ import annotations

import gc
import hashlib
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for cycles, which takes half of the time that Numba needs to start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


with _collector_paused():
    import numba
    import numpy.ma  # noqa: F401  Numba imports it at the first call
    from numba.core import event
    from numba.core.caching import FunctionCache, IndexDataCacheFile

Function = TypeVar("Function", bound=Callable[..., Any])

logger = logging.getLogger(__name__)


def compiled(function: Function) -> Function:
    """Compile a function of numbers and arrays; other threads run while it runs.

    What it calls must be compiled as well, and stand in its folder or in that of this file: it is
    compiled anew when a file of these folders changes.
    """
    kept = numba.njit(nogil=True)(function)
    kept._cache = _Cache(function)
    result: Function = kept
    return result


class _Cache(FunctionCache):  # type: ignore[misc]  # numba is untyped
    """Compiled code on disk; Numba's own is renewed only when the function's own file changes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        base = self._impl.filename_base
        stamp = _sources_digest(Path(inspect.getfile(function)).parent)
        self._cache_file = IndexDataCacheFile(self.cache_path, base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Give kept code, or None; the first call in a process starts much of Numba."""
        with _collector_paused():
            return super().load_overload(sig, target_context)


@cache
def _sources_digest(folder: Path) -> str:
    """Digest the files of a folder, and of this one, whose `vector_code` writes code."""
    files = sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py")})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Announcer(event.Listener):  # type: ignore[misc]  # numba is untyped
    """Says once in a process that functions are being compiled, which takes some seconds."""

    said = False

    def on_start(self, event: Any) -> None:
        package = __name__.partition(".")[0]
        ours = event.data["dispatcher"].py_func.__module__.startswith(f"{package}.")
        if ours and not self.said:
            self.said = True
            logger.info("compiling the backbone's kernels, once after installing: 8 to 13 s")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())
