from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from moma_store import open_catalogue
from moma_store.errors import (
    AlreadyExistsError,
    BusyError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from moma_store.files import is_full, network_file_system
from moma_store.store import Store
from moma_store.testing.faults import FaultyFiles
from tests.helpers.processes import run_python
from tests.helpers.stores import new_store


def put_ref(store: Store, name: str = "tasks/x", n: int = 0) -> str:
    with store.transaction("test") as tx:
        digest = tx.put_record({"kind": "x", "format": 1, "n": n})
        tx.move_ref(name, digest, expected=tx.ref(name))
    return digest


def test_new_hub_has_the_documented_layout(hub):
    names = {entry.name for entry in hub.iterdir()}
    assert names == {
        "hub.toml",
        "catalogue.lmdb",
        "objects",
        "cache",
        "backups",
        "tmp",
        "writer.lock",
    }
    with Store.open(hub) as store:
        assert store.cache_dir == hub / "cache"
        assert store.tmp_dir == hub / "tmp"
        assert len(store.hub_id) == 32


def test_the_catalogue_s_folder_may_have_any_name_in_utf_8(tmp_path):
    home = tmp_path / 'quote " slash \\ tab \t \x7f é \U0001f600 \nline'
    new_store(tmp_path / "hub", catalogue=home).close()
    with Store.open(tmp_path / "hub") as store:
        assert store.refs() == {}
    assert (home / "data.mdb").exists()
    with pytest.raises(InvalidInputError, match="UTF-8"):
        new_store(tmp_path / "other", catalogue=tmp_path / "\udc80")
    assert not (tmp_path / "other").exists()


def test_missing_hub_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(NotFoundError, match="moma-cl init"):
        Store.open(tmp_path / "absent")


def test_folder_with_anything_in_it_is_not_taken(hub, tmp_path):
    with pytest.raises(AlreadyExistsError, match="a hub"):
        new_store(hub)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(AlreadyExistsError, match=r"thesis\.tex"):
        new_store(tmp_path / "full")
    with pytest.raises(AlreadyExistsError, match="is a file"):
        new_store(tmp_path / "full" / "thesis.tex")
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_interrupted_creation_is_finished_by_the_next(hub):
    (hub / "hub.toml").rename(hub / ".unfinished")
    with pytest.raises(NotFoundError):
        Store.open(hub)
    with new_store(hub) as store:
        assert put_ref(store)


def test_catalogue_may_be_elsewhere(tmp_path):
    home = tmp_path / "local" / "catalogue"
    with new_store(tmp_path / "hub", catalogue=home) as store:
        put_ref(store)
    assert not (tmp_path / "hub" / "catalogue.lmdb").exists()
    assert (home / "data.mdb").exists()
    with Store.open(tmp_path / "hub") as store:
        assert store.ref("tasks/x")


def test_catalogue_of_another_hub_is_refused(hub, tmp_path):
    new_store(tmp_path / "other").close()
    (tmp_path / "other/catalogue.lmdb/data.mdb").rename(hub / "catalogue.lmdb/data.mdb")
    with pytest.raises(IntegrityError, match="belongs to hub"):
        Store.open(hub)


@pytest.mark.fault("a catalogue on a network file system")
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "fuse.sshfs"])
def test_catalogue_on_a_network_file_system_is_refused(tmp_path, monkeypatch, kind):
    mounts = tmp_path / "mounts"
    spaced = tmp_path / "my share"
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/x {str(spaced).replace(' ', chr(92) + '040')} {kind} rw 0 0\n"
    )
    assert network_file_system(spaced / "a", mounts=mounts) == kind
    assert network_file_system(tmp_path / "elsewhere", mounts=mounts) is None
    assert network_file_system(tmp_path, mounts=tmp_path / "absent") is None
    monkeypatch.setattr("moma_store.hub_layout.network_file_system", lambda _: kind)
    with pytest.raises(InvalidInputError, match="--catalogue PATH"):
        new_store(tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    "text",
    ["", "format = ", "format = 1", "format = 'x'", "format = 1\nid = 'x'\ncatalogue = 4", "\x00"],
)
def test_damaged_hub_file_is_an_integrity_error(hub, text):
    (hub / "hub.toml").write_text(text)
    with pytest.raises(IntegrityError, match=r"hub\.toml"):
        Store.open(hub)


@pytest.mark.fault("something of a newer version")
def test_hub_of_a_newer_version_is_left_alone(hub):
    text = (
        (hub / "hub.toml").read_text().replace("format = 1", "format = 2").replace("0.1.0", "3.1.4")
    )
    (hub / "hub.toml").write_text(text)
    (hub / "tmp" / "leftover").touch()
    with pytest.raises(FormatError, match=r"moma-cl 3\.1\.4 or newer"):
        Store.open(hub, write=True)
    assert (hub / "tmp" / "leftover").exists()


@pytest.mark.fault("something of a newer version")
def test_catalogue_of_a_newer_version_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(open_catalogue, "FORMAT", 2)
    new_store(tmp_path / "hub").close()
    monkeypatch.undo()
    with pytest.raises(FormatError, match="format 2"):
        Store.open(tmp_path / "hub")


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_damaged_catalogue_is_an_integrity_error(hub, damage):
    data = hub / "catalogue.lmdb" / "data.mdb"
    data.unlink()
    if damage != "missing":
        data.write_bytes(b"" if damage == "empty" else b"garbage" * 5000)
    with pytest.raises(IntegrityError, match="verify --repair"):
        Store.open(hub)


def test_on_disk_format_is_pinned(tmp_path):
    code = (
        "import sys; from pathlib import Path; from moma_store.store import Store\n"
        "Store.create(Path(sys.argv[1])).close()"
    )
    # The binding reads this when it is imported.
    run_python(code, tmp_path / "hub", env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": "1"})
    head = (tmp_path / "hub/catalogue.lmdb/data.mdb").read_bytes()[16:24]
    assert head == bytes.fromhex("dec0efbe 01000000")


def test_writing_needs_a_store_open_for_writing(hub):
    with Store.open(hub) as store:
        with pytest.raises(InvalidInputError, match="write=True"), store.transaction("x"):
            pass
        with pytest.raises(InvalidInputError, match="write=True"):
            store.put_blob({}, {})
        with pytest.raises(InvalidInputError, match="write=True"):
            store.backup()


@pytest.mark.usefixtures("impatient")
def test_second_writer_is_told_who_holds_the_hub(hub):
    with Store.open(hub, write=True), pytest.raises(BusyError, match=f"process {os.getpid()} on "):
        Store.open(hub, write=True)
    Store.open(hub, write=True).close()


@pytest.mark.usefixtures("impatient")
def test_second_writer_may_wait(hub):
    code = (
        "import sys, time; from pathlib import Path; from moma_store.store import Store\n"
        f"store = Store.open(Path({str(hub)!r}), write=True); print('held', flush=True)\n"
        "time.sleep(0.3); store.close()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {child.pid}"):
            Store.open(hub, write=True, wait=0.05)
        Store.open(hub, write=True, wait=10).close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_contents_of_the_lock_file_do_not_matter(hub, content):
    (hub / "writer.lock").write_bytes(content)
    with Store.open(hub, write=True):
        (hub / "writer.lock").write_bytes(content)
        with pytest.raises(BusyError, match="another process"):
            Store.open(hub, write=True)


def test_readers_open_beside_a_writer_and_see_what_is_committed(hub):
    with Store.open(hub, write=True) as writer, Store.open(hub) as reader:
        first = put_ref(writer, n=1)
        with reader.snapshot() as view:
            put_ref(writer, n=2)
            assert view.ref("tasks/x") == first
            assert view.record(first)["n"] == 1
        assert reader.record(reader.ref("tasks/x"))["n"] == 2
    with Store.open(hub) as one, Store.open(hub.parent / "hub") as two:
        assert one.refs() == two.refs()


def test_closed_store_refuses_politely_and_closes_twice(hub):
    store = Store.open(hub)
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.refs()


def test_new_writer_clears_what_a_dead_one_left(hub):
    (hub / "tmp" / "leftover").write_bytes(b"half a blob")
    Store.open(hub).close()
    assert (hub / "tmp" / "leftover").exists()
    Store.open(hub, write=True).close()
    assert not (hub / "tmp" / "leftover").exists()


def test_session_that_wrote_ends_with_a_backup_and_two_are_kept(hub):
    Store.open(hub, write=True).close()
    assert not list((hub / "backups").iterdir())
    for n in range(4):
        with Store.open(hub, write=True) as store:
            digest = put_ref(store, n=n)
    kept = sorted(path.name for path in (hub / "backups").iterdir())
    assert kept == ["catalogue-000000002.mdb", "catalogue-000000003.mdb"]
    (hub / "backups" / kept[1]).replace(hub / "catalogue.lmdb" / "data.mdb")
    with Store.open(hub) as store:
        assert store.ref("tasks/x") == digest


def test_session_that_fails_keeps_its_own_error_and_lets_go(hub):
    def session() -> None:
        with Store.open(hub, write=True) as store:
            put_ref(store)
            (hub / "backups").rmdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session()
    Store.open(hub, write=True).close()


def test_session_whose_backup_fails_says_so_and_lets_go(hub):
    store = Store.open(hub, write=True)
    digest = put_ref(store)
    (hub / "backups").rmdir()
    (hub / "backups").touch()
    with pytest.raises(StorageError, match="backups"):
        store.close()
    with Store.open(hub, write=True) as store:
        assert store.ref("tasks/x") == digest


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_session_on_a_full_disk_succeeds_and_says_that_no_copy_was_made(hub, caplog, number):
    files = FaultyFiles(errno=number)
    store = Store.open(hub, write=True, files=files)
    digest = put_ref(store)
    files.arm(0)
    store.close()
    assert "no room for a new copy of the catalogue" in caplog.text
    assert not list((hub / "backups").iterdir())
    with Store.open(hub, write=True) as store:
        assert store.ref("tasks/x") == digest


@pytest.mark.parametrize(
    ("number", "left", "full"),
    [
        (errno.ENOSPC, 10**9, True),
        (errno.EDQUOT, 10**9, True),
        (errno.EIO, 4096, True),
        (errno.EIO, 10**9, False),
        (errno.EACCES, 0, False),
        (None, 0, False),
    ],
)
def test_a_full_disk_is_told_from_a_broken_one(tmp_path, monkeypatch, number, left, full):
    disk = SimpleNamespace(f_bavail=left // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    assert is_full(tmp_path, StorageError("no", errno=number)) is full


@pytest.mark.fault("a second open, a fork, a spawned process")
def test_fork_is_told_to_spawn_and_leaves_the_parent_alone(hub):
    code = f"""
import os
from pathlib import Path
from moma_store.errors import StorageError
from moma_store.store import Store
store = Store.open(Path({str(hub)!r}), write=True)
child = os.fork()
if child == 0:
    try:
        store.refs()
    except StorageError as error:
        print(error, flush=True)
    try:
        Store.open(Path({str(hub)!r}))
    except StorageError as error:
        print(error, flush=True)
    store.close()
    os._exit(0)
os.waitpid(child, 0)
try:
    Store.open(Path({str(hub)!r}), write=True)
except Exception as error:
    print(type(error).__name__, flush=True)
print(store.refs())
store.close()
"""
    lines = run_python(code).splitlines()
    assert ["spawn" in line for line in lines] == [True, True, False, False]
    assert lines[2:] == ["BusyError", "{}"]


def test_full_catalogue_is_a_storage_error_and_changes_nothing(tmp_path):
    def too_much(store: Store) -> None:
        with store.transaction("big") as tx:
            digest = tx.put_record({"kind": "x", "format": 1, "text": "x" * (1 << 18)})
            tx.move_ref("tasks/x", digest, expected=first)

    with new_store(tmp_path / "hub", map_size=1 << 18) as store:
        first = put_ref(store)
        with pytest.raises(StorageError, match="MAP_FULL"):
            too_much(store)
        assert store.ref("tasks/x") == first
        put_ref(store, n=2)


@pytest.mark.parametrize("database", ["refs", "memo", "history", "records", "meta"])
def test_changed_value_in_the_catalogue_is_found(hub, database):
    with Store.open(hub, write=True) as store:
        digest = put_ref(store)
        with store.transaction("m") as tx:
            tx.put_memo("k", digest, 1.0)
    with lmdb.open(str(hub / "catalogue.lmdb"), max_dbs=8) as env:
        db = env.open_db(database.encode())
        with env.begin(write=True, db=db) as txn:
            key, value = next(iter(txn.cursor()))
            txn.put(key, value[:-2] + bytes([value[-2] ^ 1]) + value[-1:])
    with pytest.raises(IntegrityError), Store.open(hub) as store:
        store.refs(), store.memos(), store.history(), store.record(digest)


@pytest.mark.fault("a clock wrong by ten years")
def test_history_is_ordered_by_its_counter_whatever_the_clock_says(hub):
    start = datetime(2030, 1, 1, tzinfo=UTC)
    times = iter([start - timedelta(days=3650 * n) for n in range(20)])
    with Store.open(hub, write=True, clock=lambda: next(times)) as store:
        for n in range(3):
            put_ref(store, n=n)
        entries = store.history()
    assert [entry.counter for entry in entries] == [2, 1, 0]
    assert entries[0].at < entries[1].at < entries[2].at
    assert json.dumps([entry.to_json() for entry in entries])


def test_relative_paths_survive_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = new_store(Path("hub"))
    monkeypatch.chdir("/")
    put_ref(store)
    store.close()
    assert (tmp_path / "hub" / "backups" / "catalogue-000000000.mdb").exists()


class TestWritingForAMoment:
    """A store that is its hub's writer only in `writing`."""

    def test_two_stores_take_turns(self, hub):
        with Store.open(hub) as one, Store.open(hub) as two:
            for n, store in enumerate((one, two, one)):
                with store.writing():
                    put_ref(store, n=n)
        with Store.open(hub) as store:
            assert store.record(store.ref("tasks/x"))["n"] == 2
            assert len(store.history()) == 3
            assert len(store.backups()) == 2

    @pytest.mark.usefixtures("impatient")
    def test_the_lock_is_held_in_the_block_and_no_longer(self, hub):
        with Store.open(hub) as store, Store.open(hub) as other:
            with store.writing():
                with store.writing():
                    put_ref(store)
                with pytest.raises(BusyError), other.writing(wait=0.0):
                    pass
            with pytest.raises(InvalidInputError, match="write=True"):
                put_ref(store)
            with other.writing(wait=0.0):
                put_ref(other, n=1)

    def test_a_short_hold_is_waited_for_in_any_case(self, hub):
        code = (
            "import sys, time; from pathlib import Path; from moma_store.store import Store\n"
            f"store = Store.open(Path({str(hub)!r}), write=True); print('held', flush=True)\n"
            "time.sleep(0.3); store.close()"
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            Store.open(hub, write=True).close()

    def test_leftovers_of_a_killed_writer_are_cleared(self, hub):
        (hub / "tmp" / "left").write_bytes(b"x")
        with Store.open(hub) as store, store.writing():
            assert list((hub / "tmp").iterdir()) == []

    def test_a_catalogue_that_was_replaced_is_not_written_to(self, hub):
        data = hub / "catalogue.lmdb" / "data.mdb"
        with Store.open(hub) as store:
            data.with_name("copy").write_bytes(data.read_bytes())
            data.with_name("copy").replace(data)
            with pytest.raises(StorageError, match="moved or replaced"), store.writing():
                pass
        with Store.open(hub) as store, store.writing():
            put_ref(store)

    @pytest.mark.usefixtures("impatient")
    def test_the_copy_of_the_catalogue_is_left_to_who_is_writing(self, hub):
        store = Store.open(hub)
        with store.writing():
            put_ref(store)
        with Store.open(hub, write=True) as other:
            store.close()
            assert other.backups() == []
            put_ref(other, n=1)
        with Store.open(hub) as reader:
            assert len(reader.backups()) == 1
