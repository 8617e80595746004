"""Garbage collection: what is kept, what goes, and when it must wait."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from moma_store.collection import collect
from moma_store.errors import IntegrityError
from moma_store.records import BlobLink, record_link
from moma_store.store import Store
from moma_store.verification import verify
from tests.helpers.stores import new_store


def add(store: Store, ref: str, n: float, *, needs: str | None = None) -> str:
    link = store.put_blob({"p": np.full(50, n)}, {"n": n})
    doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
    if needs is not None:
        doc["needs"] = record_link(needs)
    with store.transaction("add") as tx:
        digest = tx.put_record(doc)
        tx.move_ref(ref, digest, expected=tx.ref(ref))
    return digest


def blobs(store: Store) -> set[float]:
    with store.snapshot() as view:
        digests = view.records()
    return {
        store.blob(BlobLink.from_json(store.record(digest)["blob"])).header["n"]
        for digest in digests
    }


def test_what_refs_reach_stays_and_the_rest_goes(store):
    needed = add(store, "modules/a", 1)
    add(store, "tasks/a", 2, needs=needed)
    add(store, "modules/a", 3)
    add(store, "modules/b", 4)
    add(store, "modules/b", 5)
    collected = collect(store)
    assert (collected.records, collected.blobs, collected.waiting) == (1, 1, 0)
    assert collected.bytes > 0
    assert blobs(store) == {1, 2, 3, 5}
    assert not verify_after(store).problems


def verify_after(store: Store):
    store.close()
    found = verify(store.path, deep=True)
    assert found.unreachable_files == found.unreachable_records == 0
    return found


def test_nothing_to_do_changes_nothing(store):
    add(store, "modules/a", 1)
    collect(store)
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    collected = collect(store)
    assert (collected.records, collected.memos, collected.blobs) == (0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


def test_dry_run_says_the_same_and_changes_nothing(store):
    add(store, "modules/a", 1)
    add(store, "modules/a", 2)
    said = collect(store, dry_run=True)
    assert blobs(store) == {1, 2}
    assert collect(store) == said


def test_the_last_five_predictors_of_a_task_stay_until_it_is_removed(store):
    for n in range(8):
        add(store, "predictors/a", n)
    collect(store)
    assert blobs(store) == {3, 4, 5, 6, 7}
    with store.transaction("rollback") as tx:
        old = store.history()[4].changes[0].new
        tx.move_ref("predictors/a", old, expected=tx.ref("predictors/a"))
    collect(store)
    assert blobs(store) == {3, 4, 5, 6, 7}
    with store.transaction("remove") as tx:
        tx.move_ref("predictors/a", None, expected=tx.ref("predictors/a"))
    collect(store)
    assert blobs(store) == set()
    assert len(store.history()) == 10


def test_pins_and_further_roots_keep_what_they_reach(store):
    pinned = add(store, "modules/a", 1)
    with store.transaction("pin") as tx:
        tx.move_ref(f"pins/{pinned}", pinned, expected=None)
    rooted = add(store, "modules/a", 2)
    add(store, "modules/a", 3)
    add(store, "modules/a", 4)
    collect(store, roots=[rooted])
    assert blobs(store) == {1, 2, 4}


def test_a_base_stays_while_something_is_stored_as_the_difference_from_it(store):
    base = store.put_blob({"p": np.ones(500, "f4")}, {})
    link = store.put_blob({"p": np.full(500, 1.01, "f4")}, {}, base=base)
    assert link.base == base.digest
    with store.transaction("add") as tx:
        digest = tx.put_record({"kind": "x", "format": 1, "blob": link.to_json()})
        tx.move_ref("modules/a", digest, expected=None)
    assert collect(store).blobs == 0
    assert store.blob(link).arrays["p"][0] == np.float32(1.01)
    assert not verify_after(store).problems


def test_memos_go_with_their_results(store):
    old = add(store, "modules/a", 1)
    new = add(store, "modules/a", 2)
    with store.transaction("memo") as tx:
        tx.put_memo("old", old, 1.0)
        tx.put_memo("new", new, 1.0)
    assert collect(store).memos == 1
    assert set(store.memos()) == {"new"}


def test_files_that_no_record_knows_go(store):
    store.put_blob({"p": np.ones(3)}, {})
    stray = store.path / "objects" / "notes.txt"
    stray.write_text("mine")
    assert collect(store).blobs == 1
    assert stray.exists()


def test_a_reader_keeps_all_that_its_snapshot_reaches(store):
    old = add(store, "modules/a", 1)
    with Store.open(store.path) as reader, reader.snapshot() as view:
        add(store, "modules/a", 2)
        collected = collect(store)
        assert (collected.records, collected.blobs, collected.waiting) == (1, 0, 1)
        record = view.record(old)
        assert reader.blob(BlobLink.from_json(record["blob"])).header == {"n": 1}
        assert collect(store).waiting == 1
    assert collect(store).blobs == 1
    assert blobs(store) == {2}


def test_a_new_reader_keeps_nothing_from_going(store):
    add(store, "modules/a", 1)
    add(store, "modules/a", 2)
    collected = collect(store)
    add(store, "modules/a", 3)
    with Store.open(store.path) as reader, reader.snapshot():
        collected = collect(store)
    # It began after the last commit before the collection, but before the collection's own.
    assert collected.waiting == 1
    with Store.open(store.path) as reader, reader.snapshot():
        assert collect(store).blobs == 1


@pytest.mark.fault("a clock wrong by ten years")
@pytest.mark.parametrize("year", [2016, 2036])
def test_a_clock_that_is_wrong_by_ten_years_changes_nothing(tmp_path, year):
    def clock() -> datetime:
        return datetime(year, 1, 1, tzinfo=UTC)

    with new_store(tmp_path / "hub") as store:
        for n in range(7):
            add(store, "predictors/a", n)
    with Store.open(tmp_path / "hub", write=True, clock=clock) as store:
        add(store, "predictors/a", 7)
        collect(store)
        assert blobs(store) == {3, 4, 5, 6, 7}
        assert store.history()[0].at.startswith(str(year))


def test_a_damaged_catalogue_is_not_collected(store):
    import lmdb

    add(store, "modules/a", 1)
    add(store, "modules/a", 2)
    store.close()
    with lmdb.open(str(store.path / "catalogue.lmdb"), max_dbs=8) as env:
        db = env.open_db(b"records")
        with env.begin(write=True, db=db) as txn:
            key, value = next(iter(txn.cursor()))
            txn.put(key, value[:-1] + b" ")
    with Store.open(store.path, write=True) as damaged:
        with pytest.raises(IntegrityError, match="nothing was collected"):
            collect(damaged)
        assert len(list(damaged.objects.listing())) == 2
