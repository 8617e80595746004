"""Durable file operations."""

import pytest

from moma_store.errors import StorageError
from moma_store.files import Files


def fail(path):
    with Files().write_new(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt


def test_a_new_file_that_fails_is_gone_and_one_that_was_there_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").write_text("another run's")
    with pytest.raises(StorageError, match="File exists"):
        fail(tmp_path / "new")
    assert (tmp_path / "new").read_text() == "another run's"
