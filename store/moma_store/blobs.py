"""Blobs: named arrays and a small JSON header in one immutable file.

A blob file is a zip archive that holds a Zarr v3 group, so that anything that reads Zarr reads it
(``zarr.open_group(zarr.storage.ZipStore(path))``). `moma_store.manifest` says how it is named and
`moma_store.zarr_layout` how it is laid out. Equal content gives equal files: members are stored
uncompressed in one order, each once, with a fixed date. (Zarr's own ZipStore stamps the time of
writing and appends changed metadata again.)

A one-dimensional float32 array may be stored as the difference from the array of its name and
shape in a *base* blob, see `moma_store.codecs`. Zarr decodes it with `moma_store.zarr_codec`. The
base itself is always stored whole, so that reading a blob opens two files at most.

`moma_store.blob_reader` reads them. A hub is opened without either module.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]  # it ships no types

from moma_store import zarr_layout
from moma_store.bases import AnyArray, Base, alike
from moma_store.codecs import encode_difference
from moma_store.errors import InvalidInputError
from moma_store.manifest import ITEM_BYTES, ArraySpec, Manifest
from moma_store.zarr_layout import DIFFERENCE_CHUNK, METADATA, ZSTD_LEVEL

_T = TypeVar("_T")

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can express


class AtOnce(Executor):
    """Does at once what a thread would be asked to do."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Call a function."""
        done: Future[_T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def describe(
    arrays: Mapping[str, AnyArray], header: Mapping[str, Any], *, base: Base | None = None
) -> Manifest:
    """Work out the manifest of a blob, and with it the blob's name.

    Parameters
    ----------
    arrays
        The arrays by name, of any shape.
    header
        A small JSON object.
    base
        A blob from which arrays may be stored as differences.

    Returns
    -------
    Manifest
        The manifest, without `base` if no array can use it.

    Raises
    ------
    InvalidInputError
        If a name, a dtype or the header cannot be stored, or the base is not stored whole.
    """
    return _digested(_planned(arrays, header, base), arrays)


def write(
    stream: BinaryIO,
    arrays: Mapping[str, AnyArray],
    manifest: Manifest,
    base: Base | None,
) -> None:
    """Write a blob file.

    Parameters
    ----------
    stream
        An empty file, seekable.
    arrays
        The arrays by name.
    manifest
        What `describe` gave for them.
    base
        The base that was given to `describe`.

    Raises
    ------
    IntegrityError
        If the base turns out to be damaged.
    """
    _write(stream, manifest, lambda name: _members(arrays[name], manifest, name, base))


def encode(
    arrays: Mapping[str, AnyArray],
    header: Mapping[str, Any],
    base: Base | None,
    *,
    beside: Executor,
) -> tuple[Manifest, memoryview]:
    """Make a small blob file in memory, hashing arrays while they are compressed.

    Parameters
    ----------
    arrays
        As for `describe`.
    header
        As for `describe`.
    base
        As for `describe`.
    beside
        What does the hashing: a thread, or `AtOnce`.

    Returns
    -------
    tuple[Manifest, memoryview]
        What `describe` gives, and the bytes that `write` writes.

    Raises
    ------
    InvalidInputError
        If a name, a dtype or the header cannot be stored, or the base is not stored whole.
    IntegrityError
        If the base turns out to be damaged.
    """
    planned = _planned(arrays, header, base)
    naming = beside.submit(_digested, planned, arrays)
    members = {name: list(_members(arrays[name], planned, name, base)) for name in planned.arrays}
    manifest = naming.result()
    whole = io.BytesIO()
    _write(whole, manifest, members.__getitem__)
    return manifest, whole.getbuffer()


def _planned(
    arrays: Mapping[str, AnyArray], header: Mapping[str, Any], base: Base | None
) -> Manifest:
    """Give the manifest but for the digests of arrays, which take time."""
    specs = {name: _described(name, arrays[name]) for name in sorted(arrays)}
    manifest = Manifest(header=dict(header), arrays=specs)
    if base is None:
        return manifest
    if base.manifest.base is not None:
        raise InvalidInputError(
            f"blob {base.digest} cannot be a base: it is itself stored as a difference;"
            f" use its base, {base.manifest.base}"
        )
    others = base.manifest.arrays
    shared = tuple(
        name for name, spec in specs.items() if alike(spec.dtype, spec.shape, others.get(name))
    )
    if not shared:
        return manifest
    return replace(manifest, base=base.digest, differences=shared)


def _described(name: str, array: AnyArray) -> ArraySpec:
    if array.dtype.name not in ITEM_BYTES:
        raise InvalidInputError(
            f"array {name!r} has dtype {array.dtype}, which a blob cannot hold;"
            f" expected one of {', '.join(ITEM_BYTES)}"
        )
    return ArraySpec(dtype=array.dtype.name, shape=array.shape, sha256="")


def _digested(planned: Manifest, arrays: Mapping[str, AnyArray]) -> Manifest:
    specs = {
        name: replace(spec, sha256=_sha256(arrays[name], spec))
        for name, spec in planned.arrays.items()
    }
    return replace(planned, arrays=specs)


def _sha256(array: AnyArray, spec: ArraySpec) -> str:
    state = hashlib.sha256()
    for rows in _rows(array, zarr_layout.chunk_shape(spec)):
        state.update(rows.data)
    return state.hexdigest()


def _write(
    stream: BinaryIO, manifest: Manifest, members: Callable[[str], Iterable[tuple[str, bytes]]]
) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, METADATA, zarr_layout.group_document(manifest))
        for name in manifest.arrays:
            _add(archive, f"{name}/{METADATA}", zarr_layout.array_document(manifest, name))
            for member, data in members(name):
                _add(archive, member, data)


def _members(
    array: AnyArray, manifest: Manifest, name: str, base: Base | None
) -> Iterator[tuple[str, bytes]]:
    """Compress an array chunk by chunk; give the name of each chunk's member, and its bytes."""
    zstd = Zstd(level=ZSTD_LEVEL)
    if base is not None and name in manifest.differences:
        chunks = _difference_chunks(array, base, name)
    else:
        chunks = _plain_chunks(array, manifest.arrays[name])
    for index, chunk in chunks:
        yield zarr_layout.chunk_name(name, index), zstd.encode(chunk)


def _rows(array: AnyArray, chunk: tuple[int, ...]) -> Iterator[AnyArray]:
    """Cut an array along its first axis into contiguous little-endian pieces."""
    little = array.dtype.newbyteorder("<")
    if not chunk:
        yield np.ascontiguousarray(array, dtype=little)
        return
    if array.size == 0:
        return
    for start in range(0, array.shape[0], chunk[0]):
        yield np.ascontiguousarray(array[start : start + chunk[0]], dtype=little)


def _plain_chunks(array: AnyArray, spec: ArraySpec) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
    """Cut an array into full chunks, each with its index."""
    shape = zarr_layout.chunk_shape(spec)
    for number, rows in enumerate(_rows(array, shape)):
        index = tuple(number if axis == 0 else 0 for axis in range(len(shape)))
        yield index, _padded(rows, shape, axis=0)


def _difference_chunks(
    array: AnyArray, base: Base, name: str
) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
    """Cut an array's difference from the base's into full chunks, each with its index."""
    width = min(len(array), DIFFERENCE_CHUNK)
    for number, chunk in enumerate(base.chunks(name)):
        start = number * DIFFERENCE_CHUNK
        values = np.ascontiguousarray(array[start : start + len(chunk)], dtype="<f4")
        yield (number,), _padded(encode_difference(values, chunk), (4, width), axis=1)


def _padded(piece: AnyArray, chunk: tuple[int, ...], *, axis: int) -> AnyArray:
    """Fill the last piece up, since every chunk of a Zarr array has the full shape."""
    if piece.shape == chunk or not chunk:
        return piece
    margins = [(0, chunk[i] - piece.shape[i] if i == axis else 0) for i in range(len(chunk))]
    return np.pad(piece, margins)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_DATE)
    member.create_system = 3  # Unix, on whatever system this runs
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)
