"""Blob files as zarr-python opens them."""

from __future__ import annotations

import shutil
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore, ZipStore

from moma_store.errors import IntegrityError, InvalidInputError
from moma_store.store import Store
from moma_store.zarr_codec import DifferenceCodec, register
from moma_store.zarr_layout import DIFFERENCE_CHUNK

TEXT = "Å, π and ∑".encode()
ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").exists())


@pytest.fixture(autouse=True)
def codec():
    """What the entry point does where moma-cl is installed."""
    register()


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "hub") as store:
        yield store


def parameters(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype("f4")


def moved(array: np.ndarray) -> np.ndarray:
    """Most elements a little away, and some special ones."""
    array = array * np.float32(1.001)
    array[:4] = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001], "u4").view("f4")
    return array


def put_difference(store, n=5000):
    """A blob that is stored as the difference from another, with other arrays beside."""
    base = store.put_blob({"p": parameters(n)}, {})
    arrays = {
        "p": moved(parameters(n)),
        "whole": parameters(7).reshape(1, 7),
        "empty": np.zeros((0, 3), "f4"),
        "text": np.frombuffer(TEXT, "u1"),
        "offsets": np.array([0, 2, len(TEXT)]),
        "scalar": np.array(2.5),
        "flag": np.array([True, False]),
    }
    return base, store.put_blob(arrays, {"unit": "Å"}, base=base)


def assert_reads_as_the_store(group, store, link):
    blob = store.blob(link)
    assert sorted(group.array_keys()) == sorted(blob.arrays)
    for name, array in blob.arrays.items():
        values = np.asarray(group[name][...])
        assert (values.dtype, values.shape) == (array.dtype, array.shape), name
        assert values.tobytes() == array.tobytes(), name
    assert group.attrs["moma_cl"]["header"] == blob.header


def test_arrays_read_decoded(store):
    base, link = put_difference(store)
    for each in (base, link):
        group = store.open_group(each.digest)
        assert_reads_as_the_store(group, store, each)
        group.store.close()


def test_zarr_alone_opens_the_file_decoded(store):
    _, link = put_difference(store)
    group = zarr.open_group(ZipStore(store.blob_path(link)), mode="r")
    assert_reads_as_the_store(group, store, link)
    group.store.close()


def test_differences_in_many_chunks_read_decoded_in_parts_too(store):
    n = 2 * DIFFERENCE_CHUNK + 5
    _, link = put_difference(store, n)
    whole = moved(parameters(n))
    group = store.open_group(link.digest)
    assert group["p"].chunks == (DIFFERENCE_CHUNK,)
    assert group["p"].nchunks == 3
    assert group["p"][...].tobytes() == whole.tobytes()
    edge = slice(DIFFERENCE_CHUNK - 3, DIFFERENCE_CHUNK + 3)
    assert group["p"][edge].tobytes() == whole[edge].tobytes()
    assert group["p"][n - 1] == whole[n - 1]
    rows = np.array([4, DIFFERENCE_CHUNK, n - 1])
    assert group["p"].get_orthogonal_selection(rows).tobytes() == whole[rows].tobytes()
    group.store.close()


def test_text_reads_as_its_bytes(store):
    _, link = put_difference(store)
    group = store.open_group(link.digest)
    start, stop = group["offsets"][:2]
    assert bytes(group["text"][start:stop]).decode() == "Å"
    group.store.close()


def test_the_group_is_read_only(store):
    _, link = put_difference(store)
    before = store.blob_path(link).read_bytes()
    group = store.open_group(link.digest)
    assert group.read_only
    with pytest.raises(ValueError, match="read-only"):
        group["scalar"][...] = 1.0
    with pytest.raises(InvalidInputError, match="only be read"):
        group["p"][0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        group.create_array("new", shape=(2,), dtype="f4")
    with pytest.raises(ValueError, match="read-only"):
        group.attrs["x"] = 1
    group.store.close()
    assert store.blob_path(link).read_bytes() == before


def test_missing_base_is_named(store):
    base, link = put_difference(store)
    store.blob_path(base).unlink()
    group = store.open_group(link.digest)
    with pytest.raises(IntegrityError, match=base.digest):
        group["p"][...]
    assert group["scalar"][...] == 2.5
    group.store.close()


def test_damaged_base_is_named(store):
    base, link = put_difference(store)
    with zipfile.ZipFile(store.blob_path(base), "w") as archive:
        archive.writestr("zarr.json", "{}")
    group = store.open_group(link.digest)
    with pytest.raises(IntegrityError, match=base.digest):
        group["p"][...]
    group.store.close()


def test_base_without_the_array_is_refused(store):
    base, link = put_difference(store)
    other = store.put_blob({"q": parameters(5000)}, {})
    with zipfile.ZipFile(store.blob_path(link)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(store.blob_path(link), "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(base.digest.encode(), other.digest.encode()))
    with pytest.raises(IntegrityError, match=other.digest):
        zarr.open_group(ZipStore(store.blob_path(link)), mode="r")["p"][...]


def test_missing_blob_is_named(store):
    with pytest.raises(IntegrityError, match="a" * 64):
        store.open_group("a" * 64)


def test_blob_copied_with_its_base_beside_it_reads_decoded(store, tmp_path):
    base, link = put_difference(store)
    for each in (base, link):
        shutil.copy(store.blob_path(each), tmp_path)
    group = zarr.open_group(ZipStore(tmp_path / store.blob_path(link).name), mode="r")
    assert_reads_as_the_store(group, store, link)
    group.store.close()


def test_blob_copied_out_of_its_file_asks_for_the_file(store):
    base, link = put_difference(store)
    memory = MemoryStore()
    with zipfile.ZipFile(store.blob_path(link)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    memory._store_dict.update({k: buffer.from_bytes(data) for k, data in members.items()})
    group = zarr.open_group(memory, mode="r")
    with pytest.raises(InvalidInputError, match=base.digest):
        group["p"][...]


def test_a_chunk_that_is_missing_is_damage_rather_than_zeros(store):
    _, link = put_difference(store)
    with zipfile.ZipFile(store.blob_path(link)) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "p/c/0"}
    with zipfile.ZipFile(store.blob_path(link), "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    group = store.open_group(link.digest)
    with pytest.raises(IntegrityError, match="p/c/0"):
        group["p"][...]
    group.store.close()


def test_the_codec_does_not_encode():
    codec = DifferenceCodec(base="a" * 64)
    array = zarr.create_array(
        MemoryStore(), shape=(4,), dtype="f4", serializer=codec, compressors=None
    )
    with pytest.raises(InvalidInputError, match="put_blob"):
        array[:] = np.ones(4, "f4")


def test_a_codec_without_a_base_is_refused():
    with pytest.raises(InvalidInputError, match="digest"):
        DifferenceCodec.from_dict({"name": "moma_cl.difference"})


def test_the_package_declares_the_codec_to_zarr():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["zarr.codecs"]
    for name, value in declared.items():
        codec = EntryPoint(name, value, "zarr.codecs").load()
        assert codec is DifferenceCodec
        assert codec(base="a" * 64).to_dict()["name"] == name
