"""Blobs: named arrays and a small JSON header in one immutable file.

A blob file is a zip archive that holds a Zarr v3 group, so that anything that reads Zarr reads it
(``zarr.open_group(zarr.storage.ZipStore(path))``). `moma_store.manifest` says how it is named and
`moma_store.zarr_layout` how it is laid out. Equal content gives equal files: members are stored
uncompressed in one order, each once, with a fixed date. (Zarr's own ZipStore stamps the time of
writing and appends changed metadata again.)

A one-dimensional float32 array may be stored as the difference from the array of its name and
shape in a *base* blob, see `moma_store.codecs`: a uint8 array of shape ``(4, n)``, its planes. The
base itself is always stored whole, so that reading a blob opens two files at most.

Reading needs numpy and zstd but not zarr, whose machinery takes several times longer than hashing.
A hub is opened without this module.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from moma_store import zarr_layout
from moma_store.bases import Base, OpenBase
from moma_store.codecs import Float32Array, decode_difference, encode_difference
from moma_store.errors import IntegrityError, InvalidInputError, NotFoundError
from moma_store.files import Files
from moma_store.manifest import ITEM_BYTES, ArraySpec, Manifest, damage_reported
from moma_store.records import JsonObject
from moma_store.zarr_layout import DIFFERENCE_CHUNK, METADATA, ZSTD_LEVEL

AnyArray = NDArray[Any]

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can express
_LOCAL_HEADER = struct.Struct("<26x2H")  # of a zip member; ends with the lengths of name and extra
_DECODERS = 3  # threads; hashing cannot be divided and takes as long as one of them
_WORTH_A_THREAD = 3  # chunks


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
    open_base
        Opens the base, if there is one.
    files
        The file system.

    Raises
    ------
    IntegrityError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path, digest: str, open_base: OpenBase, files: Files) -> None:
        self.path = path
        self.digest = digest
        self._open_base = open_base
        self._files = files
        with damage_reported(path, digest):
            self._stream = files.open(path)
            try:
                self._archive = zipfile.ZipFile(self._stream)
                self.manifest = zarr_layout.manifest_in(self._archive, digest)
            except BaseException:
                self._stream.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._stream.close()

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
        for name in wanted:
            self._check_name(name)
        arrays = {name: self._read_array(name) for name in wanted}
        return Blob(header=self.manifest.header, arrays=arrays)

    def pieces(self, name: str) -> Iterator[AnyArray]:
        """Read one array piece by piece; see `Store.blob_pieces`."""
        self._check_name(name)
        return self._pieces(name)

    def verify(self) -> None:
        """Verify every array, holding no more than a few chunks at a time.

        Raises
        ------
        IntegrityError
            If the blob or its base is damaged.
        """
        for name in self.manifest.arrays:
            for _ in self._pieces(name):
                pass

    def chunks(self, name: str) -> Iterator[Float32Array]:
        """See `Base.chunks`; damage shows at the end."""
        return self._pieces(name)

    def _read_array(self, name: str) -> AnyArray:
        values = _empty(self.manifest.arrays[name])
        for _ in self._pieces(name, into=values):
            pass
        return values

    def _pieces(self, name: str, into: AnyArray | None = None) -> Iterator[AnyArray]:
        """Read an array piece by piece along its first axis; what is wrong shows at the end."""
        spec = self.manifest.arrays[name]
        state = hashlib.sha256()
        with ExitStack() as opened, damage_reported(self.path, self.digest):
            base = self._base_of(name, opened)
            ranges = _ranges(spec, DIFFERENCE_CHUNK if base else _chunk_rows(spec))

            def decode(number: int) -> AnyArray:
                out = None if into is None else into[ranges[number]] if into.shape else into
                if base is None:
                    return self._plain_piece(name, number, out)
                return self._difference_piece(name, number, base, out)

            for piece in _ahead(decode, len(ranges)):
                state.update(piece.reshape(-1).view(np.uint8).data)
                yield piece
            if state.hexdigest() != spec.sha256 and base is not None:
                base.verify()
        self._check(name, state.hexdigest())

    def piece(self, name: str, number: int) -> Float32Array:
        """See `Base.piece`; not verified by itself."""
        return self._plain_piece(name, number, None)

    def _base_of(self, name: str, opened: ExitStack) -> Base | None:
        """Open the blob that an array is stored as the difference from."""
        if name not in self.manifest.differences:
            return None
        base = self.manifest.base
        if base is None:
            raise IntegrityError(f"blob {self.digest} is damaged: {self.path} names no base")
        whole = opened.enter_context(self._open_base(base))
        if whole.manifest.base is not None or not _alike(
            self.manifest.arrays[name], whole.manifest.arrays, name
        ):
            raise IntegrityError(
                f"blob {self.digest} is damaged: {self.path} stores {name!r} as the difference"
                f" from blob {base}, which has no such array"
            )
        return whole

    def _plain_piece(self, name: str, number: int, out: AnyArray | None) -> AnyArray:
        spec = self.manifest.arrays[name]
        shape = zarr_layout.chunk_shape(spec)
        index = tuple(number if axis == 0 else 0 for axis in range(len(shape)))
        rows = min(shape[0], spec.shape[0] - number * shape[0]) if shape else 1
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        if out is not None and out.shape == shape:
            self._decode(name, index, out)
            return out
        chunk = np.empty(shape, dtype=dtype)
        self._decode(name, index, chunk)
        if out is None:
            return chunk[:rows] if shape else chunk
        out[...] = chunk[:rows]
        return out

    def _difference_piece(
        self, name: str, number: int, base: Base, out: AnyArray | None
    ) -> Float32Array:
        width = min(self.manifest.arrays[name].shape[0], DIFFERENCE_CHUNK)
        planes = np.empty((4, width), dtype=np.uint8)
        self._decode(name, (0, number), planes)
        whole = base.piece(name, number)
        return decode_difference(planes[:, : len(whole)], whole, out=out)

    def _decode(self, name: str, index: tuple[int, ...], out: AnyArray) -> None:
        """Decompress one chunk into an array that it must fill."""
        member = self._archive.getinfo(zarr_layout.chunk_name(name, index))
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{member.filename} is compressed by zip")
        head = self._files.read_at(self._stream.fileno(), _LOCAL_HEADER.size, member.header_offset)
        start = member.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(head))
        # Read here rather than by zipfile, which would add a checksum and a lock of its own.
        data = self._files.read_at(self._stream.fileno(), member.file_size, start)
        Zstd().decode(data, out)

    def _check_name(self, name: str) -> None:
        if name not in self.manifest.arrays:
            raise NotFoundError(
                f"blob {self.digest} has no array {name!r};"
                f" it has {', '.join(self.manifest.arrays)}"
            )

    def _check(self, name: str, found: str) -> None:
        if found != self.manifest.arrays[name].sha256:
            raise IntegrityError(
                f"blob {self.digest} is damaged: array {name!r} in {self.path} has the digest"
                f" {found}, expected {self.manifest.arrays[name].sha256}; run `moma-cl verify`"
            )


def _ahead(decode: Callable[[int], AnyArray], count: int) -> Iterator[AnyArray]:
    """Decode pieces in order, one ahead of whoever uses them."""
    if count < _WORTH_A_THREAD:
        yield from map(decode, range(count))
        return
    with ThreadPoolExecutor(_DECODERS) as pool:
        # Each piece waiting is a few MB of memory.
        waiting = deque(pool.submit(decode, number) for number in range(min(_DECODERS, count)))
        for number in range(count):
            piece = waiting.popleft().result()
            if number + _DECODERS < count:
                waiting.append(pool.submit(decode, number + _DECODERS))
            yield piece


def _ranges(spec: ArraySpec, rows: int) -> list[slice]:
    """Give the pieces of an array along its first axis."""
    if not spec.shape:
        return [slice(None)]
    if prod(spec.shape) == 0:
        return []
    return [slice(start, start + rows) for start in range(0, spec.shape[0], rows)]


def _chunk_rows(spec: ArraySpec) -> int:
    return (*zarr_layout.chunk_shape(spec), 1)[0]


def _empty(spec: ArraySpec) -> AnyArray:
    return np.empty(spec.shape, dtype=np.dtype(spec.dtype).newbyteorder("<"))


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
    array: AnyArray, base: Base, name: str
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
