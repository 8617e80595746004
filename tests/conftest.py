"""Fixtures for all tests, and the count of the faults they survive."""

from collections import Counter
from functools import partial

import pytest

from moma_cl.core import devices
from moma_cl.recipe import Recipe
from tests.helpers import hubs
from tests.helpers.rows import made_up_rows
from tests.helpers.rows import write_rows as write_rows_to


@pytest.fixture(scope="session", autouse=True)
def only_the_cpu():
    """Hide the machine's GPU, if it has one: equal bits are promised on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_present", lambda: [devices.CPU])
        yield


@pytest.fixture(scope="session")
def made_up():
    """Rows by number, as dictionaries."""
    return made_up_rows


@pytest.fixture
def write_rows(tmp_path):
    """Write rows as JSON lines and give the path."""
    return lambda rows, name="rows.jsonl": write_rows_to(tmp_path / name, rows)


@pytest.fixture(scope="session")
def short_recipe() -> Recipe:
    """One thread, and trainings of a second."""
    return hubs.short_recipe()


@pytest.fixture(scope="module")
def second_backbone(tmp_path_factory):
    """Another small backbone beside the one that ships, for the tests of a module."""
    from tests.helpers.second_backbone import installed  # loads torch

    with installed(tmp_path_factory.mktemp("second")):
        yield


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits for a hold of the writer lock that might be short."""
    monkeypatch.setattr("moma_store.locking.PATIENCE", 0.0)


@pytest.fixture
def hub(tmp_path):
    """A hub of the small backbone with nothing in it."""
    return hubs.make_hub(tmp_path / "hub")


@pytest.fixture
def add_task(hub):
    """Add a task to the hub; see `hubs.add_task`."""
    return partial(hubs.add_task, hub)


@pytest.fixture
def add_data(hub):
    """Add rows to a task of the hub; see `hubs.add_data`."""
    return partial(hubs.add_data, hub)


@pytest.fixture
def graph_processes(monkeypatch):
    """The processes that are started to build graphs."""
    from moma_cl.graphs import build

    processes = []
    original = build._started

    def start(name):
        worker = original(name)
        processes.append(worker.process)
        return worker

    monkeypatch.setattr(build, "_started", start)
    return processes


@pytest.fixture
def reached(record_property):
    """Call with a line to be printed once the run is over."""
    return partial(record_property, "reached")


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))


def pytest_terminal_summary(terminalreporter):
    told = [
        told
        for report in terminalreporter.stats.get("passed", [])
        for told in report.user_properties
    ]
    lines = [line for name, line in told if name == "reached"]
    cases = Counter(fault for name, fault in told if name == "fault")
    lines += [f"{fault}: {number}" for fault, number in sorted(cases.items())]
    if lines:
        terminalreporter.section("faults survived")
        for line in lines:
            terminalreporter.line(line)
