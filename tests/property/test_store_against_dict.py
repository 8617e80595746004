"""The store against a model of dictionaries, under any sequence of operations."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from moma_store import records
from moma_store.errors import ConflictError, NotFoundError
from moma_store.store import Store

NAMES = st.sampled_from(["tasks/a", "tasks/b", "modules/a"])
KEYS = st.sampled_from(["module/1", "weights/1"])


class Abort(Exception):
    """Raised inside a transaction to abandon it."""


class StoreMachine(RuleBasedStateMachine):
    blobs = Bundle("blobs")
    digests = Bundle("digests")

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "hub"
        self.store = Store.create(self.path, backbone={"name": "b", "digest": "d"})
        self.arrays: dict[str, bytes] = {}
        self.records: dict[str, dict[str, object]] = {}
        self.refs: dict[str, str] = {}
        self.memos: dict[str, tuple[str, float]] = {}
        self.moves: list[dict[str, str | None]] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @rule(target=blobs, seed=st.integers(0, 3), header=st.integers(0, 1))
    def put_blob(self, seed: int, header: int):
        array = np.random.default_rng(seed).standard_normal(50).astype("f4")
        link = self.store.put_blob({"p": array}, {"h": header})
        self.arrays[link.digest] = array.tobytes()
        return link

    @rule(target=blobs, base=blobs, seed=st.integers(4, 6))
    def put_difference(self, base, seed: int):
        array = np.random.default_rng(seed).standard_normal(50).astype("f4")
        whole = self.store.put_blob(
            {"p": np.frombuffer(self.arrays[base.digest], "f4")}, {"base": True}
        )
        link = self.store.put_blob({"p": array}, {"h": "difference"}, base=whole)
        self.arrays[link.digest] = array.tobytes()
        self.arrays[whole.digest] = self.arrays[base.digest]
        return multiple(link, whole)

    @rule(link=blobs)
    def read_blob(self, link) -> None:
        assert self.store.blob(link).arrays["p"].tobytes() == self.arrays[link.digest]

    @rule(target=digests, link=blobs, n=st.integers(0, 5), name=NAMES)
    def add(self, link, n: int, name: str):
        doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
        with self.store.transaction("add", {"n": n}) as tx:
            digest = tx.put_record(doc)
            tx.move_ref(name, digest, expected=self.refs.get(name))
        self._moved(name, digest)
        self.records[digest] = doc
        return digest

    @rule(digest=digests, name=NAMES)
    def roll_back(self, digest: str, name: str) -> None:
        with self.store.transaction("rollback") as tx:
            tx.move_ref(name, digest, expected=self.refs.get(name))
        self._moved(name, digest)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        with self.store.transaction("remove") as tx:
            tx.move_ref(name, None, expected=self.refs.get(name))
        self._moved(name, None)

    @rule(digest=digests, key=KEYS, seconds=st.floats(0, 10))
    def remember(self, digest: str, key: str, seconds: float) -> None:
        with self.store.transaction("memo") as tx:
            tx.put_memo(key, digest, seconds)
        self.memos[key] = (digest, seconds)

    @rule(digest=digests, name=NAMES)
    def conflict(self, digest: str, name: str) -> None:
        with pytest.raises(ConflictError), self.store.transaction("lose") as tx:
            tx.move_ref(name, digest, expected="0" * 64)

    @rule(name=NAMES, key=KEYS, n=st.integers(100, 105))
    def abandon(self, name: str, key: str, n: int) -> None:
        def attempt() -> str:
            with self.store.transaction("abandon") as tx:
                digest = tx.put_record({"kind": "x", "format": 1, "n": n})
                tx.move_ref(name, digest, expected=self.refs.get(name))
                tx.put_memo(key, digest, 1.0)
                assert tx.ref(name) == digest
                raise Abort(digest)

        with pytest.raises(Abort) as caught:
            attempt()
        with pytest.raises(NotFoundError):
            self.store.record(caught.value.args[0])

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.path, write=True)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.snapshot() as view:
            assert view.refs() == dict(sorted(self.refs.items()))
            assert view.records() == sorted(self.records)
            assert {d: view.record(d) for d in view.records()} == self.records
            assert {k: (m.result, m.seconds) for k, m in view.memos().items()} == self.memos
            entries = view.history()[::-1]
        assert [change.to_json() for entry in entries for change in entry.changes] == self.moves
        previous = [None, *(records.digest(entry.to_json()) for entry in entries)]
        assert [entry.previous for entry in entries] == previous[:-1]

    def _moved(self, name: str, new: str | None) -> None:
        old = self.refs.get(name)
        if old != new:
            self.moves.append({"name": name, "old": old, "new": new})
        if new is None:
            self.refs.pop(name, None)
        else:
            self.refs[name] = new


TestStoreAgainstDict = StoreMachine.TestCase
TestStoreAgainstDict.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
