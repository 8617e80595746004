"""Deliveries that are in the way: none is lost, and none keeps the others out."""

import gzip
import json
import os
import time
import zlib
from pathlib import Path

import pytest

from moma_cl.automation import inbox
from moma_cl.automation.notices import what_to_do
from moma_cl.automation.state_files import read_state
from moma_cl.automation.status import status
from moma_cl.datasets.source_files import source_of
from moma_store.errors import InvalidInputError
from tests.helpers.inboxes import add_delivered, names, stored, targets, told, update
from tests.helpers.rows import json_lines


@pytest.mark.fault("a delivery that changes while it is put away")
def test_what_is_written_between_report_and_move_is_added_by_the_next_pass(
    hub, deliver, made_up, monkeypatch
):
    file = deliver(made_up(2, first=30))
    rename = Path.rename

    def late(path, target):
        if path == file:
            with file.open("a") as stream:
                stream.write(json_lines(made_up(1, first=32)))
            monkeypatch.setattr(Path, "rename", rename)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    assert told(add_delivered(hub), "added") == ["energy/night.jsonl: rows: 2 added"]
    assert names(file.parent / "done") == []
    assert told(add_delivered(hub), "added") == [
        "energy/night.jsonl: rows: 1 added, 2 there already"
    ]
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32"]
    assert names(file.parent / "done") == ["night.jsonl", "night.jsonl.report.json"]


@pytest.mark.fault("a delivery that changes while it is put away")
def test_what_comes_back_keeps_apart_from_what_has_taken_its_name(
    hub, deliver, made_up, monkeypatch
):
    file = deliver(made_up(2, first=30))
    rename = Path.rename

    def late(path, target):
        if path != file:
            return rename(path, target)
        monkeypatch.setattr(Path, "rename", rename)
        with file.open("a") as stream:
            stream.write(json_lines(made_up(1, first=32)))
        moved = rename(path, target)
        deliver(made_up(1, first=33))
        return moved

    monkeypatch.setattr(Path, "rename", late)
    add_delivered(hub)
    add_delivered(hub)
    assert sorted(stored(hub)[30:]) == ["row-30", "row-31", "row-32", "row-33"]


@pytest.mark.parametrize("name", ["x" * 240 + ".jsonl", "é" * 120 + ".jsonl", "x" * 255])
def test_a_long_name_leaves_room_for_the_report_s(hub, deliver, made_up, name):
    file = deliver(made_up(2, first=30), name=name)
    folder = "done" if name.endswith(".jsonl") else "refused"
    assert [entry.action for entry in add_delivered(hub)] == [
        "added" if folder == "done" else "refused"
    ]
    assert not file.exists()
    moved, report = names(hub / "inbox" / "energy" / folder)
    assert report == f"{moved}.report.json"
    assert moved.endswith(".jsonl") == name.endswith(".jsonl")
    document = json.loads((hub / "inbox" / "energy" / folder / report).read_text())
    assert document["file"] == name


@pytest.mark.fault("a folder that cannot be read")
@pytest.mark.parametrize("closed", ["energy", "energy/replace"])
def test_a_folder_that_cannot_be_read_stops_no_other(
    hub, deliver, add_task, made_up, monkeypatch, closed
):
    add_task("gap", 30, unit="eV", module="none")
    deliver(made_up(1, first=30), folder="gap")
    beside = deliver(made_up(1, first=30))
    folder = hub / "inbox" / closed
    folder.mkdir(exist_ok=True)
    listing = Path.iterdir

    def refused(path):
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return listing(path)

    # root, as whom tests may run, can read every folder
    monkeypatch.setattr(Path, "iterdir", refused)
    done = update(hub)
    assert "gap/night.jsonl: rows: 1 added" in told(done, "added")
    assert beside.exists() == (closed == "energy")
    assert told(done, "unfinished") == [
        f"{closed} is left alone: the folder cannot be read (Permission denied)"
    ]
    (left,) = [entry for entry in done if entry.action == "unfinished"]
    assert what_to_do(left) == "let the user that moma-cl runs as read it, or remove it"
    seen = status(hub).inbox
    assert seen.unfinished == {closed: "the folder cannot be read (Permission denied)"}
    assert seen.unclaimed == {}


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, "9" * 10_000])
def test_json_beyond_reason_stops_no_other(hub, deliver, made_up, content):
    deliver(content, name="deep.jsonl")
    deliver(made_up(1, first=30))
    assert status(hub).inbox.waiting == ("energy/deep.jsonl", "energy/night.jsonl")
    done = add_delivered(hub)
    assert len(told(done, "refused")) == len(told(done, "added")) == 1


def test_a_state_nested_beyond_reason_counts_as_none(tmp_path):
    (tmp_path / "told.json").write_text('{"told":' * 200_000)
    assert read_state(tmp_path / "told.json") is None


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.json.gz", "bomb.tar.gz"])
def test_a_bomb_is_looked_at_in_bounded_time_and_refused(hub, name):
    size = 1 << 28
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    (hub / "inbox" / "energy" / name).write_bytes(packed)
    (seen,) = inbox.look(hub)
    began = time.process_time()
    assert inbox.why_incomplete(seen) is None
    assert time.process_time() - began < 0.3  # unpacking all takes longer
    assert len(told(add_delivered(hub), "refused")) == 1


def test_a_glance_unpacks_only_so_much(hub):
    file = hub / "inbox" / "energy" / "large.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n' * 100_000 + b'{"a"'))
    (seen,) = inbox.look(hub)
    assert inbox.why_incomplete(seen) == "its end is cut off"
    assert inbox.why_incomplete(seen, most=10_000) is None


def test_a_device_has_no_digest(tmp_path):
    assert source_of(Path("/dev/zero")) == {"name": "zero"}
    os.mkfifo(tmp_path / "pipe")
    assert source_of(tmp_path / "pipe") == {"name": "pipe"}


def test_a_named_pipe_keeps_nobody_waiting(hub):
    os.mkfifo(hub / "inbox" / "energy" / "pipe.jsonl")
    assert add_delivered(hub) == []


def test_a_delivery_with_a_correction_replaces_once_it_is_put_there(hub, deliver, made_up):
    rows = [*made_up(2, first=30), {**made_up(1)[0], "energy": 7.0}]
    deliver(rows)
    assert told(add_delivered(hub), "added") == ["energy/night.jsonl: rows: 2 added, 1 refused"]
    (hub / "inbox/energy/replace").mkdir()
    (hub / "inbox/energy/done/night.jsonl").rename(hub / "inbox/energy/replace/night.jsonl")
    assert told(add_delivered(hub), "added") == [
        "energy/replace/night.jsonl: rows: 1 added, 2 there already"
    ]
    assert targets(hub)["row-0"] == 7.0


def test_a_correction_can_be_taken_back_and_made_again(hub, deliver, made_up):
    corrected = {**made_up(1)[0], "energy": 7.0}
    for rows, energy in (
        ([corrected], 7.0),
        (made_up(1), made_up(1)[0]["energy"]),
        ([corrected], 7.0),
    ):
        deliver(rows, folder="energy/replace")
        assert told(add_delivered(hub), "added") == ["energy/replace/night.jsonl: rows: 1 added"]
        assert targets(hub)["row-0"] == energy


def test_deliveries_of_one_pass_count_as_if_each_had_a_pass_of_its_own(hub, deliver, made_up):
    first, second = made_up(2, first=30)
    corrected, later = {**first, "energy": 7.0}, {**first, "energy": 8.0}
    deliver([first], name="a.jsonl")
    deliver([first, second], name="b.jsonl")
    deliver([corrected], name="c.jsonl")
    deliver([corrected], name="d.jsonl", folder="energy/replace")
    deliver([later], name="e.jsonl", folder="energy/replace")
    done = add_delivered(hub)
    assert [(entry.action, entry.text) for entry in done] == [
        ("added", "energy/a.jsonl: rows: 1 added"),
        ("added", "energy/b.jsonl: rows: 1 added, 1 there already"),
        ("refused", "energy/c.jsonl: rows: 1 refused"),
        ("added", "energy/replace/d.jsonl: rows: 1 added"),
        ("added", "energy/replace/e.jsonl: rows: 1 added"),
    ]
    assert [entry.figures["replaced"] for entry in done] == [0, 0, 0, 1, 1]
    assert targets(hub)["row-30"] == 8.0
    assert targets(hub)["row-31"] == second["energy"]
    assert len(targets(hub)) == 32


def test_a_delivery_that_spoils_the_others_is_refused_alone(hub, deliver, made_up, monkeypatch):
    from moma_cl.datasets import added_rows

    append = added_rows.append_rows

    def picky(store, state, intake, *rest):
        if "row-31" in intake.ids:
            raise InvalidInputError("row-31 makes all targets equal")
        return append(store, state, intake, *rest)

    monkeypatch.setattr(added_rows, "append_rows", picky)
    for number in (30, 31, 32):
        deliver(made_up(1, first=number), name=f"{number}.jsonl")
    done = add_delivered(hub)
    assert told(done, "refused") == ["energy/31.jsonl: row-31 makes all targets equal"]
    assert len(told(done, "added")) == 2
    assert stored(hub)[30:] == ["row-30", "row-32"]
