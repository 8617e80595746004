from __future__ import annotations

import math

import pytest

from moma_store import errors, records
from moma_store.entries import check_name, seal, unseal
from moma_store.errors import IntegrityError, InvalidInputError, MomaError
from moma_store.records import BlobLink
from tests.helpers.processes import run_python

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_canonical_form_does_not_depend_on_order_of_keys():
    assert (
        records.canonical_json({"b": 1, "a": [True, None, "é"]})
        == '{"a":[true,null,"é"],"b":1}'.encode()
    )
    assert records.digest({"b": 1, "a": 2}) == records.digest({"a": 2, "b": 1})


@pytest.mark.parametrize(
    "doc",
    [
        {"x": math.nan},
        {"x": [math.inf]},
        {1: "x"},
        {"x": {None: 1}},
        {"x": b"bytes"},
        {"x": {1, 2}},
        {"x": "\ud800"},
    ],
)
def test_what_json_cannot_say_is_refused(doc):
    with pytest.raises(InvalidInputError):
        records.canonical_json(doc)


def test_nesting_without_end_is_refused():
    doc: dict[str, object] = {}
    doc["self"] = doc
    with pytest.raises(InvalidInputError):
        records.canonical_json(doc)


def test_links_are_found_at_any_depth():
    link = BlobLink(digest=A, file=B, n_bytes=3)
    doc = {"kind": "x", "format": 1, "parts": [{"deep": link.to_json()}, [records.record_link(C)]]}
    assert records.links(doc) == ({C}, {link})


@pytest.mark.parametrize(
    "link",
    [
        {"$record": "../../etc/passwd"},
        {"$record": A, "also": 1},
        {"$record": A.upper()},
        {"$blob": A},
        {"$blob": A, "file": B, "bytes": -1},
        {"$blob": A, "file": B, "bytes": True},
        {"$blob": A, "file": "b", "bytes": 1},
    ],
)
def test_malformed_link_is_refused(link):
    with pytest.raises(InvalidInputError):
        records.links({"x": link})


@pytest.mark.parametrize(
    "doc", [{}, {"kind": 1, "format": 1}, {"kind": "x"}, {"kind": "x", "format": True}]
)
def test_record_needs_kind_and_format(doc):
    with pytest.raises(InvalidInputError):
        records.check_record(doc)


def test_record_is_verified_against_its_name():
    data = records.canonical_json({"kind": "x", "format": 1})
    name = records.digest({"kind": "x", "format": 1})
    assert records.load_record(name, data) == {"kind": "x", "format": 1}
    with pytest.raises(IntegrityError, match=name):
        records.load_record(name, data.replace(b"1", b"2"))


def test_seal_covers_database_key_and_value():
    sealed = seal("refs", b"key", b"value")
    assert unseal("refs", b"key", sealed) == b"value"
    flipped = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    for database, key, data in [
        ("memo", b"key", sealed),
        ("refs", b"kex", sealed),
        ("refs", b"key", b""),
    ]:
        with pytest.raises(IntegrityError):
            unseal(database, key, data)
    for data in flipped:
        with pytest.raises(IntegrityError):
            unseal("refs", b"key", data)


@pytest.mark.parametrize(
    "name", ["", "a//b", "/a", "a/", "a b", "a\n", "\ud800", "x" * 401, 3, None]
)
def test_name_that_could_confuse_is_refused(name):
    with pytest.raises(InvalidInputError):
        check_name("ref", name)


def test_every_error_has_a_code_and_an_exit_status():
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "MomaError"]
    assert {kind.code: kind.exit_code for kind in kinds} == {
        "not-found": 3,
        "already-exists": 4,
        "invalid-input": 4,
        "busy": 5,
        "busy.conflict": 5,
        "integrity": 6,
        "format": 7,
        "backbone": 4,
        "storage": 1,
    }
    assert all(issubclass(kind, MomaError) for kind in kinds)
    assert InvalidInputError("x", code="invalid-input.nan").code == "invalid-input.nan"
    assert InvalidInputError("x").message == "x"


def test_reading_a_hub_imports_neither_numpy_nor_zarr(tmp_path):
    script = f"""
import sys
from pathlib import Path
from moma_store.store import Store
with Store.create(Path({str(tmp_path / "hub")!r})) as store:
    with store.transaction("x") as tx:
        digest = tx.put_record({{"kind": "x", "format": 1}})
        tx.move_ref("tasks/x", digest, expected=None)
        tx.put_memo("k", digest, 1.0)
with Store.open(Path({str(tmp_path / "hub")!r})) as store:
    store.record(digest), store.refs(), store.history(), store.memos()
print([name for name in ("numpy", "zarr", "numcodecs", "asyncio") if name in sys.modules])
"""
    assert run_python(script).strip() == "[]"
