"""Independent calls in torch's threads: each is made once, at the same time if threads allow."""

import threading

import pytest
import torch

from moma_cl.core import openmp
from moma_cl.core.denormals import denormals_flushed, without_denormals
from moma_cl.core.openmp import in_torch_threads


@pytest.fixture(params=["OpenMP", "threads of ours"])
def _two_threads(request, monkeypatch):
    if request.param != "OpenMP":
        monkeypatch.setattr(openmp, "_parallel", lambda: None)
    elif openmp._parallel() is None:
        pytest.skip("torch uses another OpenMP here")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_two_calls_are_made_at_the_same_time():
    meeting = threading.Barrier(2, timeout=30.0)
    in_torch_threads([meeting.wait, meeting.wait])


@pytest.mark.usefixtures("_two_threads")
def test_each_call_is_made_once():
    made = []
    in_torch_threads([lambda n=n: made.append(n) for n in range(5)])
    assert sorted(made) == list(range(5))


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_a_call_is_raised(place):
    meeting = threading.Barrier(2, timeout=30.0)

    def call(number):
        meeting.wait()
        if number == place:
            raise ValueError("one of two")

    with pytest.raises(ValueError, match="one of two"):
        in_torch_threads([lambda: call(0), lambda: call(1)])


@pytest.mark.usefixtures("_two_threads")
def test_denormals_are_taken_as_by_the_caller():
    for flushed in (True, False):
        meeting = threading.Barrier(2, timeout=30.0)
        answers = []

        def ask(meeting=meeting, answers=answers):
            meeting.wait()
            answers.append(denormals_flushed())

        if flushed:
            with without_denormals():
                in_torch_threads([ask, ask])
        else:
            in_torch_threads([ask, ask])
        assert answers == [flushed, flushed]


def test_with_one_thread_calls_are_made_in_turn():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = []
    try:
        in_torch_threads([lambda n=n: made.append((n, threading.get_ident())) for n in range(3)])
    finally:
        torch.set_num_threads(before)
    assert made == [(n, threading.get_ident()) for n in range(3)]
