"""The store against a model of dictionaries, under any sequence of operations and faults."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from moma_store import records
from moma_store.collection import collect
from moma_store.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from moma_store.records import BlobLink
from moma_store.store import Store
from moma_store.testing import FaultyFiles, count_bits, flip_bit
from moma_store.verification import verify
from tests.helpers.stores import new_store

NAMES = st.sampled_from(["tasks/a", "tasks/b", "modules/a"])
KEYS = st.sampled_from(["module/1", "weights/1"])


class Abort(Exception):
    """Raised inside a transaction to abandon it."""


def refused_with(action) -> int | None:
    """Give the number with which the operating system refused an action."""
    try:
        action()
    except StorageError as error:
        return error.errno
    return None


class StoreMachine(RuleBasedStateMachine):
    blobs = Bundle("blobs")
    digests = Bundle("digests")

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "hub"
        self.files = FaultyFiles(errno=errno.ENOSPC)
        new_store(self.path).close()
        self.store = self.opened()
        self.arrays: dict[str, bytes] = {}
        self.records: dict[str, dict[str, object]] = {}
        self.refs: dict[str, str] = {}
        self.memos: dict[str, tuple[str, float]] = {}
        self.moves: list[dict[str, str | None]] = []

    def opened(self) -> Store:
        return Store.open(self.path, write=True, files=self.files)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            assert verify(self.path, deep=True).problems == ()
            self.folder.cleanup()

    @rule(target=blobs, seed=st.integers(0, 3), header=st.integers(0, 1))
    def put_blob(self, seed: int, header: int):
        array = np.random.default_rng(seed).standard_normal(50).astype("f4")
        link = self.store.put_blob({"p": array}, {"h": header})
        self.arrays[link.digest] = array.tobytes()
        return link

    @rule(target=blobs, base=blobs, seed=st.integers(4, 6))
    def put_difference(self, base, seed: int):
        assume(base.digest in self.arrays)
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
        if link.digest not in self.arrays:
            with pytest.raises(IntegrityError):
                self.store.blob(link)
            return
        assert self.store.blob(link).arrays["p"].tobytes() == self.arrays[link.digest]

    @rule(target=digests, link=blobs, n=st.integers(0, 5), name=NAMES)
    def add(self, link, n: int, name: str):
        doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}

        def attempt() -> str:
            with self.store.transaction("add", {"n": n}) as tx:
                digest = tx.put_record(doc)
                tx.move_ref(name, digest, expected=self.refs.get(name))
            return digest

        if link.digest not in self.arrays:
            with pytest.raises(InvalidInputError):
                attempt()
            return multiple()
        digest = attempt()
        self._moved(name, digest)
        self.records[digest] = doc
        return digest

    @rule(digest=digests, name=NAMES)
    def roll_back(self, digest: str, name: str) -> None:
        assume(digest in self.records)
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
        assume(digest in self.records)
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
        self.store = self.opened()

    @rule()
    def end_without_a_backup(self) -> None:
        self.store._close(backup=False)
        self.store = self.opened()

    @rule(call=st.integers(0, 14), number=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def refuse_a_call(self, call: int, number: int) -> None:
        """What the disk refuses halfway changes nothing; what it lets pass is all there."""
        array = np.full(50, call, "f4")
        before = {file.digest for file in self.store.objects.listing()}
        self.files._errno = number
        self.files.arm(call)
        refused = refused_with(lambda: self.store.put_blob({"p": array}, {"refused": number}))
        self.files.arm()
        assert refused in (None, number)
        assert not list(self.store.tmp_dir.iterdir())
        # Refused at the very end, the file is there but nobody was told that it will stay.
        for file in self.store.objects.listing():
            if file.digest is not None and file.digest not in before:
                self.arrays[file.digest] = array.tobytes()

    @rule(call=st.integers(0, 4))
    def refuse_a_call_of_gc(self, call: int) -> None:
        self.files._errno = errno.EIO
        self.files.arm(call)
        assert refused_with(lambda: collect(self.store)) in (None, errno.EIO)
        self.files.arm()
        # Whatever it came to, the next one finishes.
        self.collect()

    @rule()
    def collect(self) -> None:
        collect(self.store)
        self.records = {d: doc for d, doc in self.records.items() if d in self.refs.values()}
        self.memos = {k: memo for k, memo in self.memos.items() if memo[0] in self.records}
        links = [BlobLink.from_json(doc["blob"]) for doc in self.records.values()]
        kept = {link.digest for link in links} | {link.base for link in links}
        self.arrays = {d: content for d, content in self.arrays.items() if d in kept}
        stored = {file.digest for file in self.store.objects.listing()}
        assert stored == set(self.arrays)

    @rule(link=blobs, where=st.floats(0, 1, exclude_max=True))
    def flip(self, link, where: float) -> None:
        """A flipped bit is named; nothing else is."""
        used = {doc["blob"]["$blob"] for doc in self.records.values()}
        assume(link.digest in used and link.digest in self.arrays)
        path = self.store.blob_path(link)
        bit = int(where * count_bits(path))
        self.store.close()
        flip_bit(path, bit)
        found = verify(self.path)
        assert [problem.subject for problem in found.problems] == [link.digest]
        flip_bit(path, bit)
        self.store = self.opened()

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


TestStoreAgainstDict = pytest.mark.fault("any 20 operations and faults, 12 times")(
    StoreMachine.TestCase
)
TestStoreAgainstDict.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.fault("any 40 operations and faults, 200 times")
class TestStoreAgainstDictForLong(StoreMachine.TestCase):
    settings = settings(
        max_examples=200,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
