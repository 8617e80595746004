import shutil

import lmdb
import pytest

from moma_cl.graphs.cache import ByteCache

VALUES = {b"one": b"first", b"two": b"second" * 100, b"none": b""}


@pytest.fixture
def cache(tmp_path):
    with ByteCache(tmp_path / "cache") as opened:
        opened.put_many(VALUES)
        yield opened


def stored(cache, key):
    with cache._environment.begin() as transaction:
        return transaction.get(key)


def overwrite(cache, key, value):
    with cache._environment.begin(write=True) as transaction:
        transaction.put(key, value)


def test_values_come_back_in_the_order_of_the_keys(cache):
    assert cache.get_many([b"two", b"missing", b"none", b"one"]) == [
        b"second" * 100,
        None,
        b"",
        b"first",
    ]


def test_values_outlive_the_process(tmp_path):
    with ByteCache(tmp_path) as cache:
        cache.put_many(VALUES)
    with ByteCache(tmp_path) as cache:
        assert cache.get_many([*VALUES]) == [*VALUES.values()]
    environment = lmdb.open(str(tmp_path), readonly=True)
    assert environment.stat()["entries"] == len(VALUES)
    environment.close()


@pytest.mark.parametrize("damage", ["nothing left", "cut short", "one bit", "end missing"])
def test_a_damaged_value_counts_as_missing(cache, damage):
    value = stored(cache, b"two")
    overwrite(
        cache,
        b"two",
        {
            "nothing left": b"",
            "cut short": value[:10],
            "one bit": value[:-1] + bytes([value[-1] ^ 1]),
            "end missing": value[:-1],
        }[damage],
    )
    assert cache.get_many([b"one", b"two"]) == [b"first", None]
    cache.put_many({b"two": b"again"})
    assert cache.get_many([b"two"]) == [b"again"]


def test_a_value_under_another_key_is_not_believed(cache):
    overwrite(cache, b"one", stored(cache, b"two"))
    assert cache.get_many([b"one"]) == [None]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500])
def test_a_corrupted_environment_is_replaced(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with ByteCache(tmp_path) as cache:
        assert cache.get_many([b"one"]) == [None]
        cache.put_many(VALUES)
        assert cache.get_many([b"one"]) == [b"first"]


def test_a_full_disk_empties_the_cache_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("moma_cl.graphs.cache._MAP_SIZE", 1 << 16)
    with ByteCache(tmp_path) as cache:
        cache.put_many(VALUES)
        cache.put_many({b"large": bytes(1 << 17)})
        assert cache.get_many([b"large", b"one"]) == [None, None]
        cache.put_many(VALUES)
        assert cache.get_many([b"one"]) == [b"first"]


def test_a_deleted_folder_costs_only_what_was_in_it(tmp_path):
    folder = tmp_path / "cache"
    with ByteCache(folder) as cache:
        cache.put_many(VALUES)
    shutil.rmtree(folder)
    with ByteCache(folder) as cache:
        assert cache.get_many([b"one"]) == [None]
        cache.put_many(VALUES)
        assert cache.get_many([b"one"]) == [b"first"]


def test_deleting_the_folder_of_an_open_cache_breaks_nothing(cache, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    cache.put_many({b"three": b"third"})
    assert cache.get_many([b"three"]) == [b"third"]
