"""Threads: how many a computation uses, and independent computations at the same time.

Computations run side by side in threads: torch lets others run while it computes, and all of them
read the same graphs. Each computes what it would alone, to the last bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

from moma_cl.core.cores import n_cores

Result = TypeVar("Result")

_ALONE: ContextVar[bool] = ContextVar("_ALONE", default=False)


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Compute with a fixed number of threads: sums round differently with another number.

    Parameters
    ----------
    count
        Threads for torch and for linear algebra.

    Yields
    ------
    None
        While the number holds.
    """
    # scipy has a BLAS of its own, which would not be limited if it were loaded later
    import scipy.linalg  # noqa: F401

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with _thread_pools(len(sys.modules)).limit(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _thread_pools(n_imported: int) -> ThreadpoolController:  # noqa: ARG001  the key of the cache
    """Find the libraries that use threads, anew whenever something was imported."""
    return ThreadpoolController()


@contextmanager
def one_by_one() -> Iterator[None]:
    """Make the calls of `side_by_side` in turn, where the other cores are other processes'."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make calls at once, and give what they return.

    As many threads compute as there are cores, those included that each call computes with. What
    the first of them raises is raised at once, as is an interrupt; what has not begun then never
    does, and what has begun is not waited for, except by the end of the process.

    Parameters
    ----------
    calls
        To be made.

    Returns
    -------
    list[Result]
        What each returned, in their order.
    """
    with closing(as_they_end(calls)) as ended:
        results = dict(ended)
    return [results[index] for index in range(len(calls))]


def as_they_end(calls: Sequence[Callable[[], Result]]) -> Generator[tuple[int, Result]]:
    """Make calls as `side_by_side` does, and give what each returns as soon as it has.

    Whoever stops asking closes the generator: it does not wait for the rest.

    Parameters
    ----------
    calls
        To be made.

    Yields
    ------
    tuple[int, Result]
        The place of a call among those given, and what it returned.
    """
    each = torch.get_num_threads()
    count = min(len(calls), n_cores() // each)
    if count < 2 or _ALONE.get():
        for index, call in enumerate(calls):
            yield index, call()
        return
    # OpenMP counts threads for each thread that asks, torch only once
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(each,))
    try:
        places = {pool.submit(call): index for index, call in enumerate(calls)}
        for future in as_completed(places):
            yield places[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
