"""Independent computations at the same time, on the cores that this process may use.

In threads: torch lets others run while it computes, and all of them read the same graphs. Each
computes what it would alone, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")


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


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make calls, as many at once as there are cores, and give what they return.

    What the first of them raises is raised at once, as is an interrupt; what has not begun then
    never does, and what has begun is not waited for.

    Parameters
    ----------
    calls
        To be made.

    Returns
    -------
    list[Result]
        What each returned, in their order.
    """
    count = min(len(calls), n_cores())
    if count < 2:
        return [call() for call in calls]
    # OpenMP counts threads for each thread that asks, torch only once
    pool = ThreadPoolExecutor(
        count, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )
    try:
        futures = [pool.submit(call) for call in calls]
        ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in ended:
            future.result()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
