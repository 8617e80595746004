"""A hub whose inbox deliveries can be put into."""

import shutil
from pathlib import Path

import pytest

from tests.helpers import hubs
from tests.helpers.rows import json_lines


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    """A hub with one task of thirty rows and nothing stale."""
    hub = hubs.make_hub(tmp_path_factory.mktemp("founded") / "hub")
    hubs.add_task(hub, "energy", 30, unit="eV/atom", module="none")
    return hub


@pytest.fixture
def hub(founded, tmp_path):
    return Path(shutil.copytree(founded, tmp_path / "hub"))


@pytest.fixture
def deliver(hub):
    def put(rows, name="night.jsonl", folder="energy"):
        file = hub / "inbox" / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rows if isinstance(rows, str) else json_lines(rows))
        return file

    return put
