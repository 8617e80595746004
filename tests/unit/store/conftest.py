"""An empty hub, as a path and as an open store."""

import pytest

from tests.helpers.stores import new_store


@pytest.fixture
def hub(tmp_path):
    """A hub with nothing in it."""
    new_store(tmp_path / "hub").close()
    return tmp_path / "hub"


@pytest.fixture
def store(tmp_path):
    """A hub with nothing in it, open for writing."""
    with new_store(tmp_path / "hub") as store:
        yield store
