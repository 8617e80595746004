"""Bits flip: in blobs each is found before use, in the catalogue each is found or harmless."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from moma_store.environment import DATABASES
from moma_store.errors import IntegrityError, StorageError
from moma_store.pages import check_pages
from moma_store.store import Store
from moma_store.testing import count_bits, flip_bit
from moma_store.verification import verify
from tests.helpers.processes import answering
from tests.helpers.stores import new_store

# For each line "BIT" the child flips that bit of the catalogue, says what `verify` finds, what a
# fork reads that has not verified anything, and whether a fork can go on writing where nothing was
# found; then it flips the bit back. Forks, since LMDB may take the process down with it.
NURSERY = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from moma_store.errors import MomaError
from moma_store.store import Store
from moma_store.testing import flip_bit
from moma_store.verification import verify

hub = Path(sys.argv[1])
data = hub / "catalogue.lmdb" / "data.mdb"

def content():
    with Store.open(hub) as store, store.snapshot() as view:
        found = [view.refs(), view.history(), {d: view.record(d) for d in view.records()}]
        return hashlib.sha256(repr(found).encode()).hexdigest()

def write():
    with Store.open(hub, write=True) as store:
        for n in range(3):
            with store.transaction("after", {"n": n}) as tx:
                new = tx.put_record({"kind": "x", "format": 1, "n": n, "text": "y" * 5000})
                tx.move_ref("after", new, expected=tx.ref("after"))
    return str(verify(hub).damaged)

def forked(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(20)
        try:
            said = work()
        except MomaError as error:
            said = "error " + error.code
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 1000).decode()
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return said if status == 0 else "crash"

whole = forked(content)
print("ready", flush=True)
for line in sys.stdin:
    before = data.read_bytes()
    flip_bit(data, int(line))
    found = bool(verify(hub).problems)
    read = forked(content)
    goes_on = None if found else forked(write)
    data.write_bytes(before)
    print(json.dumps([found, "same" if read == whole else read[:20], goes_on]), flush=True)
"""


def make(hub: Path) -> None:
    with new_store(hub) as store:
        for n in range(60):
            with store.transaction("step", {"n": n}) as tx:
                doc = {"kind": "x", "format": 1, "n": n, "text": "x" * (9000 if n % 7 == 0 else n)}
                new = tx.put_record(doc)
                name = f"modules/{n % 25}"
                tx.move_ref(name, new, expected=tx.ref(name))
                tx.put_memo(f"estimate:{n}", new, float(n))


def flip_in_catalogue(tmp_path: Path, flips: int, reached) -> None:
    hub = tmp_path / "hub"
    make(hub)
    data = hub / "catalogue.lmdb" / "data.mdb"
    pages = check_pages(data, databases=DATABASES)
    bits = pages.page_size * 8
    generator = random.Random(flips)
    counts = {"found by verify": 0, "harmless": 0, "refused by a plain read": 0, "crash": 0}
    with answering(NURSERY, hub) as flip:
        for number in range(flips):
            page = generator.choice(sorted(pages.used))
            # Every fourth hits the first bytes of a page, where its structure is.
            within = generator.randrange(1024 if number % 4 == 0 else bits)
            found, read, goes_on = json.loads(flip(page * bits + within))
            counts["found by verify" if found else "harmless"] += 1
            counts["refused by a plain read"] += read.startswith("error")
            counts["crash"] += read == "crash"
            if not found:
                assert (read, goes_on) == ("same", "False"), (page, within)
            # What is read without verifying is right, or refused; never something else.
            assert read in ("same", "crash") or read.startswith("error"), (page, within)
    assert counts["found by verify"] > flips // 10
    reached(f"flips in the catalogue: {flips} in {len(pages.used)} used pages: {counts}")


def test_a_bit_flipped_in_the_catalogue_is_found_or_harmless(tmp_path, reached):
    flip_in_catalogue(tmp_path, 100, reached)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_bits_flipped_in_the_catalogue_are_found_or_harmless(tmp_path, reached):
    flip_in_catalogue(tmp_path, 2000, reached)


def test_a_flip_is_repaired_from_the_backup(tmp_path, reached):
    hub = tmp_path / "hub"
    make(hub)
    with Store.open(hub) as store:
        whole = store.refs(), store.history()
    data = hub / "catalogue.lmdb" / "data.mdb"
    pages = check_pages(data, databases=DATABASES)
    generator = random.Random(0)
    repaired = 0
    for _ in range(40):
        page = generator.choice(sorted(pages.used))
        flip_bit(data, page * pages.page_size * 8 + generator.randrange(pages.page_size * 8))
        found = verify(hub, repair=True)
        repaired += bool(found.problems)
        assert not found.damaged
        pages = check_pages(data, databases=DATABASES)
    with Store.open(hub) as store:
        assert (store.refs(), store.history()) == whole
    assert repaired > 4
    reached(f"40 flips in the catalogue, {repaired} found and repaired")


def flip_in_blobs(tmp_path: Path, flips: int, reached) -> None:
    hub = tmp_path / "hub"
    rng = np.random.default_rng(0)
    with new_store(hub) as store:
        p = rng.standard_normal(3000).astype("f4")
        base = store.put_blob({"p": p}, {})
        links = [base, store.put_blob({"n": np.arange(50), "x": np.zeros((3, 2))}, {"h": 1})]
        links += [
            store.put_blob({"p": (p * (1 + 1e-4 * n)).astype("f4")}, {"n": n}, base=base)
            for n in range(1, 4)
        ]
        with store.transaction("add") as tx:
            docs = [{"kind": "x", "format": 1, "blob": link.to_json()} for link in links]
            for n, doc in enumerate(docs):
                tx.move_ref(f"modules/{n}", tx.put_record(doc), expected=None)
        whole = {link: _bytes(store, link) for link in links}
    generator = random.Random(flips)
    named = refused = 0
    with Store.open(hub) as store:
        for number in range(flips):
            link = generator.choice(links)
            path = store.blob_path(link)
            bit = generator.randrange(count_bits(path))
            flip_bit(path, bit)
            try:
                # Before use: what is read is right, or nothing is.
                assert _bytes(store, link) == whole[link]
            except (IntegrityError, StorageError):
                refused += 1
            assert store.files.sha256(path) != link.file
            if number % 100 == 0:
                damaged = [problem.subject for problem in verify(hub).problems]
                assert damaged == [link.digest]
                named += 1
            flip_bit(path, bit)
    assert verify(hub, deep=True).problems == ()
    assert refused > flips // 3
    reached(
        f"flips in blobs: {flips}, all found by verify ({named} by the whole of it);"
        f" {refused} matter to a read and were refused"
    )


def _bytes(store: Store, link) -> dict[str, bytes]:
    blob = store.blob(link)
    return {name: array.tobytes() for name, array in blob.arrays.items()}


def test_a_bit_flipped_in_a_blob_is_found_before_use(tmp_path, reached):
    flip_in_blobs(tmp_path, 300, reached)


@pytest.mark.slow
def test_many_bits_flipped_in_blobs_are_found_before_use(tmp_path, reached):
    flip_in_blobs(tmp_path, 5000, reached)
