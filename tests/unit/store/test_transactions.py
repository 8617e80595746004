from __future__ import annotations

import math

import numpy as np
import pytest

from moma_store import records
from moma_store.errors import BusyError, ConflictError, InvalidInputError, NotFoundError
from moma_store.store import Store


def record(n: int = 0, **more: object) -> dict[str, object]:
    return {"kind": "x", "format": 1, "n": n, **more}


def move(
    store: Store, name: str, doc: dict[str, object] | None, action: str = "move"
) -> str | None:
    with store.transaction(action) as tx:
        digest = None if doc is None else tx.put_record(doc)
        tx.move_ref(name, digest, expected=tx.ref(name))
    return digest


def test_everything_is_visible_after_the_block_and_nothing_before(store):
    with store.transaction("add", {"rows": 3}) as tx:
        digest = tx.put_record(record())
        tx.move_ref("tasks/a", digest, expected=None)
        tx.put_memo("key", digest, 2)
        assert (tx.record(digest), tx.ref("tasks/a"), tx.memo("key").seconds) == (
            record(),
            digest,
            2.0,
        )
        assert store.refs() == {}
        assert store.memo("key") is None
        with pytest.raises(NotFoundError):
            store.record(digest)
    assert store.record(digest) == record()
    assert store.refs() == {"tasks/a": digest}
    assert store.memo("key").result == digest
    (entry,) = store.history()
    assert (entry.action, entry.detail, entry.previous) == ("add", {"rows": 3}, None)
    assert [change.to_json() for change in entry.changes] == [
        {"name": "tasks/a", "old": None, "new": digest}
    ]


def test_exception_in_the_block_undoes_all_of_it(store):
    def fail() -> None:
        with store.transaction("add") as tx:
            digest = tx.put_record(record())
            tx.move_ref("a", digest, expected=None)
            tx.put_memo("key", digest, 1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (store.refs(), store.memos(), store.history()) == ({}, {}, [])
    with store.snapshot() as view:
        assert view.records() == []


def test_ref_that_is_elsewhere_is_a_conflict(store):
    first = move(store, "a", record(1))
    with pytest.raises(ConflictError, match=first) as caught, store.transaction("move") as tx:
        tx.move_ref("a", None, expected=None)
    assert isinstance(caught.value, BusyError)
    assert store.ref("a") == first


def test_ref_that_moves_during_the_block_is_a_conflict(store):
    first = move(store, "a", record(1))

    def lose() -> None:
        with store.transaction("move") as tx:
            tx.move_ref("a", tx.put_record(record(2)), expected=first)
            move(store, "a", record(3))

    with pytest.raises(ConflictError):
        lose()
    assert store.ref("a") == records.digest(record(3))
    assert len(store.history()) == 2
    with pytest.raises(NotFoundError):
        store.record(records.digest(record(2)))


def test_ref_may_move_twice_and_be_removed(store):
    with store.transaction("move") as tx:
        one, two = tx.put_record(record(1)), tx.put_record(record(2))
        tx.move_ref("a", one, expected=None)
        tx.move_ref("a", two, expected=one)
        with pytest.raises(ConflictError):
            tx.move_ref("a", one, expected=one)
    assert store.ref("a") == two
    assert [c.to_json() for c in store.history()[0].changes] == [
        {"name": "a", "old": None, "new": two}
    ]
    move(store, "a", None)
    assert store.refs() == {}
    assert store.history()[0].changes[0].new is None


def test_transaction_without_moves_writes_no_history(store):
    with store.transaction("note") as tx:
        digest = tx.put_record(record())
        tx.put_memo("key", digest, 1.0)
    first = move(store, "a", record())
    with store.transaction("same") as tx:
        tx.move_ref("a", first, expected=first)
    with store.transaction("nothing"):
        pass
    assert [entry.action for entry in store.history()] == ["move"]


def test_record_must_not_refer_to_what_is_not_stored(store):
    link = store.put_blob({"x": np.zeros(2)}, {})
    absent = records.BlobLink(digest="f" * 64, file="f" * 64, n_bytes=1)
    with store.transaction("add") as tx:
        for part in (records.record_link("f" * 64), absent.to_json(), {"$record": "x"}):
            with pytest.raises(InvalidInputError):
                tx.put_record(record(part=[part]))
        one = tx.put_record(record(blob=link.to_json()))
        two = tx.put_record(record(other=records.record_link(one)))
        tx.move_ref("a", two, expected=None)
    assert store.record(two)["other"] == {"$record": one}


def test_ref_must_not_name_what_is_not_stored(store):
    with pytest.raises(NotFoundError, match="f" * 64), store.transaction("move") as tx:
        tx.move_ref("a", "f" * 64, expected=None)


def test_malformed_arguments_are_refused(store):
    with store.transaction("add") as tx:
        digest = tx.put_record(record())
        for call in (
            lambda: tx.put_record({"kind": "x"}),
            lambda: tx.put_record(record(x=math.nan)),
            lambda: tx.move_ref("a b", digest, expected=None),
            lambda: tx.put_memo("k", "short", 1.0),
            lambda: tx.put_memo("k", digest, math.inf),
            lambda: tx.put_memo("", digest, 1.0),
            lambda: tx.record("short"),
        ):
            with pytest.raises(InvalidInputError):
                call()
    with pytest.raises(InvalidInputError), store.transaction("x", {"bad": math.nan}):
        pass


def test_ended_transaction_refuses(store):
    with store.transaction("add") as tx:
        pass
    with pytest.raises(InvalidInputError, match="ended"):
        tx.put_record(record())


def test_each_entry_carries_the_digest_of_the_one_before(store):
    for n in range(5):
        move(store, f"tasks/{n % 2}", record(n))
    entries = store.history()[::-1]
    assert [entry.counter for entry in entries] == list(range(5))
    assert [entry.previous for entry in entries] == [
        None,
        *(entry.digest for entry in entries[:-1]),
    ]
    assert entries[3].digest == records.digest(entries[3].to_json())


def test_history_and_refs_can_be_narrowed(store):
    for n, name in enumerate(["tasks/a", "modules/a", "tasks/b", "tasks/a"]):
        move(store, name, record(n))
    assert [entry.counter for entry in store.history(ref_prefix="tasks/")] == [3, 2, 0]
    assert [entry.counter for entry in store.history(ref_prefix="tasks/a", limit=1)] == [3]
    assert store.history(limit=0) == []
    assert list(store.refs("tasks/")) == ["tasks/a", "tasks/b"]
    assert list(store.refs("tasks/b")) == ["tasks/b"]
    assert store.refs("zzz") == {}


def test_memos_are_replaced_and_listed_by_prefix(store):
    with store.transaction("m") as tx:
        digest = tx.put_record(record())
        for key in ("module/1", "module/2", "weights/1"):
            tx.put_memo(key, digest, 1.0)
    with store.transaction("m") as tx:
        tx.put_memo("module/1", digest, 2.0)
    assert {key: memo.seconds for key, memo in store.memos("module/").items()} == {
        "module/1": 2.0,
        "module/2": 1.0,
    }


def test_unknown_record_is_not_found(store):
    with pytest.raises(NotFoundError, match="f" * 64):
        store.record("f" * 64)
