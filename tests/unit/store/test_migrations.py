"""Formats: hubs of every format stay readable, by themselves or through a copy.

``tests/data/hub-format-N.zip`` is a hub as the first release with format N wrote it. Made by
running this file: ``python tests/unit/store/test_migrations.py``, once for each format.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from moma_store import hub_file, migrations, open_catalogue
from moma_store.errors import AlreadyExistsError, FormatError
from moma_store.hub_file import HubFile
from moma_store.open_catalogue import Catalogue
from moma_store.records import BlobLink
from moma_store.store import Store
from moma_store.verification import verify

DATA = Path(__file__).parents[2] / "data"
BACKBONE = {"name": "b", "digest": "0" * 64}


def make(hub: Path) -> None:
    """A hub with whatever a hub can hold; its content follows from nothing but this code."""
    with Store.create(hub) as store:
        ramp = np.linspace(-1.0, 1.0, 2000, dtype="f4")
        base = store.put_blob({"parameters": ramp}, {"kind": "parameters", "format": 1})
        for n in range(3):
            moved = ramp * np.float32(1 + n / 1000)
            arrays = {"parameters": moved, "seen": np.arange(n, dtype="u8"), "flag": np.array(True)}
            link = store.put_blob(arrays, {"n": n, "unit": "Å"}, base=base)
            with store.transaction("add", {"n": n}) as tx:
                doc = {"kind": "x", "format": 1, "n": n, "blob": link.to_json()}
                if n:
                    doc["previous"] = {"$record": tx.ref("modules/a")}
                digest = tx.put_record(doc)
                tx.move_ref("modules/a", digest, expected=tx.ref("modules/a"))
                tx.move_ref(f"modules/{n}", digest, expected=None)
                tx.put_memo(f"module:{n}", digest, 0.5)
        with store.transaction("remove") as tx:
            tx.move_ref("modules/0", None, expected=tx.ref("modules/0"))


def state(hub: Path) -> str:
    """A digest of everything in a hub but times and its random name."""
    with Store.open(hub) as store, store.snapshot() as view:
        content: list[object] = [
            view.refs(),
            sorted((k, m.result) for k, m in view.memos().items()),
        ]
        entries = view.history()
        content += [[e.counter, e.action, [c.to_json() for c in e.changes]] for e in entries]
        for digest in view.records():
            blob = store.blob(BlobLink.from_json(view.record(digest)["blob"]))
            content.append([digest, blob.header, {n: a.tobytes() for n, a in blob.arrays.items()}])
    return hashlib.sha256(repr(content).encode()).hexdigest()


def unpacked(number: int, folder: Path) -> Path:
    with zipfile.ZipFile(DATA / f"hub-format-{number}.zip") as archive:
        archive.extractall(folder)
    return folder / "hub"


@pytest.mark.fault("a hub of an older format")
@pytest.mark.parametrize("number", range(1, hub_file.FORMAT + 1))
def test_a_hub_of_every_format_opens_or_is_migrated(number, tmp_path):
    hub = unpacked(number, tmp_path)
    assert migrations.format_of(hub) == number
    if number < hub_file.FORMAT:
        migrations.migrate(hub, tmp_path / "new")
        hub = tmp_path / "new"
    assert verify(hub, deep=True).problems == ()
    make(tmp_path / "same")
    assert state(hub) == state(tmp_path / "same")
    with Store.open(hub, write=True) as store, store.transaction("more") as tx:
        tx.move_ref("new", tx.put_record({"kind": "x", "format": 1}), expected=None)


def to_next_format(hub: Path) -> None:
    """A migration such as another format would bring."""
    text = (hub / "hub.toml").read_text()
    (hub / "hub.toml").write_text(text.replace("format = 1", "format = 2"))
    catalogue = Catalogue.open(hub / "catalogue.lmdb", HubFile.read(hub))
    with catalogue.write() as writer:
        meta = writer.meta()
        writer.put_meta({**meta, "format": 2})
    catalogue.close()


@pytest.fixture
def next_format(monkeypatch):
    monkeypatch.setattr(hub_file, "FORMAT", 2)
    monkeypatch.setattr(open_catalogue, "FORMAT", 2)


@pytest.mark.fault("a hub of an older format")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_older_hub_is_refused_and_migrated_on_a_copy(tmp_path, request, elsewhere):
    hub, new = tmp_path / "hub", tmp_path / "new"
    home = tmp_path / "local" / "catalogue" if elsewhere else None
    with (
        Store.create(hub, catalogue=home) as store,
        store.transaction("a") as tx,
    ):
        tx.move_ref("r", tx.put_record({"kind": "x", "format": 1}), expected=None)
    request.getfixturevalue("next_format")
    before = {path: path.read_bytes() for path in hub.rglob("*.toml")}
    with pytest.raises(FormatError, match="migrate"):
        Store.open(hub)
    assert migrations.migrate(hub, new, migrations={1: to_next_format}) == 1
    assert migrations.format_of(new) == 2
    assert {path: path.read_bytes() for path in hub.rglob("*.toml")} == before
    with Store.open(new) as store:
        assert store.ref("r") is not None
    with pytest.raises(AlreadyExistsError):
        migrations.migrate(hub, new, migrations={1: to_next_format})


@pytest.mark.usefixtures("next_format")
def test_a_format_from_which_no_step_leads_on_is_refused(tmp_path):
    with pytest.raises(FormatError, match="format 1"):
        migrations.migrate(unpacked(1, tmp_path), tmp_path / "new", migrations={})
    assert not (tmp_path / "new").exists()


def test_a_migration_that_fails_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    hub = unpacked(1, tmp_path)

    def fail(_: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hub_file, "FORMAT", 2)
    with pytest.raises(ZeroDivisionError):
        migrations.migrate(hub, tmp_path / "new", migrations={1: fail})
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    assert verify(hub).problems == ()


if __name__ == "__main__":
    import tempfile

    archive_path = DATA / f"hub-format-{hub_file.FORMAT}.zip"
    if archive_path.exists():
        sys.exit(f"{archive_path} exists: what a release wrote is never written again")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "hub")
        with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.name != "lock.mdb":
                    archive.write(path, path.relative_to(folder))
