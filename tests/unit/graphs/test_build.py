import os
from contextlib import closing

import pytest

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.core.worker_process import Worker
from moma_cl.graphs import build as graph_building
from moma_cl.graphs.build import built
from moma_cl.graphs.build_worker import entries_of
from moma_cl.testing.crystals import example_crystals, isolated_atom

CHUNKS = [list(example_crystals().values()), [isolated_atom()], list(example_crystals().values())]
EXPECTED = [entries_of(chunk, CHGNetBackbone) for chunk in CHUNKS]


@pytest.fixture
def started(graph_processes, monkeypatch):
    """Two cores and work enough for both, with the processes that are started."""
    monkeypatch.setattr(graph_building, "_ATOMS_PER_WORKER", 1)
    monkeypatch.setattr(graph_building, "n_cores", lambda: 2)
    return graph_processes


def ended(name):
    return Worker("a_module_that_does_not_exist")


def test_processes_build_the_same_bytes_as_one_and_are_gone_afterwards(started, monkeypatch):
    monkeypatch.setattr(graph_building, "entries_of", None)  # nothing may be built here
    assert list(built(CHUNKS, CHGNetBackbone)) == EXPECTED
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_what_ended_processes_leave_undone_is_done_here(started, monkeypatch):
    monkeypatch.setattr(graph_building, "_started", ended)
    assert list(built(CHUNKS, CHGNetBackbone)) == EXPECTED


def test_stopping_early_ends_the_processes(started, monkeypatch):
    original = ended(None)
    monkeypatch.setattr(graph_building, "_started", lambda name: original)
    with closing(built(CHUNKS, CHGNetBackbone)) as answers:
        next(answers)
    assert original.process.returncode is not None


def test_little_work_starts_no_process(started, monkeypatch):
    monkeypatch.setattr(graph_building, "_ATOMS_PER_WORKER", 1000)
    assert list(built(CHUNKS, CHGNetBackbone)) == EXPECTED
    assert started == []


def test_a_backbone_that_no_process_would_find_is_built_here(started):
    class Unregistered(CGCNNBackbone):
        name = "unregistered"

    assert len(list(built(CHUNKS, Unregistered))) == len(CHUNKS)
    assert started == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_the_process_may_not_use_are_left_alone():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert graph_building.n_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
