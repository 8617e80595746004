"""The operating system refuses one call: a typed error, nothing visible, a store that still works."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import lmdb
import numpy as np
import pytest

from moma_store.environment import Environment
from moma_store.errors import StorageError
from moma_store.store import Store
from moma_store.testing import FaultyFiles
from tests.helpers.stores import new_store

ARRAYS = {"p": np.arange(1000, dtype="f4")}


def add(store: Store, n: int = 1) -> str:
    link = store.put_blob(ARRAYS, {"n": n})
    with store.transaction("add") as tx:
        digest = tx.put_record({"kind": "x", "format": 1, "blob": link.to_json()})
        tx.move_ref("tasks/a", digest, expected=tx.ref("tasks/a"))
    return digest


def objects(store: Store) -> list[str]:
    return sorted(path.name for path in (store.path / "objects").rglob("*") if path.is_file())


def test_calls_come_in_the_order_that_survives_a_power_cut(hub):
    files = FaultyFiles(errno=errno.EIO)
    with Store.open(hub, write=True, files=files) as store:
        store.put_blob(ARRAYS, {})
    operations = files.changes
    assert operations == [
        "create",
        *["write"] * operations.count("write"),
        "fsync",
        "make_folder",
        "rename",
        "fsync",
        "fsync",
    ]
    assert operations.count("write") > 0


def refused(action: Callable[[], object]) -> StorageError | None:
    """Give the error with which an action was refused, None if it was not."""
    try:
        action()
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=["ENOSPC", "EIO", "EMFILE"]
)
def test_storing_a_blob_with_any_one_call_refused(hub, number, reached):
    files = FaultyFiles(errno=number)
    with Store.open(hub, write=True, files=files) as store:
        at = add(store, n=0)
        for call in count():
            files.arm(call)
            error = refused(partial(add, store, n=call + 1))
            if error is None:
                break
            files.arm()
            assert error.errno == number
            assert str(hub) in error.message
            assert store.ref("tasks/a") == at
            assert not list(store.tmp_dir.iterdir())
            at = add(store, n=call + 1)
            assert store.ref("tasks/a") == at
        assert call == len(files.trace) > 6
        files.arm()
        assert len(store.history()) == call + 2
        assert len(objects(store)) == call + 2
    reached(
        f"{errno.errorcode[number]} at each of the {call} file calls of a commit: nothing visible"
    )


def make(path: Path, files: FaultyFiles) -> None:
    new_store(path, files=files).close()


def test_making_a_hub_with_any_one_call_refused(tmp_path, reached):
    files = FaultyFiles(errno=errno.ENOSPC)
    for call in count():
        path = tmp_path / str(call)
        files.arm(call)
        error = refused(partial(make, path, files))
        if error is None:
            break
        assert error.errno == errno.ENOSPC
        # Whatever was left behind does not stand in the way of another attempt.
        if (path / "hub.toml").exists():
            Store.open(path).close()
        else:
            new_store(path).close()
    assert call == len(files.trace) > 8
    reached(f"ENOSPC at each of the {call} file calls of making a hub: made at the next attempt")


def test_backup_with_any_one_call_refused(hub, reached):
    files = FaultyFiles(errno=errno.ENOSPC)
    with Store.open(hub, write=True, files=files) as store:
        add(store)
        first = store.backup()
        for call in count():
            files.arm(call)
            if refused(store.backup) is None:
                break
            assert any(path.exists() for path in (first, *first.parent.glob("*")))
            assert not list(store.tmp_dir.iterdir())
        files.arm()
        assert call > 4
        reached(f"a backup refused at each of its {call} file calls: earlier ones kept")
        assert len(list(first.parent.iterdir())) <= 3
        store.backup()
        assert len(list(first.parent.iterdir())) == 2


@contextmanager
def largest_file(n_bytes: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_commit_that_the_disk_refuses(hub):
    with Store.open(hub, write=True) as store:
        before = add(store)
        size = (hub / "catalogue.lmdb" / "data.mdb").stat().st_size

        def commit() -> None:
            with store.transaction("big") as tx:
                digest = tx.put_record({"kind": "x", "format": 1, "text": "x" * 100_000})
                tx.move_ref("tasks/a", digest, expected=before)

        with largest_file(size), pytest.raises(StorageError) as caught:
            commit()
        assert caught.value.errno == errno.EFBIG
        assert store.ref("tasks/a") == before
        assert len(store.history()) == 1
        commit()
        assert store.ref("tasks/a") != before


def test_environment_that_refuses_everything_after_a_failed_commit_is_opened_afresh(
    hub, monkeypatch
):
    class Broken:
        """An environment as LMDB leaves it after a fatal error."""

        def __init__(self, env) -> None:
            self.env = env
            self.closed = False

        def begin(self, write: bool):
            raise lmdb.PanicError("mdb_txn_begin", -30795)

        def close(self) -> None:
            self.closed = True
            self.env.close()

    with Store.open(hub, write=True) as store:
        environment = store._catalogue._environment
        assert isinstance(environment, Environment)
        broken = environment._env = Broken(environment._env)
        with pytest.raises(StorageError):
            add(store)
        with pytest.raises(StorageError), store.transaction("memo") as tx:
            tx.put_memo("k", "0" * 64, 1.0)
        assert broken.closed
        digest = add(store)
        assert store.ref("tasks/a") == digest
