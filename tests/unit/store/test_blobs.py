from __future__ import annotations

import hashlib
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from moma_store import records
from moma_store.errors import (
    FormatError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from moma_store.zarr_layout import DIFFERENCE_CHUNK, group_document, read_manifest
from tests.helpers.stores import new_store

ARRAYS = {
    "bool": np.array([True, False]),
    "int8": np.arange(-3, 3, dtype="i1"),
    "uint16": np.arange(6, dtype="u2").reshape(2, 3),
    "big_endian": np.arange(5, dtype=">i8"),
    "half": np.array([1.5, -0.0], dtype="f2"),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3)),
    "none_inside": np.zeros((2, 0, 3), dtype="f4"),
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "nan": np.array([np.nan, np.inf, -0.0], dtype="f4"),
}


def parameters(n: int = 5000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype("f4")


def same(one: np.ndarray, other: np.ndarray) -> bool:
    other = np.asarray(other, dtype=other.dtype.newbyteorder("<"), order="C")
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_arrays_and_header_come_back_as_they_were(store):
    link = store.put_blob(ARRAYS, {"unit": "Å", "n": 3})
    blob = store.blob(link)
    assert blob.header == {"unit": "Å", "n": 3}
    assert blob.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert same(blob.arrays[name], array), name


def test_zarr_reads_the_file_by_itself(store):
    link = store.put_blob(ARRAYS, {"n": 3})
    zip_store = ZipStore(store.blob_path(link), mode="r")
    group = zarr.open_group(zip_store, mode="r")
    assert sorted(group.array_keys()) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(group[name][...], array)
    assert group.attrs["moma_cl"]["header"] == {"n": 3}
    zip_store.close()


def test_name_is_the_digest_that_the_documentation_defines(store):
    array = np.arange(3, dtype="<i4")
    content = {
        "arrays": {
            "a": {
                "dtype": "int32",
                "shape": [3],
                "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            }
        },
        "header": {"h": 1},
    }
    link = store.put_blob({"a": array}, {"h": 1})
    assert link.digest == hashlib.sha256(records.canonical_json(content)).hexdigest()
    path = store.blob_path(link)
    assert (
        path.relative_to(store.path).as_posix()
        == f"objects/{link.digest[:2]}/{link.digest}.zarr.zip"
    )
    assert link.file == hashlib.sha256(path.read_bytes()).hexdigest()
    assert link.n_bytes == path.stat().st_size


def test_equal_content_gives_equal_files_whatever_the_order(store, tmp_path):
    first = store.put_blob(ARRAYS, {"a": 1, "b": 2})
    with new_store(tmp_path / "other") as other:
        second = other.put_blob(dict(reversed(ARRAYS.items())), {"b": 2, "a": 1})
        assert first == second
        assert store.blob_path(first).read_bytes() == other.blob_path(second).read_bytes()


def test_members_are_stored_once_without_compression_or_date(store):
    with zipfile.ZipFile(store.blob_path(store.put_blob(ARRAYS, {}))) as archive:
        members = archive.infolist()
    assert len({m.filename for m in members}) == len(members)
    assert {(m.date_time, m.compress_type) for m in members} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
    }


def test_large_arrays_are_divided_into_chunks(store):
    big = np.random.default_rng(0).integers(0, 9, (3, 700_000)).astype("f8")
    base = store.put_blob({"p": parameters(DIFFERENCE_CHUNK + 5), "big": big}, {})
    moved = parameters(DIFFERENCE_CHUNK + 5) * np.float32(1.01)
    link = store.put_blob({"p": moved}, {}, base=base)
    with zipfile.ZipFile(store.blob_path(base)) as archive:
        assert {"big/c/0/0", "big/c/1/0", "big/c/2/0", "p/c/0", "p/c/1"} < set(archive.namelist())
    with zipfile.ZipFile(store.blob_path(link)) as archive:
        assert {"p/c/0", "p/c/1"} < set(archive.namelist())
    assert same(store.blob(base).arrays["big"], big)
    assert same(store.blob(link).arrays["p"], moved)


def test_difference_from_a_base_is_exact_and_smaller(store):
    before = parameters(100_000)
    after = before + np.float32(1e-3) * parameters(100_000, seed=1)
    after[:4] = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001], "u4").view("f4")
    base = store.put_blob({"p": before}, {})
    link = store.put_blob({"p": after, "other": before[:5]}, {}, base=base)
    assert same(store.blob(link).arrays["p"], after)
    assert same(store.blob(link).arrays["other"], before[:5])
    assert link.n_bytes < 0.7 * after.nbytes
    manifest = read_manifest(store.blob_path(link), link.digest)
    assert manifest.base == base.digest
    assert manifest.differences == ("p",)


def test_name_does_not_depend_on_the_base(store, tmp_path):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": parameters(seed=1)}, {}, base=base)
    again = store.put_blob({"p": parameters(seed=1)}, {})
    assert again == link
    with new_store(tmp_path / "other") as other:
        assert other.put_blob({"p": parameters(seed=1)}, {}).digest == link.digest


@pytest.mark.parametrize(
    "array", [parameters(4), parameters().astype("f8"), parameters().reshape(50, 100)]
)
def test_arrays_unlike_those_of_the_base_are_stored_whole(store, array):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": array}, {}, base=base)
    assert read_manifest(store.blob_path(link), link.digest).base is None
    assert same(store.blob(link).arrays["p"], array)


def test_a_difference_cannot_be_a_base(store):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": parameters(seed=1)}, {}, base=base)
    with pytest.raises(InvalidInputError, match=base.digest):
        store.put_blob({"p": parameters(seed=2)}, {}, base=link)


def test_some_arrays_are_read_without_the_others(store):
    link = store.put_blob(ARRAYS, {})
    assert store.blob(link, ["half", "bool"]).arrays.keys() == {"half", "bool"}
    with pytest.raises(NotFoundError, match="absent"):
        store.blob(link, ["absent"])


def test_an_array_comes_in_pieces(store):
    before = parameters(DIFFERENCE_CHUNK * 4 + 5)
    base = store.put_blob({"p": before}, {})
    link = store.put_blob({"p": before * np.float32(1.001), "s": np.array(3.0)}, {}, base=base)
    pieces = list(store.blob_pieces(link, "p"))
    assert [len(piece) for piece in pieces] == [DIFFERENCE_CHUNK] * 4 + [5]
    assert same(np.concatenate(pieces), before * np.float32(1.001))
    assert [float(piece) for piece in store.blob_pieces(link, "s")] == [3.0]
    with pytest.raises(NotFoundError, match="absent"):
        list(store.blob_pieces(link, "absent"))
    damage(store.blob_path(link))
    with pytest.raises(IntegrityError):
        list(store.blob_pieces(link, "p"))


@pytest.mark.parametrize(
    ("arrays", "header"),
    [
        ({"x": np.array([object()])}, {}),
        ({"x": np.array(["text"])}, {}),
        ({"x": np.zeros(2, "c16")}, {}),
        ({"x": np.zeros(2, "M8[s]")}, {}),
        ({"x": np.zeros(2, [("a", "i4")])}, {}),
        ({"../x": np.zeros(2)}, {}),
        ({"a/b": np.zeros(2)}, {}),
        ({"zarr.json/": np.zeros(2)}, {}),
        ({"x": np.zeros(2)}, {"nan": float("nan")}),
    ],
)
def test_what_a_blob_cannot_hold_is_refused_before_anything_is_written(store, arrays, header):
    with pytest.raises(InvalidInputError):
        store.put_blob(arrays, header)
    assert not list((store.path / "objects").rglob("*.zip"))
    assert not list(store.tmp_dir.iterdir())


def test_missing_file_is_named(store):
    link = store.put_blob({"x": np.zeros(3)}, {})
    store.blob_path(link).unlink()
    with pytest.raises(IntegrityError, match=str(store.blob_path(link))):
        store.blob(link)


def test_missing_base_is_named(store):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": parameters(seed=1)}, {}, base=base)
    store.blob_path(base).unlink()
    with pytest.raises(IntegrityError, match=base.digest):
        store.blob(link)


def test_damaged_base_is_blamed_rather_than_what_was_made_from_it(store):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": parameters(seed=1)}, {}, base=base)
    damage(store.blob_path(base))
    with pytest.raises(IntegrityError, match=f"blob {base.digest}"):
        store.blob(link)
    with pytest.raises(IntegrityError, match=f"blob {base.digest}"):
        store.put_blob({"p": parameters(seed=2)}, {}, base=base)
    assert not list(store.tmp_dir.iterdir())


def test_a_whole_other_blob_under_the_name_is_found(store):
    one, two = (store.put_blob({"x": np.full(3, v)}, {}) for v in (1.0, 2.0))
    shutil.copy(store.blob_path(one), store.blob_path(two))
    with pytest.raises(IntegrityError):
        store.blob(two)


def test_metadata_that_names_another_codec_is_refused(store):
    link = store.put_blob({"x": np.zeros(3)}, {})
    rewrite(store.blob_path(link), "x/zarr.json", lambda data: data.replace(b'"zstd"', b'"gzip"'))
    with pytest.raises(IntegrityError, match=r"zarr\.json"):
        store.blob(link)


def test_blob_of_a_newer_version_is_not_taken_for_damaged(store):
    link = store.put_blob({"x": np.zeros(3)}, {})
    rewrite(
        store.blob_path(link), "zarr.json", lambda data: data.replace(b'"format":1', b'"format":3')
    )
    with pytest.raises(FormatError, match="format 3"):
        store.blob(link)


def test_difference_without_its_base_is_refused(store):
    base = store.put_blob({"p": parameters()}, {})
    link = store.put_blob({"p": parameters(seed=1)}, {}, base=base)
    manifest = read_manifest(store.blob_path(link), link.digest)
    for change in ({"base": None}, {"differences": ()}):
        forged = replace(manifest, **change)
        rewrite(store.blob_path(link), "zarr.json", lambda _: group_document(forged))  # noqa: B023  used at once
        with pytest.raises(IntegrityError):
            store.blob(link)


def test_every_bit_flip_is_found_or_harmless(store):
    link = store.put_blob({"x": np.arange(3, dtype="u1"), "y": parameters(3)}, {"h": 1})
    path = store.blob_path(link)
    whole = path.read_bytes()
    content = {name: array.tobytes() for name, array in store.blob(link).arrays.items()}
    found = 0
    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position // 3 % 8
        path.write_bytes(flipped)
        try:
            assert {n: a.tobytes() for n, a in store.blob(link).arrays.items()} == content
        except (IntegrityError, StorageError):
            found += 1
    assert found > len(whole) // 4


def test_every_truncation_is_found(store):
    link = store.put_blob({"x": np.arange(3, dtype="u1")}, {})
    path = store.blob_path(link)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            store.blob(link)


def test_storing_again_replaces_a_damaged_copy(store):
    link = store.put_blob({"x": parameters()}, {})
    damage(store.blob_path(link))
    assert store.put_blob({"x": parameters()}, {}) == link
    assert same(store.blob(link).arrays["x"], parameters())


def test_storing_again_leaves_the_file_alone(store):
    link = store.put_blob({"x": parameters()}, {})
    before = store.blob_path(link).stat()
    assert store.put_blob({"x": parameters()}, {}) == link
    after = store.blob_path(link).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_inputs_are_left_untouched(store):
    array = ARRAYS["big_endian"].copy()
    array.flags.writeable = False
    header = {"h": [1]}
    store.put_blob({"x": array}, header)
    assert array.dtype == ">i8"
    assert header == {"h": [1]}


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path, member, change) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, change(data) if name == member else data)
