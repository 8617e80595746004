"""Collecting and importing are killed at each call: the old state or the new, and no damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from moma_store.archives import export
from moma_store.store import Store
from moma_store.verification import verify
from tests.helpers.processes import answering
from tests.helpers.stores import new_store

N = 3000

# Forks a process for each line "HUB CALL ACTION": it kills itself at its CALL-th file-system call.
# The answer is 1 if it ended by itself.
NURSERY = """
import os, sys
from pathlib import Path
from moma_store import blobs, blob_reader, importing
from moma_store.archives import Archive
from moma_store.collection import collect
from moma_store.store import Store
from moma_store.testing import FaultyFiles

def work(hub, call, action):
    files = FaultyFiles(errno=None, at=(call,))
    with Store.open(hub, write=True, files=files) as store:
        if action == "gc":
            collect(store)
        else:
            with Archive(Path(sys.argv[1])) as archive:
                importing.import_contents(store, archive)

print("ready", flush=True)
for line in sys.stdin:
    hub, call, action = line.split()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Path(hub), int(call), action)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    print(int(not os.WIFSIGNALED(status)), flush=True)
"""


def add(store: Store, name: str, n: int, base) -> None:
    moved = base[1] + np.float32(n)
    link = store.put_blob({"p": moved, "x": np.arange(n)}, {"n": n}, base=base[0])
    with store.transaction("add", {"n": n}) as tx:
        doc = {"kind": "module", "format": 1, "n": n, "blob": link.to_json()}
        new = tx.put_record(doc)
        tx.move_ref(f"modules/{name}", new, expected=tx.ref(f"modules/{name}"))
        tx.put_memo(f"module:{n}", new, 1.0)


def filled(path: Path, names: tuple[str, ...]) -> Path:
    """A hub whose modules were replaced once, so that there is something to collect."""
    array = np.random.default_rng(0).standard_normal(N).astype("f4")
    with new_store(path) as store:
        base = store.put_blob({"p": array}, {})
        with store.transaction("base") as tx:
            doc = {"kind": "hub", "format": 1, "parameters": base.to_json()}
            tx.move_ref("hub", tx.put_record(doc), expected=None)
        for n, name in enumerate([*names, *names]):
            add(store, name, n + len(name), (base, array))
        store.put_blob({"orphan": np.arange(9)}, {})
    return path


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("kill")
    hub = filled(folder / "hub", ("a", "b"))
    with Store.open(filled(folder / "other", ("long", "longer"))) as store:
        chosen = store.refs("modules/")
        export(store, folder / "modules.zip", refs=chosen)
    return hub, folder / "modules.zip"


@pytest.fixture
def nursery(material):
    with answering(NURSERY, material[1]) as ask:
        yield ask


def ends(nursery, hub: Path, call: int, action: str) -> bool:
    return nursery(f"{hub} {call} {action}") == "1\n"


def state(hub: Path) -> tuple[dict[str, str], set[str], set[str]]:
    """Refs, records and blob files."""
    with Store.open(hub) as store, store.snapshot() as view:
        files = {file.path.name for file in store.objects.listing()}
        return view.refs(), set(view.records()), files


@pytest.mark.parametrize("action", ["gc", "import"])
def test_kill_at_every_call(nursery, material, tmp_path, action, reached):
    old = state(material[0])
    done = Path(shutil.copytree(material[0], tmp_path / "done"))
    assert ends(nursery, done, -1, action)
    new = state(done)
    assert new != old
    call = 0
    while True:
        hub = Path(shutil.copytree(material[0], tmp_path / str(call)))
        ended = ends(nursery, hub, call, action)
        now = state(hub)
        assert now[0] in (old[0], new[0])
        assert now[1] in (old[1], new[1])
        assert now[2] <= old[2] | new[2]
        assert verify(hub, deep=True).problems == ()
        if ended:
            break
        # What was begun is finished by the next run, and nothing is left over.
        assert ends(nursery, hub, -1, action)
        assert state(hub) == new
        assert not list((hub / "tmp").iterdir())
        shutil.rmtree(hub)
        call += 1
    assert call > 10
    reached(f"{action} killed at each of {call} file-system calls: the old state or the new")
