"""Independent calls in the threads that torch computes with.

These threads wait for torch's next loop in a loop of their own, for milliseconds, and would share
their cores with threads of ours. So calls are made in them, by OpenMP, which torch uses on Linux.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

from moma_cl.core.denormals import denormals_flushed

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def in_torch_threads(calls: Sequence[Callable[[], object]]) -> None:
    """Make calls, as many at once as torch may use threads.

    Parameters
    ----------
    calls
        None may need what another does. If one fails, its error is raised, and those that have not
        begun may never be made.
    """
    n_threads = min(len(calls), torch.get_num_threads())
    if n_threads < 2:
        for call in calls:
            call()
        return
    remaining, flushed = iter(calls), denormals_flushed()
    errors: list[BaseException] = []

    def work(_: int | None = None) -> None:
        try:
            torch.set_flush_denormal(flushed)
            for call in remaining:  # each thread takes the next
                call()
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)

    parallel = _parallel()
    if parallel is None:
        others = [_helpers(os.getpid()).submit(work) for _ in range(n_threads - 1)]
        work()
        for other in others:
            other.result()
    else:
        parallel(_BODY(work), None, n_threads, 0)
    if errors:
        raise errors[0]


@cache
def _parallel() -> Callable[..., None] | None:
    """Give the function of GNU OpenMP that runs another in all threads, if there is one."""
    if not sys.platform.startswith("linux"):
        return None
    bundled = sorted(Path(torch.__file__).with_name("lib").glob("libgomp*"))
    try:
        parallel = ctypes.CDLL(str(bundled[0]) if bundled else "libgomp.so.1").GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    function: Callable[..., None] = parallel
    return function


@cache
def _helpers(process: int) -> ThreadPoolExecutor:
    """Start threads of ours; a process that was forked has none of its parent's."""
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix=f"calls-{process}")
