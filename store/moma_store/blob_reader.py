"""Reading blobs: every array is verified, and large ones are decoded by several threads.

Reading needs numpy and zstd but not zarr, whose machinery takes several times longer than hashing.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]  # it ships no types

from moma_store import zarr_layout
from moma_store.bases import AnyArray, Base, OpenBase, alike
from moma_store.codecs import Float32Array, decode_difference
from moma_store.errors import IntegrityError, NotFoundError
from moma_store.files import Files
from moma_store.manifest import ArraySpec, damage_reported
from moma_store.records import JsonObject
from moma_store.zarr_layout import DIFFERENCE_CHUNK

_LOCAL_HEADER = struct.Struct("<26x2H")  # of a zip member; ends with the lengths of name and extra
_DECODERS = 2  # threads, 15 MB each; hashing, which cannot be divided, takes a third
_WORTH_A_THREAD = 3  # chunks
_LEAST_BYTES = 1024  # of a compressed chunk that need no explanation
_BYTES = np.dtype(np.uint8)


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


class _Scratch(threading.local):
    """Memory that each thread uses again and again: fresh pages cost more than decoding into them.

    What `take` gave for one use is lost at the next `take` for it in the same thread.
    """

    def __init__(self) -> None:
        self._kept: dict[str, AnyArray] = {}

    def take(self, use: str, shape: tuple[int, ...], dtype: np.dtype[Any] = _BYTES) -> AnyArray:
        """Give an array whose content is undefined."""
        n_bytes = prod(shape) * dtype.itemsize
        kept = self._kept.get(use)
        if kept is None or len(kept) < n_bytes:
            # With some room: compressed chunks differ a little in size.
            kept = self._kept[use] = np.empty(n_bytes + n_bytes // 8, dtype=_BYTES)
        return kept[:n_bytes].view(dtype).reshape(shape)


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
        self._scratch = _Scratch()
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

            def target(number: int) -> AnyArray:
                if into is not None:
                    return into[ranges[number]] if spec.shape else into
                return _empty(spec, rows=ranges[number])

            def decode(number: int, out: AnyArray) -> AnyArray:
                if base is None:
                    return self._plain_piece(name, number, out)
                return self._difference_piece(name, number, base, out)

            for piece in _ahead(decode, target, len(ranges)):
                state.update(piece.reshape(-1).view(np.uint8).data)
                yield piece
            if state.hexdigest() != spec.sha256 and base is not None:
                base.verify()
        self._check(name, state.hexdigest())

    def piece(self, name: str, number: int) -> Float32Array:
        """See `Base.piece`; not verified by itself."""
        spec = self.manifest.arrays[name]
        n_values = min(DIFFERENCE_CHUNK, spec.shape[0] - number * DIFFERENCE_CHUNK)
        out = self._scratch.take("piece", (n_values,), np.dtype("<f4"))
        return self._plain_piece(name, number, out)

    def _base_of(self, name: str, opened: ExitStack) -> Base | None:
        """Open the blob that an array is stored as the difference from."""
        if name not in self.manifest.differences:
            return None
        base = self.manifest.base
        if base is None:
            raise IntegrityError(f"blob {self.digest} is damaged: {self.path} names no base")
        whole = opened.enter_context(self._open_base(base))
        spec = self.manifest.arrays[name]
        if whole.manifest.base is not None or not alike(
            spec.dtype, spec.shape, whole.manifest.arrays.get(name)
        ):
            raise IntegrityError(
                f"blob {self.digest} is damaged: {self.path} stores {name!r} as the difference"
                f" from blob {base}, which has no such array"
            )
        return whole

    def _plain_piece(self, name: str, number: int, out: AnyArray) -> AnyArray:
        shape = zarr_layout.chunk_shape(self.manifest.arrays[name])
        index = tuple(number if axis == 0 else 0 for axis in range(len(shape)))
        if out.shape == shape:
            self._decode(name, index, out)
            return out
        chunk = self._scratch.take("chunk", shape, out.dtype)
        self._decode(name, index, chunk)
        out[...] = chunk[: len(out)]
        return out

    def _difference_piece(self, name: str, number: int, base: Base, out: AnyArray) -> Float32Array:
        width = min(self.manifest.arrays[name].shape[0], DIFFERENCE_CHUNK)
        planes = self._scratch.take("planes", (4, width))
        self._decode(name, (number,), planes)
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
        if member.file_size > 2 * out.nbytes + _LEAST_BYTES:
            raise ValueError(f"{member.filename} has {member.file_size} bytes for {out.nbytes}")
        packed = self._scratch.take("packed", (member.file_size,))
        found = self._files.read_into(self._stream.fileno(), packed.data, start)
        Zstd().decode(packed[:found], out)

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


def _ahead(
    decode: Callable[[int, AnyArray], AnyArray], target: Callable[[int], AnyArray], count: int
) -> Iterator[AnyArray]:
    """Decode pieces in order, ahead of whoever uses them.

    Their memory comes from the thread that gives it back, so that it is used again.
    """
    if count < _WORTH_A_THREAD:
        for number in range(count):
            yield decode(number, target(number))
        return
    with ThreadPoolExecutor(_DECODERS) as pool:
        # Each piece waiting is a few MB of memory.
        begun = min(_DECODERS, count)
        waiting = deque(pool.submit(decode, number, target(number)) for number in range(begun))
        for number in range(count):
            piece = waiting.popleft().result()
            if number + begun < count:
                waiting.append(pool.submit(decode, number + begun, target(number + begun)))
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


def _empty(spec: ArraySpec, *, rows: slice = slice(None)) -> AnyArray:
    """Make room for an array, or for some of its rows."""
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    if not spec.shape:
        return np.empty((), dtype=dtype)
    n_rows = len(range(*rows.indices(spec.shape[0])))
    return np.empty((n_rows, *spec.shape[1:]), dtype=dtype)
