"""The inbox: each delivery is taken in exactly once, and only when it is complete."""

import gzip
import json
import os
from pathlib import Path

import pytest

from moma_cl.automation import delivery_batches, inbox
from moma_cl.datasets.source_files import content_digest, signature
from moma_cl.hub import Hub
from moma_store.errors import StorageError
from tests.helpers import hubs
from tests.helpers.hubs import open_workspace
from tests.helpers.inboxes import add_delivered, names, sources, stored, targets, told, update
from tests.helpers.rows import json_lines


def test_a_new_task_has_its_folder(hub):
    assert (hub / "inbox" / "energy").is_dir()


def test_a_delivery_is_added_learned_and_put_away_with_a_report(hub, deliver, made_up):
    file = deliver(made_up(4, first=30))
    digest = content_digest(file)
    done = update(hub)
    assert told(done, "added") == ["energy/night.jsonl: rows: 4 added"]
    # thirty rows promise more than they can keep, so that these are drift
    assert ("energy", "held") in [(d.task, d.action) for d in done]
    assert len(stored(hub)) == 34
    assert sources(hub)[-1] == ({"name": "night.jsonl", "sha256": digest},)
    away = hub / "inbox" / "energy" / "done"
    assert names(away) == ["night.jsonl", "night.jsonl.report.json"]
    report = json.loads((away / "night.jsonl.report.json").read_text())
    assert (report["rows"], report["sha256"], report["task"]) == (4, digest, "energy")
    assert update(hub) == []


def test_deliveries_are_stored_together_in_the_order_of_their_names(hub, deliver, made_up):
    deliver(made_up(3, first=32), name="b.jsonl")
    deliver(made_up(2, first=30), name="a.jsonl")
    assert told(add_delivered(hub), "added") == [
        "energy/a.jsonl: rows: 2 added",
        "energy/b.jsonl: rows: 3 added",
    ]
    assert [[(s["name"], s["rows"]) for s in one] for one in sources(hub)[1:]] == [
        [("a.jsonl", 2), ("b.jsonl", 3)]
    ]
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32", "row-33", "row-34"]


def test_a_folder_with_a_table_is_one_delivery(hub):
    folder = hub / "inbox" / "energy" / "batch"
    folder.mkdir()
    poscar = "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    (folder / "salt.vasp").write_text(poscar)
    (folder / "id_prop.csv").write_text("id,energy\nsalt,-1.5\n")
    assert told(add_delivered(hub), "added") == ["energy/batch: rows: 1 added"]
    assert (hub / "inbox" / "energy" / "done" / "batch" / "salt.vasp").exists()
    assert "sha256" in sources(hub)[-1][0]


@pytest.mark.fault("a delivery that is still being written")
@pytest.mark.parametrize("name", [".night.jsonl", "night.jsonl.part", "night.jsonl.TMP", "n~"])
def test_unfinished_names_are_left_alone(hub, deliver, made_up, name):
    file = deliver(made_up(2, first=30), name=name)
    assert add_delivered(hub) == []
    assert file.exists()


@pytest.mark.fault("a delivery that is still being written")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda whole: b"", "empty"),
        (lambda whole: whole[:-20], "cut off"),
        (lambda whole: gzip.compress(whole)[:-12], "cut off"),
    ],
)
def test_what_cannot_be_complete_waits_until_it_is(hub, made_up, spoil, why):
    whole = json_lines(made_up(3, first=30)).encode()
    compressed = spoil(whole)[:2] == b"\x1f\x8b"
    file = hub / "inbox" / "energy" / ("night.jsonl.gz" if compressed else "night.jsonl")
    file.write_bytes(spoil(whole))
    assert add_delivered(hub) == []
    (seen,) = inbox.look(hub)
    assert why in inbox.why_incomplete(seen)
    file.write_bytes(gzip.compress(whole) if compressed else whole)
    assert told(add_delivered(hub), "added") == [f"energy/{file.name}: rows: 3 added"]


def test_a_last_line_without_its_end_is_complete_if_it_is_json(hub, deliver, made_up):
    deliver(json_lines(made_up(3, first=30)).rstrip("\n"))
    assert len(told(add_delivered(hub), "added")) == 1
    assert len(stored(hub)) == 33


@pytest.mark.fault("a delivery that is still being written")
def test_a_file_that_grows_between_two_looks_waits(hub, deliver, made_up, monkeypatch):
    file = deliver(made_up(2, first=30))

    def grow(seconds):
        with file.open("a") as stream:
            stream.write(json_lines(made_up(1, first=32)))

    monkeypatch.setattr(inbox.time, "sleep", grow)
    assert add_delivered(hub) == []
    monkeypatch.setattr(inbox.time, "sleep", lambda seconds: None)
    add_delivered(hub)
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32"]


@pytest.mark.parametrize("jump", [-3e8, 3e8])
def test_times_of_change_may_be_anything(hub, deliver, made_up, jump):
    file = deliver(made_up(2, first=30))
    os.utime(file, (1.7e9 + jump,) * 2)
    assert len(told(add_delivered(hub), "added")) == 1


@pytest.mark.fault("a delivery that is still being written")
def test_what_is_written_while_it_is_read_is_added_later(hub, deliver, made_up, monkeypatch):
    from moma_cl.datasets import intake

    file = deliver(made_up(2, first=30))
    take = intake.read_task_rows

    def slow(*arguments, **options):
        read = take(*arguments, **options)
        with file.open("a") as stream:
            stream.write(json_lines(made_up(1, first=32)))
        return read

    monkeypatch.setattr(intake, "read_task_rows", slow)
    assert told(add_delivered(hub), "added") == []
    assert (file.exists(), len(stored(hub))) == (True, 30)
    monkeypatch.setattr(intake, "read_task_rows", take)
    add_delivered(hub)
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32"]


@pytest.mark.fault("a delivery that is still being written")
def test_what_is_written_after_it_was_read_is_not_lost(hub, deliver, made_up, monkeypatch):
    from moma_cl.datasets import added_rows

    file = deliver(made_up(2, first=30))
    append = added_rows.append_rows

    def late(*arguments):
        added = append(*arguments)
        with file.open("a") as stream:
            stream.write(json_lines(made_up(1, first=32)))
        return added

    monkeypatch.setattr(added_rows, "append_rows", late)
    add_delivered(hub)
    monkeypatch.setattr(added_rows, "append_rows", append)
    add_delivered(hub)
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32"]
    assert not file.exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program catches it."""


@pytest.mark.fault("a pass killed while it takes in the inbox")
@pytest.mark.parametrize("moment", ["before the rows", "after the rows", "after the report"])
def test_a_kill_at_any_step_takes_each_row_in_once(hub, deliver, made_up, monkeypatch, moment):
    from moma_cl.datasets import added_rows

    file = deliver(made_up(3, first=30))

    def killed(*arguments, **options):
        raise Killed

    owner, name = {
        "before the rows": (added_rows, "append_rows"),
        "after the rows": (delivery_batches, "_put_away"),
        "after the report": (Path, "rename"),
    }[moment]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killed)
        with pytest.raises(Killed):
            add_delivered(hub)
    assert file.exists()
    done = add_delivered(hub)
    assert stored(hub)[30:] == ["row-30", "row-31", "row-32"]
    assert len(told(done, "added")) == 1
    assert names(file.parent / "done") == ["night.jsonl", "night.jsonl.report.json"]
    assert not file.exists()


def test_a_delivery_that_was_added_does_not_bring_retracted_rows_back(hub, deliver, made_up):
    deliver(made_up(3, first=30))
    add_delivered(hub)
    Hub(hub).retract("energy", ["row-30"])
    deliver(made_up(3, first=30), name="again.jsonl")
    assert told(add_delivered(hub), "added") == [
        "energy/again.jsonl: nothing to add, its content was added before as night.jsonl"
    ]
    with open_workspace(hub) as (store, workspace):
        assert "row-30" not in workspace.rows(store.ref("datasets/energy")).ids


def test_rows_stored_with_other_content_are_refused_and_named(hub, deliver, made_up):
    changed = [{**row, "energy": 7.0 + i} for i, row in enumerate(made_up(2))]
    deliver([*changed, *made_up(1, first=30)])
    assert told(add_delivered(hub), "added") == ["energy/night.jsonl: rows: 1 added, 2 refused"]
    report = hub / "inbox" / "energy" / "done" / "night.jsonl.report.json"
    rows = json.loads(report.read_text())["refusals"]["rows"]
    assert [row["id"] for row in rows] == ["row-0", "row-1"]


def test_nothing_but_such_rows_is_a_refused_delivery(hub, deliver, made_up):
    deliver([{**made_up(1)[0], "energy": 7.0}])
    assert told(add_delivered(hub), "refused") == ["energy/night.jsonl: rows: 1 refused"]
    assert (hub / "inbox" / "energy" / "refused" / "night.jsonl").exists()
    assert len(stored(hub)) == 30


def test_rows_in_replace_replace(hub, deliver, made_up):
    deliver([{**made_up(1)[0], "energy": 7.0}], folder="energy/replace")
    assert told(add_delivered(hub), "added") == ["energy/replace/night.jsonl: rows: 1 added"]
    assert targets(hub)["row-0"] == 7.0
    assert (hub / "inbox" / "energy" / "done" / "night.jsonl").exists()


def test_a_file_of_no_known_kind_is_refused_and_the_others_go_on(hub, deliver, made_up):
    deliver("hello", name="a.txt")
    deliver(made_up(2, first=30), name="b.jsonl")
    done = add_delivered(hub)
    assert len(told(done, "refused")) == len(told(done, "added")) == 1
    report = json.loads((hub / "inbox/energy/refused/a.txt.report.json").read_text())
    assert report["code"] == "invalid-input.unknown-format"


def test_an_error_that_nobody_foresaw_leaves_the_file_and_the_others_go_on(
    hub, deliver, made_up, monkeypatch
):
    from moma_cl.datasets import intake

    file = deliver(made_up(2, first=30), name="a.jsonl")
    deliver(made_up(2, first=32), name="b.jsonl")
    take = intake.read_task_rows

    def broken(paths, *arguments, **options):
        if paths[0].name == "a.jsonl":
            raise RuntimeError("a bug")
        return take(paths, *arguments, **options)

    monkeypatch.setattr(intake, "read_task_rows", broken)
    done = add_delivered(hub)
    assert told(done, "failed") == [
        "[delivery] energy/a.jsonl stays in the inbox: RuntimeError: a bug"
    ]
    assert len(told(done, "added")) == 1
    assert file.exists()


def test_a_full_disk_is_everybody_s_concern(hub, deliver, made_up, monkeypatch):
    from moma_cl.datasets import added_rows

    def full(*arguments):
        raise StorageError("no space left on device")

    deliver(made_up(2, first=30))
    monkeypatch.setattr(added_rows, "append_rows", full)
    with pytest.raises(StorageError):
        add_delivered(hub)


def test_deliveries_of_no_task_stay_and_are_told_until_there_is_one(hub, deliver, made_up):
    file = deliver(made_up(30), folder="enrgy")
    beside = deliver(made_up(1), folder=".", name="lost.jsonl")
    for _ in range(2):
        texts = told(update(hub), "unclaimed")
        assert "move it to inbox/TASK/" in texts[0]
        assert "did you mean 'energy'?" in texts[1]
    assert file.exists()
    assert beside.exists()


def test_names_are_kept_apart_in_done(hub, deliver, made_up):
    deliver(made_up(1, first=30))
    add_delivered(hub)
    deliver(made_up(1, first=31))
    add_delivered(hub)
    away = hub / "inbox" / "energy" / "done"
    assert [name for name in names(away) if "report" not in name] == [
        "night-2.jsonl",
        "night.jsonl",
    ]


def test_only_deliveries_of_the_tasks_asked_for_are_added(hub, deliver, add_task, made_up):
    add_task("gap", 30, unit="eV", module="none")
    file = deliver(made_up(1, first=30))
    assert told(Hub(hub).update(tasks=["gap"], settle=0.0), "added") == []
    assert file.exists()


def test_a_signature_sees_every_file_of_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    before = signature(tmp_path)
    (tmp_path / "deep" / "a").write_text("12")
    assert signature(tmp_path) != before
    assert [name for name, *_ in before] == ["deep/a"]


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something once, after a delivery was read and before its rows are stored."""
    original = delivery_batches.Batch._append

    def doing(action):
        actions = [action]

        def append(self):
            if actions:
                actions.pop()()
            original(self)

        monkeypatch.setattr(delivery_batches.Batch, "_append", append)

    return doing


def test_rows_that_came_while_a_delivery_was_read_are_known(hub, deliver, made_up, meanwhile):
    deliver(made_up(4, first=30))
    meanwhile(lambda: hubs.add_data(hub, "energy", made_up(3, first=32), compose=False))
    assert told(add_delivered(hub), "added") == [
        "energy/night.jsonl: rows: 2 added, 2 there already"
    ]
    assert stored(hub)[30:] == ["row-32", "row-33", "row-34", "row-30", "row-31"]


def test_the_same_file_may_come_by_hand_meanwhile(hub, deliver, made_up, meanwhile):
    file = deliver(made_up(4, first=30))
    meanwhile(lambda: hubs.add_data(hub, "energy", file, compose=False))
    (text,) = told(add_delivered(hub), "added")
    assert "its content was added before" in text
    assert len(stored(hub)) == 34


def test_a_delivery_stays_whose_task_went_meanwhile(hub, deliver, made_up, meanwhile):
    file = deliver(made_up(4, first=30))
    meanwhile(lambda: Hub(hub).remove_task("energy"))
    assert add_delivered(hub) == []
    assert file.exists()


@pytest.mark.parametrize("n_deliveries", [1, 3])
def test_several_deliveries_meet_rows_that_came_meanwhile(
    hub, deliver, made_up, meanwhile, n_deliveries
):
    for number in range(n_deliveries):
        deliver(made_up(2, first=30 + 2 * number), name=f"{number}.jsonl")
    meanwhile(lambda: Hub(hub).retract("energy", ["row-0"], compose=False))
    assert len(told(add_delivered(hub), "added")) == n_deliveries
    assert len(targets(hub)) == 29 + 2 * n_deliveries


def test_only_one_process_takes_deliveries_in(hub, deliver, made_up, meanwhile):
    deliver(made_up(2, first=30))
    seen = []
    meanwhile(lambda: seen.append(add_delivered(hub)))
    assert len(told(add_delivered(hub), "added")) == 1
    assert seen == [[]]
