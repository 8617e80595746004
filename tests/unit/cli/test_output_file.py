"""Files that commands write: whole, of one run, and never in the place of a device."""

import os
import stat
import threading

import pytest

from moma_cli.output_file import final_path, published, unfinished_path, write_file
from moma_store.errors import BusyError, InvalidInputError


def interrupted(file, text):
    with published(file, keep=True) as path:
        path.write_text(text)
        raise KeyboardInterrupt


def test_an_interrupted_run_leaves_its_rows_behind_and_no_empty_file(tmp_path):
    file = tmp_path / "out.jsonl"
    for text, left in (("", False), ("row\n", True)):
        with pytest.raises(KeyboardInterrupt):
            interrupted(file, text)
        assert unfinished_path(file).exists() is left
    with published(file, keep=True) as path:
        path.write_text("row\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_two_runs_do_not_write_one_file(tmp_path):
    file = tmp_path / "out.jsonl"
    with published(file, keep=True) as path:
        path.write_text("first\n")
        with (
            pytest.raises(BusyError, match="another run is writing"),
            published(file, keep=True) as second,
        ):
            second.write_text("second\n")
    assert file.read_text() == "first\n"
    with published(file, keep=True) as path:
        path.write_text("third\n")
    assert file.read_text() == "third\n"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_file(pipe, "rows\n")
    reader.join(10)
    assert read == ["rows\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_the_target_of_a_link_is_replaced_and_not_the_link(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder / "file")
    for text in ("new\n", "newer\n"):  # the first time it points nowhere
        write_file(tmp_path / "link", text)
        assert (folder / "file").read_text() == text
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null"])
def test_what_the_process_has_open_is_not_looked_for_elsewhere(name, tmp_path):
    assert str(final_path(tmp_path / ".." / name)) == name


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="is a folder"):
        write_file(tmp_path, "rows\n")
