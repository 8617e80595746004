"""Counts that the fault tests reach, printed at the end of a run."""

import pytest

_REACHED = pytest.StashKey[list[str]]()


@pytest.fixture
def reached(request):
    """Call with a line to be printed once the run is over."""
    lines = request.config.stash.setdefault(_REACHED, [])
    return lines.append


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(_REACHED, [])
    if lines:
        terminalreporter.section("faults survived")
        for line in lines:
            terminalreporter.line(line)
