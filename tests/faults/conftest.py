"""An empty hub for the tests of the store."""

import pytest

from tests.helpers.stores import new_store


@pytest.fixture
def hub(tmp_path):
    """A hub with nothing in it."""
    new_store(tmp_path / "hub").close()
    return tmp_path / "hub"
