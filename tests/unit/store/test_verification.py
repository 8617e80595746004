"""Verifying and repairing."""

from __future__ import annotations

import shutil

import lmdb
import numpy as np
import pytest

from moma_store.errors import BusyError, IntegrityError, InvalidInputError, MomaError, NotFoundError
from moma_store.hub_file import HubFile
from moma_store.records import BlobLink
from moma_store.store import Store
from moma_store.testing import flip_bit, truncate
from moma_store.verification import verify
from tests.helpers.stores import new_store


@pytest.fixture
def hub(tmp_path):
    with new_store(tmp_path / "hub") as store:
        base = store.put_blob({"p": np.ones(500, "f4")}, {})
        for n in range(3):
            add(store, n, base)
    return tmp_path / "hub"


def add(store: Store, n: int, base: BlobLink | None = None) -> BlobLink:
    link = store.put_blob({"p": np.full(500, 1 + n / 100, "f4")}, {"n": n}, base=base)
    with store.transaction("add", {"n": n}) as tx:
        doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
        digest = tx.put_record(doc)
        tx.move_ref(f"modules/{n}", digest, expected=tx.ref(f"modules/{n}"))
        tx.put_memo(f"m{n}", digest, 1.0)
    return link


def link_of(hub, n: int) -> BlobLink:
    with Store.open(hub) as store:
        return BlobLink.from_json(store.record(store.ref(f"modules/{n}"))["blob"])


def path_of(hub, digest: str):
    return hub / "objects" / digest[:2] / f"{digest}.zarr.zip"


def kinds(found) -> list[tuple[str, str]]:
    return [(problem.kind, problem.subject) for problem in found.problems]


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_hub_has_no_problems(hub, deep):
    found = verify(hub, deep=deep)
    assert found.problems == ()
    assert not found.damaged
    counts = (found.records, found.refs, found.memos, found.entries, found.blobs)
    assert counts == (3, 3, 3, 3, 4)
    assert found.bytes == sum(p.stat().st_size for p in (hub / "objects").rglob("*.zip"))
    assert (found.unreachable_records, found.unreachable_files, found.strays) == (0, 0, ())


def test_what_gc_would_take_is_counted_and_no_problem(hub):
    with Store.open(hub, write=True) as store:
        store.put_blob({"p": np.zeros(3)}, {})
        with store.transaction("remove") as tx:
            tx.move_ref("modules/1", None, expected=tx.ref("modules/1"))
    (hub / "objects" / "notes.txt").touch()
    found = verify(hub)
    assert found.problems == ()
    assert (found.unreachable_records, found.unreachable_files) == (1, 2)
    assert found.strays == ("objects/notes.txt",)


@pytest.mark.fault("a blob flipped, truncated or deleted")
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("which", ["module", "base"])
def test_a_damaged_blob_is_named_and_put_into_quarantine(hub, damage, which):
    link = link_of(hub, 1)
    digest = link.digest if which == "module" else link.base
    path = path_of(hub, digest)
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        truncate(path, 100)
    else:
        flip_bit(path, path.stat().st_size * 4)
    kind = "missing-blob" if damage == "delete" else "damaged-blob"
    assert (kind, digest) in kinds(verify(hub))
    found = verify(hub, repair=True)
    assert (kind, digest) in kinds(found)
    assert found.damaged == (damage == "delete")
    if damage != "delete":
        assert (hub / "quarantine" / path.name).exists()
    assert not path.exists()
    # The rest serves, and storing the same again heals the hub.
    with Store.open(hub, write=True) as store:
        if which == "module":
            assert store.blob(link_of(hub, 0)).header == {"n": 0}
            base = BlobLink(digest=link.base, file="0" * 64, n_bytes=0)
            add(store, 1, base)
        else:
            store.put_blob({"p": np.ones(500, "f4")}, {})
    assert verify(hub, deep=True).problems == ()


def rewrite(hub, database: str, change) -> None:
    """Change the last value of a database as only damage can."""
    with lmdb.open(str(hub / "catalogue.lmdb"), max_dbs=8) as env:
        db = env.open_db(database.encode())
        with env.begin(write=True, db=db) as txn:
            with txn.cursor() as cursor:
                cursor.last()
                key, value = bytes(cursor.key()), bytes(cursor.value())
            new = change(value)
            if new is None:
                txn.delete(key)
            else:
                txn.put(key, new)


def bent(value: bytes) -> bytes:
    return value[:-2] + bytes([value[-2] ^ 1]) + value[-1:]


@pytest.mark.fault("a damaged catalogue")
@pytest.mark.parametrize("database", ["records", "refs", "memo", "history"])
@pytest.mark.parametrize("change", [bent, lambda _: None], ids=["bent", "gone"])
def test_damage_to_the_catalogue_is_found_and_made_good_from_the_backup(hub, database, change):
    whole = state(hub)
    rewrite(hub, database, change)
    found = verify(hub)
    if (database, change is bent) == ("memo", False):
        assert found.problems == ()  # a memo that is gone is derived again
        return
    assert found.damaged
    found = verify(hub, repair=True)
    assert found.problems
    assert not found.damaged
    assert verify(hub).problems == ()
    assert state(hub) == whole


def state(hub):
    with Store.open(hub) as store, store.snapshot() as view:
        return view.refs(), view.memos(), view.history(), view.records()


def test_what_was_committed_after_the_backup_is_kept_when_it_is_whole(hub):
    with Store.open(hub, write=True) as store:
        store._wrote = False
        add(store, 7)
        store._wrote = False
    whole = state(hub)
    rewrite(hub, "refs", bent)
    assert verify(hub, repair=True).problems
    assert state(hub) == whole


@pytest.mark.fault("a damaged catalogue")
def test_without_any_backup_a_catalogue_of_whole_pages_is_made_anew(hub):
    whole = state(hub)
    shutil.rmtree(hub / "backups")
    (hub / "backups").mkdir()
    rewrite(hub, "refs", bent)
    assert not verify(hub, repair=True).damaged
    assert state(hub) == whole


@pytest.mark.fault("a damaged catalogue")
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "page"])
def test_a_catalogue_that_lmdb_cannot_read_is_restored(hub, damage):
    whole = state(hub)
    data = hub / "catalogue.lmdb" / "data.mdb"
    if damage == "missing":
        data.unlink()
    elif damage == "page":
        flip_bit(data, 8 * 4096 * (data.stat().st_size // 4096 - 1))
        flip_bit(data, 8 * 4096 * (data.stat().st_size // 4096 - 2))
        flip_bit(data, 8 * 4096 * (data.stat().st_size // 4096 - 3))
    else:
        data.write_bytes(b"" if damage == "empty" else b"garbage" * 5000)
    assert verify(hub).damaged
    found = verify(hub, repair=True)
    assert [kind for kind, _ in kinds(found)] == ["catalogue"]
    assert "catalogue-" in found.problems[0].repaired
    assert state(hub) == whole
    assert not (hub / "catalogue.lmdb" / "restored").exists()
    if damage != "missing":
        assert (hub / "quarantine" / "data.mdb").exists()


def test_a_catalogue_that_cannot_be_restored_is_left_as_it_is(hub):
    shutil.rmtree(hub / "backups")
    (hub / "backups").mkdir()
    data = hub / "catalogue.lmdb" / "data.mdb"
    data.write_bytes(b"garbage" * 5000)
    with pytest.raises(IntegrityError, match="import"):
        verify(hub, repair=True)
    assert data.read_bytes() == b"garbage" * 5000


@pytest.mark.fault("a damaged catalogue")
def test_a_damaged_backup_is_named_and_replaced(hub):
    (backup,) = (hub / "backups").iterdir()
    truncate(backup, 5000)
    assert kinds(verify(hub)) == [("damaged-backup", backup.name)]
    assert not verify(hub, repair=True).damaged
    assert verify(hub).problems == ()
    assert list((hub / "backups").iterdir())


def test_nobody_may_write_meanwhile(hub):
    with Store.open(hub, write=True), pytest.raises(BusyError):
        verify(hub)


def damage_hub_file(hub, how: str) -> None:
    file = hub / "hub.toml"
    text = file.read_text()
    if how == "missing":
        file.unlink()
    elif how == "torn":
        file.write_text(text[: len(text) // 2])
    else:
        file.write_text(text.replace('id = "', 'id = "f'))


@pytest.mark.fault("hub.toml damaged, missing, another hub's or out of date")
@pytest.mark.parametrize("how", ["missing", "torn", "of another hub"])
def test_a_damaged_hub_file_is_made_anew_from_the_catalogue(hub, how):
    before = HubFile.read(hub)
    damage_hub_file(hub, how)
    with pytest.raises(MomaError):
        Store.open(hub)
    found = verify(hub, repair=True)
    assert kinds(found) == [("hub-file", "hub.toml")]
    assert not found.damaged
    assert HubFile.read(hub) == before
    assert verify(hub).problems == ()


@pytest.fixture
def divided(tmp_path):
    """A hub whose catalogue is in another folder, and that folder."""
    path, home = tmp_path / "divided", tmp_path / "local"
    store = new_store(path, catalogue=home)
    with store, store.transaction("add") as tx:
        tx.move_ref("modules/a", tx.put_record({"kind": "x", "format": 1}), expected=None)
    return path, home


@pytest.mark.fault("hub.toml damaged, missing, another hub's or out of date")
@pytest.mark.parametrize("how", ["missing", "torn", "of another hub"])
def test_a_hub_file_is_made_anew_from_a_catalogue_elsewhere(divided, how):
    path, home = divided
    before = HubFile.read(path)
    damage_hub_file(path, how)
    with pytest.raises(MomaError, match="--catalogue PATH"):
        Store.open(path)
    found = verify(path, repair=True, catalogue=home)
    assert kinds(found) == [("hub-file", "hub.toml")]
    assert not found.damaged
    assert HubFile.read(path) == before
    assert verify(path).problems == ()


@pytest.mark.fault("hub.toml damaged, missing, another hub's or out of date")
def test_a_hub_is_told_where_its_catalogue_was_moved(divided, tmp_path):
    path, home = divided
    home.rename(tmp_path / "moved")
    assert verify(path, repair=True, catalogue=tmp_path / "moved").refs == 1
    assert HubFile.read(path).catalogue == tmp_path / "moved"
    again = verify(path, repair=True, catalogue=tmp_path / "moved")
    assert again.problems == ()


def test_a_catalogue_named_by_mistake_is_refused(hub, divided, tmp_path):
    path, home = divided
    before = HubFile.read(path)
    (path / "hub.toml").unlink()
    (tmp_path / "empty").mkdir()
    for wrong, reason in (
        (hub / "catalogue.lmdb", "belongs to hub"),
        (tmp_path / "empty", "whole"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            verify(path, repair=True, catalogue=wrong)
    with pytest.raises(InvalidInputError, match="--repair"):
        verify(path, catalogue=home)
    assert not (path / "hub.toml").exists()
    verify(path, repair=True, catalogue=home)
    assert HubFile.read(path) == before


def test_a_hub_file_is_not_made_up(hub, tmp_path):
    with pytest.raises(NotFoundError):
        verify(tmp_path / "absent", repair=True)
    damage_hub_file(hub, "torn")
    flip_bit(hub / "catalogue.lmdb" / "data.mdb", 8 * 20)
    with pytest.raises(IntegrityError, match=r"hub\.toml"):
        verify(hub, repair=True)


def test_a_hub_with_its_catalogue_elsewhere_is_not_taken_for_another(tmp_path):
    home = tmp_path / "local"
    new_store(tmp_path / "hub", catalogue=home).close()
    shutil.copytree(tmp_path / "hub", tmp_path / "copy")
    damage_hub_file(tmp_path / "copy", "of another hub")
    with pytest.raises(IntegrityError):
        verify(tmp_path / "copy", repair=True)
    assert verify(tmp_path / "hub").problems == ()
