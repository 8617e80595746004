"""Blobs: named arrays and a small JSON header in one immutable file.

A blob file is a zip archive that holds a Zarr v3 group, so that anything that reads Zarr reads it
(``zarr.open_group(zarr.storage.ZipStore(path))``). `moma_store.manifest` says how it is named and
`moma_store.zarr_layout` how it is laid out. Equal content gives equal files: members are stored
uncompressed in one order, each once, with a fixed date. (Zarr's own ZipStore stamps the time of
writing and appends changed metadata again.)

A one-dimensional float32 array may be stored as the difference from the array of its name and
shape in a *base* blob, see `moma_store.codecs`: a uint8 array of shape ``(4, n)``, its planes. The
base itself is always stored whole, so that reading a blob opens two files at most.

This module imports numpy and zarr; a hub is opened without it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import zarr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray
from zarr.storage import ZipStore

from moma_store import zarr_layout
from moma_store.codecs import Float32Array, decode_difference, encode_difference
from moma_store.errors import IntegrityError, InvalidInputError, NotFoundError
from moma_store.manifest import ITEM_BYTES, ArraySpec, Manifest, damage_reported
from moma_store.records import JsonObject
from moma_store.zarr_layout import DIFFERENCE_CHUNK, METADATA, ZSTD_LEVEL, read_manifest

AnyArray = NDArray[Any]

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can express


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Blob:
    """What was read from a blob.

    Attributes
    ----------
    header
        The header.
    arrays
        The arrays by name, little-endian and writable; those that were asked for.
    """

    header: JsonObject
    arrays: dict[str, AnyArray]


def describe(
    arrays: Mapping[str, AnyArray], header: Mapping[str, Any], *, base: BlobReader | None = None
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
    specs = {name: _describe_array(name, arrays[name]) for name in sorted(arrays)}
    manifest = Manifest(header=dict(header), arrays=specs)
    if base is None:
        return manifest
    if base.manifest.base is not None:
        raise InvalidInputError(
            f"blob {base.digest} cannot be a base: it is itself stored as a difference;"
            f" use its base, {base.manifest.base}"
        )
    shared = tuple(name for name, spec in specs.items() if _alike(spec, base.manifest.arrays, name))
    return replace(manifest, base=base.digest, differences=shared) if shared else manifest


def write(
    stream: BinaryIO,
    arrays: Mapping[str, AnyArray],
    manifest: Manifest,
    base: BlobReader | None,
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
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, METADATA, zarr_layout.group_document(manifest))
        zstd = Zstd(level=ZSTD_LEVEL)
        for name in manifest.arrays:
            _add(archive, f"{name}/{METADATA}", zarr_layout.array_document(manifest, name))
            if base is not None and name in manifest.differences:
                chunks = _difference_chunks(arrays[name], base, name)
            else:
                chunks = _plain_chunks(arrays[name], manifest.arrays[name])
            for index, chunk in chunks:
                _add(archive, zarr_layout.chunk_name(name, index), zstd.encode(chunk))


class BlobReader:
    """An open blob file whose manifest has been verified; a context manager.

    Parameters
    ----------
    path
        The file.
    digest
        Logical digest of the blob.
    locate
        Gives the path of a blob by its digest, for the base.

    Raises
    ------
    IntegrityError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path, digest: str, locate: Callable[[str], Path]) -> None:
        self.path = path
        self.digest = digest
        self.manifest = read_manifest(path, digest)
        self._locate = locate
        self._store = ZipStore(path, mode="r")
        with damage_reported(path, digest):
            self._group = zarr.open_group(
                self._store, mode="r", zarr_format=3, use_consolidated=False
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def read(self, names: Collection[str] | None = None) -> Blob:
        """Read arrays and verify each.

        Parameters
        ----------
        names
            Which arrays; all if None.

        Returns
        -------
        Blob
            The header and those arrays.

        Raises
        ------
        NotFoundError
            If the blob has no array of a name.
        IntegrityError
            If what was read is not what was stored.
        """
        wanted = self.manifest.arrays if names is None else dict.fromkeys(names)
        missing = sorted(wanted.keys() - self.manifest.arrays.keys())
        if missing:
            raise NotFoundError(
                f"blob {self.digest} has no array {missing[0]!r};"
                f" it has {', '.join(self.manifest.arrays)}"
            )
        arrays = {name: self._read_array(name) for name in wanted}
        return Blob(header=self.manifest.header, arrays=arrays)

    def chunks(self, name: str) -> Iterator[Float32Array]:
        """Read a one-dimensional float32 array that is stored whole, in the chunks of a difference.

        Parameters
        ----------
        name
            The array.

        Yields
        ------
        Float32Array
            The next elements, shape ``(DIFFERENCE_CHUNK,)`` or fewer at the end.

        Raises
        ------
        IntegrityError
            If the array, at its end, turns out not to be what was stored.
        """
        state = hashlib.sha256()
        with damage_reported(self.path, self.digest):
            stored = self._array(name)
            for start in range(0, stored.shape[0], DIFFERENCE_CHUNK):
                chunk = np.asarray(stored[start : start + DIFFERENCE_CHUNK], dtype="<f4")
                state.update(chunk.data)
                yield chunk
        self._check(name, state.hexdigest())

    def _read_array(self, name: str) -> AnyArray:
        if name in self.manifest.differences:
            array = self._read_difference(name)
        else:
            with damage_reported(self.path, self.digest):
                array = np.asarray(self._array(name)[...])
        self._check(name, _sha256(array))
        return array

    def _read_difference(self, name: str) -> Float32Array:
        base = self.manifest.base
        if base is None:
            raise IntegrityError(f"blob {self.digest} is damaged: {self.path} names no base")
        values = np.empty(self.manifest.arrays[name].shape, dtype="<f4")
        with BlobReader(self._locate(base), base, self._locate) as whole:
            if not _alike(self.manifest.arrays[name], whole.manifest.arrays, name):
                raise IntegrityError(
                    f"blob {self.digest} is damaged: {self.path} stores {name!r} as the difference"
                    f" from blob {base}, which has no such array"
                )
            start = 0
            for chunk in whole.chunks(name):
                stop = start + len(chunk)
                with damage_reported(self.path, self.digest):
                    planes = np.asarray(self._array(name)[:, start:stop])
                    values[start:stop] = decode_difference(planes, chunk)
                start = stop
        return values

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{name!r} is no array")
        return array

    def _check(self, name: str, found: str) -> None:
        if found != self.manifest.arrays[name].sha256:
            raise IntegrityError(
                f"blob {self.digest} is damaged: array {name!r} in {self.path} has the digest"
                f" {found}, expected {self.manifest.arrays[name].sha256}; run `moma-cl verify`"
            )


def _describe_array(name: str, array: AnyArray) -> ArraySpec:
    if array.dtype.name not in ITEM_BYTES:
        raise InvalidInputError(
            f"array {name!r} has dtype {array.dtype}, which a blob cannot hold;"
            f" expected one of {', '.join(ITEM_BYTES)}"
        )
    return ArraySpec(dtype=array.dtype.name, shape=array.shape, sha256=_sha256(array))


def _sha256(array: AnyArray) -> str:
    state = hashlib.sha256()
    spec = ArraySpec(dtype=array.dtype.name, shape=array.shape, sha256="")
    for rows in _rows(array, zarr_layout.chunk_shape(spec)):
        state.update(rows.data)
    return state.hexdigest()


def _alike(spec: ArraySpec, others: Mapping[str, ArraySpec], name: str) -> bool:
    """Whether an array may be the difference from that of the same name."""
    other = others.get(name)
    return (
        other is not None
        and spec.dtype == other.dtype == "float32"
        and spec.shape == other.shape
        and len(spec.shape) == 1
        and spec.shape[0] > 0
    )


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
    array: AnyArray, base: BlobReader, name: str
) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
    """Cut an array's difference from the base's into full chunks, each with its index."""
    width = min(len(array), DIFFERENCE_CHUNK)
    for number, chunk in enumerate(base.chunks(name)):
        start = number * DIFFERENCE_CHUNK
        values = np.ascontiguousarray(array[start : start + len(chunk)], dtype="<f4")
        yield (0, number), _padded(encode_difference(values, chunk), (4, width), axis=1)


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
