"""A system call of LMDB's own commit fails: a typed error, nothing half-written, and it goes on."""

from __future__ import annotations

import sys

import pytest

from moma_store.store import Store
from moma_store.testing import strace
from moma_store.verification import verify
from tests.helpers.stores import new_store

pytestmark = pytest.mark.skipif(not strace.available(), reason="strace is not there")

# The first commit may meet the failing call; everything after it must not.
WRITER = """
import sys
from pathlib import Path
from moma_store.errors import StorageError
from moma_store.store import Store

def step(store, n, text):
    with store.transaction("step", {"n": n}) as tx:
        new = tx.put_record({"kind": "x", "format": 1, "n": n, "text": text})
        tx.move_ref("r", new, expected=tx.ref("r"))

with Store.open(Path(sys.argv[1]), write=True) as store:
    failed = []
    for n in range(4):
        before = store.ref("r"), len(store.history())
        try:
            step(store, n, "x" * 20000)
        except StorageError as error:
            failed.append(error.errno)
            assert (store.ref("r"), len(store.history())) == before
    store._wrote = False
    print(len(store.history()), *failed)
"""


def fail_each(tmp_path, call: str, error: str, whens: range) -> int:
    hit = 0
    for when in whens:
        hub = tmp_path / f"{call}-{error}-{when}"
        new_store(hub).close()
        data = hub / "catalogue.lmdb" / "data.mdb"
        command = [sys.executable, "-c", WRITER, str(hub)]
        ended = strace.inject(command, call=call, when=when, error=error, path=data)
        assert ended.returncode == 0, ended.stderr
        entries, *failed = map(int, ended.stdout.split())
        assert entries == 4 - len(failed)
        assert len(failed) <= 1
        hit += len(failed)
        assert verify(hub).problems == ()
        with Store.open(hub) as store:
            assert len(store.history()) == entries
    return hit


@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "EIO"), ("fdatasync", "EIO"), ("writev", "ENOSPC")]
)
def test_a_commit_whose_system_call_fails(tmp_path, call, error, reached):
    hit = fail_each(tmp_path, call, error, range(1, 4))
    assert hit > 0
    reached(f"{call} failing with {error}, {hit} of 3 commits refused: nothing half-written")


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT", "EINTR"])
@pytest.mark.parametrize("call", ["pwrite64", "writev", "fdatasync", "lseek"])
def test_a_commit_whose_system_call_fails_at_any_time(tmp_path, call, error, reached):
    hit = fail_each(tmp_path, call, error, range(1, 15))
    reached(f"{call} failing with {error}, {hit} of 14 commits refused: nothing half-written")
