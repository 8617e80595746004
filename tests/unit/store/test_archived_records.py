"""An archive is read where it lies, as a store is."""

import numpy as np
import pytest

from moma_store.archived_records import ArchivedRecords
from moma_store.archives import export
from moma_store.errors import NotFoundError
from moma_store.records import BlobLink
from tests.helpers.stores import new_store


@pytest.fixture
def made(tmp_path):
    """An archive of a record whose blob is stored as the difference from another, and its link."""
    vector = np.linspace(0, 1, 3000, dtype=np.float32)
    with new_store(tmp_path / "hub") as store:
        base = store.put_blob({"p": vector}, {})
        link = store.put_blob({"p": vector + np.float32(1e-3), "q": np.arange(4)}, {}, base=base)
        with store.transaction("init") as transaction:
            doc = {"kind": "thing", "format": 1, "blob": link.to_json(), "base": base.to_json()}
            digest = transaction.put_record(doc)
            transaction.move_ref("modules/one", digest, expected=None)
        export(store, tmp_path / "part.moma", refs={"modules/one": digest})
    return tmp_path / "part.moma", digest, link, vector + np.float32(1e-3)


def test_records_refs_and_arrays_are_those_of_the_store(made):
    path, digest, link, vector = made
    with ArchivedRecords(path, refs={"hub": "f" * 64}) as archive:
        assert archive.refs("modules/") == {"modules/one": digest}
        assert archive.ref("hub") == "f" * 64
        assert archive.ref("tasks/none") is None
        assert BlobLink.from_json(archive.record(digest)["blob"]) == link
        assert archive.blob(link, ["p"]).arrays["p"].tobytes() == vector.tobytes()
        assert archive.blob(link).arrays["q"].tolist() == [0, 1, 2, 3]
        pieces = list(archive.blob_pieces(link, "p"))
        assert np.concatenate(pieces).tobytes() == vector.tobytes()


def test_a_record_that_is_not_there_is_named(made):
    with ArchivedRecords(made[0]) as archive, pytest.raises(NotFoundError, match="a" * 64):
        archive.record("a" * 64)


def test_nothing_stays_behind(made):
    path, _, link, _ = made
    with ArchivedRecords(path) as archive:
        archive.blob(link)
        folder = archive.cache_dir.parent
        assert any(folder.iterdir())
    assert not folder.exists()
