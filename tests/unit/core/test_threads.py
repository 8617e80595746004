"""Independent computations at once: the same results, the first error, no waiting for the rest."""

import threading
import time
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from moma_cl.core import threads as module
from moma_cl.core.threads import one_by_one, side_by_side


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2, 8])
def cores(request, monkeypatch):
    monkeypatch.setattr(module, "n_cores", lambda: request.param)
    return request.param


def test_results_come_in_the_order_of_the_calls(cores):
    waits = [0.05, 0.0, 0.02, 0.0]
    assert side_by_side([partial(_slept, w, i) for i, w in enumerate(waits)]) == [0, 1, 2, 3]
    assert side_by_side([]) == []


def _slept(seconds, result):
    time.sleep(seconds)
    return result


def test_as_many_run_at_once_as_there_are_cores(cores):
    met = threading.Barrier(min(cores, 4))
    side_by_side([partial(met.wait, 10.0) for _ in range(4)])  # 4 = a multiple of each


def test_threads_compute_with_as_many_threads_as_their_owner(cores):
    torch.set_num_threads(3)
    assert side_by_side([torch.get_num_threads] * 4) == [3] * 4


@pytest.mark.parametrize(
    ("n_threads", "alone", "n_used"), [(3, False, 2), (8, False, 1), (1, True, 1)]
)
def test_no_more_threads_compute_than_there_are_cores(monkeypatch, n_threads, alone, n_used):
    monkeypatch.setattr(module, "n_cores", lambda: 8)
    torch.set_num_threads(n_threads)
    with one_by_one() if alone else nullcontext():
        threads = side_by_side([partial(_slept_in, 0.05)] * 6)
    assert len(set(threads)) == n_used


def _slept_in(seconds):
    time.sleep(seconds)
    return threading.get_ident()


def test_an_error_is_raised_at_once_and_what_has_not_begun_never_does(monkeypatch):
    monkeypatch.setattr(module, "n_cores", lambda: 2)
    release, begun = threading.Event(), []

    def wait():
        begun.append("wait")
        release.wait(30.0)

    def fail():
        raise ValueError("no")

    start = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        side_by_side([wait, fail, partial(begun.append, "late"), partial(begun.append, "late")])
    assert time.monotonic() - start < 10.0
    release.set()
    assert begun[0] == "wait"
