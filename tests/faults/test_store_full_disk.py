"""A file system without room: `gc` makes some, and succeeds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def full_disk(tmp_path: Path, code: str, *arguments: object) -> str:
    """Run code in a namespace where ``DISK`` is a file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=3m none {disk} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code, str(disk)]
    command += map(str, arguments)
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount" in done.stderr and not done.stdout:
        pytest.skip(f"cannot mount: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL = """
import os, sys
from errno import ENOSPC
from pathlib import Path
import numpy as np
from moma_store.collection import collect
from moma_store.errors import StorageError
from moma_store.store import Store
from moma_store.verification import verify

def add(store, n, ref):
    link = store.put_blob({"p": np.random.default_rng(n).integers(0, 255, 40000, "u1")}, {})
    with store.transaction("add") as tx:
        doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
        tx.move_ref(ref, tx.put_record(doc), expected=tx.ref(ref))

hub = Path(sys.argv[1]) / "hub"
store = Store.create(hub)
store.backup()
(hub / "cache" / "graphs").write_bytes(bytes(100_000))
kept = n = 0
try:
    while True:
        add(store, n, "modules/a")
        n += 1
except StorageError as error:
    assert error.errno == ENOSPC, error
before = store.ref("modules/a")
# Not a byte is left for the catalogue, either.
filler = os.open(Path(sys.argv[1]) / "filler", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
try:
    with store.transaction("more") as tx:
        for k in range(50):
            tx.move_ref(f"tasks/{k}", tx.put_record({"kind": "x", "format": 1, "t": "x" * 3000, "k": k}), expected=None)
    raise AssertionError("the disk is not full")
except StorageError as error:
    assert error.errno == ENOSPC, error
assert store.ref("modules/a") == before
collected = collect(store)
assert collected.blobs >= n - 1, (collected, n)
add(store, 10**6, "modules/a")
store.close()
assert verify(hub, deep=True).problems == ()
print(collected.blobs)
"""


@pytest.mark.fault("gc on a full disk")
def test_gc_works_on_a_full_disk(tmp_path):
    assert int(full_disk(tmp_path, FULL)) > 20


NO_ROOM_FOR_A_COPY = """
import logging, os, sys
from pathlib import Path
from moma_store.collection import collect
from moma_store.store import Store
from moma_store.verification import verify

logging.basicConfig(stream=sys.stdout, format="%(message)s")
hub = Path(sys.argv[1]) / "hub"
with Store.create(hub) as store:
    for n in range(300):
        with store.transaction("add") as tx:
            doc = {"kind": "x", "format": 1, "n": n, "text": "x" * 1000}
            ref = f"modules/{min(n, 297)}"  # two of them are replaced
            tx.move_ref(ref, tx.put_record(doc), expected=tx.ref(ref))
(hub / "cache" / "graphs").write_bytes(bytes(int(sys.argv[2])))
before = sorted((hub / "backups").iterdir())
filler = os.open(Path(sys.argv[1]) / "filler", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
with Store.open(hub, write=True) as store:
    collected = collect(store)
assert collected.records == 2, collected
assert sorted((hub / "backups").iterdir()) == before
assert verify(hub, deep=True).problems == ()
"""


@pytest.mark.fault("gc on a full disk")
@pytest.mark.parametrize("cached", [100_000, 150_000])
def test_gc_succeeds_although_no_copy_of_the_catalogue_fits(tmp_path, cached):
    assert "no room for a new copy" in full_disk(tmp_path, NO_ROOM_FOR_A_COPY, cached)
