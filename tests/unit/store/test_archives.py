"""Archives: what comes out goes in again, and what others made up does not."""

from __future__ import annotations

import errno
import json
import shutil
import stat
import zipfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from moma_store import archives, records
from moma_store.archives import Archive, export
from moma_store.blobs import describe, write
from moma_store.errors import (
    AlreadyExistsError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    MomaError,
    NotFoundError,
    StorageError,
)
from moma_store.importing import import_contents
from moma_store.records import BlobLink, record_link
from moma_store.store import Store
from moma_store.testing import FaultyFiles, flip_bit
from moma_store.verification import verify
from tests.helpers.stores import new_store


@pytest.fixture
def store(store):
    base = store.put_blob({"p": np.ones(500, "f4")}, {})
    with store.transaction("init") as tx:
        doc = {"kind": "hub", "format": 1, "blob": base.to_json()}
        tx.move_ref("hub", tx.put_record(doc), expected=None)
    for name in ("a", "b", "c"):
        add(store, name, base)
    return store


def add(store: Store, name: str, base: BlobLink) -> None:
    link = store.put_blob({"p": np.full(500, ord(name) / 97, "f4")}, {"name": name}, base=base)
    with store.transaction("add", {"name": name}) as tx:
        doc = {
            "kind": "module",
            "format": 1,
            "blob": link.to_json(),
            "hub": record_link(tx.ref("hub")),
        }
        digest = tx.put_record(doc)
        tx.move_ref(f"modules/{name}", digest, expected=None)
        tx.put_memo(f"module:{name}", digest, 1.0)


@pytest.fixture
def other(tmp_path):
    with new_store(tmp_path / "other") as other:
        yield other


def state(store: Store):
    with store.snapshot() as view:
        return view.refs(), view.memos(), view.history(), view.records()


def bring(store: Store, path: Path):
    with Archive(path) as archive:
        return import_contents(store, archive)


def test_a_whole_hub_comes_back_as_it_was(store, other, tmp_path):
    done = export(store, tmp_path / "hub.zip")
    assert (len(done.refs), done.records, done.blobs) == (4, 4, 4)
    assert done.bytes == (tmp_path / "hub.zip").stat().st_size
    imported = bring(other, tmp_path / "hub.zip")
    assert imported.refs == done.refs
    assert state(other) == state(store)
    other.close()
    assert verify(other.path, deep=True).problems == ()


def test_equal_hubs_give_equal_archives(store, tmp_path):
    export(store, tmp_path / "one.zip")
    export(store, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_module_takes_with_it_what_it_depends_on(store, other, tmp_path):
    refs = {"modules/b": store.ref("modules/b")}
    done = export(store, tmp_path / "b.zip", refs=refs)
    assert (done.records, done.blobs) == (2, 2)
    imported = bring(other, tmp_path / "b.zip")
    assert (imported.refs, imported.records, imported.blobs) == (("modules/b",), 2, 2)
    assert other.refs() == refs
    assert other.history()[0].action == "import"
    link = BlobLink.from_json(other.record(refs["modules/b"])["blob"])
    assert other.blob(link).header == {"name": "b"}
    again = bring(other, tmp_path / "b.zip")
    assert (again.refs, again.present, again.records, again.blobs) == ((), ("modules/b",), 0, 0)
    assert len(other.history()) == 1


def test_an_archive_is_not_overwritten(store, tmp_path):
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        export(store, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_two_runs_that_write_one_archive_do_not_meet(store, other, tmp_path, monkeypatch):
    add_json = archives._add_json

    def export_meanwhile(*arguments):
        monkeypatch.setattr(archives, "_add_json", add_json)
        with Store.open(store.path) as reader:
            export(reader, tmp_path / "a.zip")
        add_json(*arguments)

    monkeypatch.setattr(archives, "_add_json", export_meanwhile)
    export(store, tmp_path / "a.zip")
    assert list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part")) == []
    assert set(bring(other, tmp_path / "a.zip").refs) == set(store.refs())


def test_a_damaged_blob_is_not_exported(store, tmp_path):
    link = BlobLink.from_json(store.record(store.ref("modules/b"))["blob"])
    flip_bit(store.blob_path(link), 999)
    with pytest.raises(IntegrityError, match=link.digest):
        export(store, tmp_path / "a.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]


def nothing_came(store: Store) -> bool:
    left = [*store.objects.listing(), *store.tmp_dir.iterdir()]
    return state(store) == ({}, {}, [], []) and not left


def test_a_name_that_is_taken_is_refused(store, other, tmp_path):
    export(store, tmp_path / "a.zip", refs={"modules/a": store.ref("modules/a")})
    with other.transaction("x") as tx:
        tx.move_ref("modules/a", tx.put_record({"kind": "x", "format": 1}), expected=None)
    with pytest.raises(AlreadyExistsError, match="modules/a"):
        bring(other, tmp_path / "a.zip")
    export(store, tmp_path / "hub.zip")
    with pytest.raises(AlreadyExistsError, match="not empty"):
        bring(other, tmp_path / "hub.zip")


def rewrite(path: Path, change) -> None:
    """Write an archive anew, with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def cut_records(members):
    lines = members["records.jsonl"].splitlines(keepends=True)
    members["records.jsonl"] = b"".join(lines[1:])


def bend_record(members):
    members["records.jsonl"] = members["records.jsonl"].replace(b'"format":1', b'"format":3')


def spaced_record(members):
    members["records.jsonl"] = members["records.jsonl"].replace(b'"format":1', b'"format": 1')


def deep_record(members):
    members["records.jsonl"] += b"[" * 100_000 + b"\n"


def bend_blob(members):
    name = max(name for name in members if name.startswith("objects/"))
    data = bytearray(members[name])
    data[len(data) // 2] ^= 1
    members[name] = bytes(data)


def lose_blob(members):
    del members[max(name for name in members if name.startswith("objects/"))]


def bend_history(members):
    lines = members["history.jsonl"].splitlines(keepends=True)
    members["history.jsonl"] = b"".join(lines[:1] + lines[2:])


def bend_memo(members):
    members["memos.jsonl"] = members["memos.jsonl"].replace(b"seconds", b"minutes")


def move_ref(members):
    summary = json.loads(members["moma-cl.json"])
    summary["refs"]["modules/a"] = summary["refs"]["modules/b"]
    members["moma-cl.json"] = records.canonical_json(summary) + b"\n"


def odd_ref(members):
    members["moma-cl.json"] = members["moma-cl.json"].replace(b"modules/a", b"modules//a")


@pytest.mark.parametrize(
    "change",
    [
        cut_records,
        bend_record,
        spaced_record,
        deep_record,
        bend_blob,
        lose_blob,
        bend_history,
        bend_memo,
        move_ref,
        odd_ref,
        lambda members: members.pop("moma-cl.json"),
        lambda members: members.update({"moma-cl.json": b"{}\n"}),
        lambda members: members.update({"moma-cl.json": b"\xff\n"}),
    ],
)
def test_no_ref_moves_for_an_archive_that_is_not_whole(store, other, tmp_path, change):
    path = tmp_path / "hub.zip"
    export(store, path)
    rewrite(path, change)
    with pytest.raises((InvalidInputError, IntegrityError)):
        bring(other, path)
    assert state(other) == ({}, {}, [], [])
    assert not list(other.tmp_dir.iterdir())


def member(name: str, *, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.fault("an archive with hostile members")
@pytest.mark.parametrize(
    "info",
    [
        member("../escape"),
        member("/etc/passwd"),
        member("objects/../../escape"),
        member("objects/" + "a" * 64 + ".zarr.zip", mode=stat.S_IFLNK | 0o777),
        member("objects/" + "a" * 64 + ".zarr.zip", mode=stat.S_IFCHR | 0o777),
        member("OBJECTS/" + "a" * 64 + ".zarr.zip"),
        member("objects/" + "A" * 64 + ".zarr.zip"),
        member("notes.txt"),
        member("records.jsonl"),
        member("objects/"),
    ],
    ids=lambda info: info.filename[:20],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_moma_never_writes_are_refused_before_anything_is_written(
    store, other, tmp_path, info
):
    path = tmp_path / "hub.zip"
    export(store, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"x")
    with pytest.raises(InvalidInputError) as caught:
        bring(other, path)
    assert caught.value.code == "invalid-input.archive"
    assert nothing_came(other)
    assert not (tmp_path / "escape").exists()


@pytest.mark.fault("an archive with hostile members")
def test_a_compressed_member_is_refused(store, other, tmp_path):
    path = tmp_path / "hub.zip"
    export(store, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("objects/" + "a" * 64 + ".zarr.zip", bytes(10_000_000))
    with pytest.raises(InvalidInputError):
        bring(other, path)
    assert nothing_came(other)


@pytest.mark.fault("an archive with hostile members")
def test_a_blob_that_would_grow_a_thousandfold_is_refused(other, tmp_path):
    array = np.zeros(40_000_000)
    manifest = describe({"x": array}, {})
    blob = tmp_path / "blob"
    with blob.open("w+b") as stream:
        write(stream, {"x": array}, manifest, None)
    data = blob.read_bytes()
    assert array.nbytes > 1000 * len(data)
    link = BlobLink(digest=manifest.digest, file=other.files.sha256(blob), n_bytes=len(data))
    doc = {"kind": "x", "format": 1, "blob": link.to_json()}
    summary = {
        "format": 1,
        "kind": "part",
        "refs": {"modules/x": records.digest(doc)},
    }
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("moma-cl.json", records.canonical_json(summary) + b"\n")
        archive.writestr("records.jsonl", records.canonical_json(doc) + b"\n")
        archive.write(blob, f"objects/{manifest.digest}.zarr.zip")
    with pytest.raises(InvalidInputError, match="would grow"):
        bring(other, tmp_path / "bomb.zip")
    assert nothing_came(other)


@pytest.mark.fault("something of a newer version")
def test_a_newer_archive_is_left_alone(store, other, tmp_path):
    path = tmp_path / "hub.zip"
    export(store, path)

    def newer(members):
        summary = json.loads(members["moma-cl.json"])
        members["moma-cl.json"] = records.canonical_json({**summary, "format": 2}) + b"\n"

    rewrite(path, newer)
    with pytest.raises(FormatError):
        bring(other, path)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"garbage" * 100])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        Archive(path)
    with pytest.raises(NotFoundError):
        Archive(tmp_path / "absent.zip")


def test_every_flip_in_an_archive_is_refused_or_harmless(store, tmp_path):
    path = tmp_path / "hub.zip"
    export(store, path)
    whole = path.read_bytes()
    wanted = state(store)
    rng = np.random.default_rng(0)
    refused = 0
    for bit in rng.integers(0, 8 * len(whole), 40):
        path.write_bytes(whole)
        flip_bit(path, int(bit))
        with new_store(tmp_path / "new") as new:
            try:
                bring(new, path)
                assert state(new) == wanted
            except MomaError:
                refused += 1
                assert state(new) == ({}, {}, [], [])
        shutil.rmtree(tmp_path / "new")
    assert refused > 20


def refused_with(action) -> int | None:
    """Give the number with which the operating system refused an action."""
    try:
        action()
    except StorageError as error:
        return error.errno
    return None


def test_an_import_with_any_one_call_refused_changes_nothing(store, tmp_path, reached):
    export(store, tmp_path / "a.zip", refs={"modules/a": store.ref("modules/a")})
    files = FaultyFiles(errno=errno.ENOSPC)
    for call in count():
        hub = tmp_path / f"n{call}"
        new_store(hub).close()
        with Store.open(hub, write=True, files=files) as new:
            files.arm(call)
            number = refused_with(lambda: bring(new, tmp_path / "a.zip"))
            files.arm()
            assert number in (None, errno.ENOSPC)
            if number is not None:
                assert state(new) == ({}, {}, [], [])
                bring(new, tmp_path / "a.zip")
        assert verify(hub, deep=True).problems == ()
        if number is None:
            break
    assert call > 10
    reached(f"ENOSPC at each of the {call} file calls of an import: nothing came")
