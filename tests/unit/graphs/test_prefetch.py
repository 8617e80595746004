"""Graphs of a stream, built in a second process while the first works on."""

from contextlib import closing

import pytest

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.core.worker_process import Worker
from moma_cl.graphs import build as graph_building
from moma_cl.graphs import prefetch
from moma_cl.graphs.codec import encode
from moma_cl.graphs.prefetch import with_graphs
from moma_cl.testing.crystals import example_crystals, isolated_atom

CHUNKS = [list(example_crystals().values()), [isolated_atom()], [], [isolated_atom()] * 2] * 5
EXPECTED = [
    (place, [encode(graph.to_dict()) for graph in CHGNetBackbone.to_graphs(chunk)])
    for place, chunk in enumerate(CHUNKS)
]


@pytest.fixture
def started(graph_processes, monkeypatch):
    """Two cores and a stream that is taken for long at once, with the processes that are started."""
    monkeypatch.setattr(prefetch, "n_cores", lambda: 2)
    monkeypatch.setattr(prefetch, "_ALONE", 1)
    return graph_processes


@pytest.fixture
def at_once(monkeypatch):
    """Wait for the process instead of going on here."""

    def wait(started, chunks):
        started.result()
        return iter(())

    monkeypatch.setattr(prefetch, "_until", wait)


def taken(backbone=CHGNetBackbone):
    found = with_graphs(enumerate(CHUNKS), backbone)
    return [(place, [encode(graph.to_dict()) for graph in graphs]) for place, graphs in found]


def test_another_process_builds_the_same_graphs_in_the_same_order(started, at_once, monkeypatch):
    monkeypatch.setattr(graph_building, "entries_of", None)  # nothing is done for the process
    assert taken() == EXPECTED
    assert [process.returncode is not None for process in started] == [True]


def test_what_comes_before_the_process_is_ready_is_built_here(started, monkeypatch):
    assert taken() == EXPECTED


def test_what_a_process_that_ended_leaves_undone_is_done_here(started, at_once, monkeypatch):
    monkeypatch.setattr(
        graph_building, "_started", lambda name: Worker("a_module_that_does_not_exist")
    )
    assert taken() == EXPECTED


def test_no_more_chunks_are_read_than_fit_and_stopping_ends_the_process(started, at_once):
    read = []

    def chunks():
        for place, chunk in enumerate(CHUNKS):
            read.append(place)
            yield place, chunk

    with closing(with_graphs(chunks(), CHGNetBackbone)) as found:
        places = [next(found)[0] for _ in range(4)]
    assert places == [0, 1, 2, 3]
    assert read[-1] <= 3 + prefetch._AHEAD
    assert started[0].returncode is not None


def test_short_streams_single_cores_and_unknown_backbones_start_no_process(started, monkeypatch):
    class Unregistered(CGCNNBackbone):
        name = "unregistered"

    assert len(taken(Unregistered)) == len(CHUNKS)
    monkeypatch.setattr(prefetch, "n_cores", lambda: 1)
    assert taken() == EXPECTED
    monkeypatch.setattr(prefetch, "n_cores", lambda: 2)
    monkeypatch.setattr(prefetch, "_ALONE", len(CHUNKS))
    assert taken() == EXPECTED
    assert started == []
