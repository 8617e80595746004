"""The Zarr v3 codec ``moma_cl.difference``, with which zarr-python decodes differences from a base.

An array that is stored as the difference from the array of its name in a base blob names this
codec in its metadata, and the digest of the base in the codec's configuration. The package
declares the codec as an entry point of the group ``zarr.codecs``, so that zarr finds it wherever
moma-cl is installed.

A chunk is the byte planes of `moma_store.codecs`, compressed by zstd. To decode one, the codec
needs the chunk of the same number in the base. Zarr tells a codec where a chunk comes from only
where the codec decodes parts of chunks, which is why this codec is of that sort and does the
compression itself. It looks for the base's file where a hub has it, and beside the file that is
being read, so that a blob can be copied elsewhere together with its base.

Zarr knows no digests of arrays: what it reads is not verified, unlike what `moma_store.blob_reader`
reads. Blobs are written by `moma_store.blobs` only, so that the codec does not encode.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import zarr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]  # it ships no types
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.registry import register_codec
from zarr.storage import StorePath, ZipStore

from moma_store import records
from moma_store.bases import Base
from moma_store.blob_reader import BlobReader
from moma_store.codecs import Float32Array, decode_difference
from moma_store.errors import IntegrityError, InvalidInputError
from moma_store.files import Files
from moma_store.manifest import damage_reported
from moma_store.objects import SUFFIX
from moma_store.zarr_layout import DIFFERENCE_CODEC, chunk_shape, read_manifest

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.common import JSON
    from zarr.core.indexing import SelectorTuple


@dataclass(frozen=True)
class DifferenceCodec(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Decodes chunks of float32 that are stored as the difference from a base blob.

    Attributes
    ----------
    base
        Digest of the base.
    """

    base: str

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its entry in an array's metadata."""
        configuration = data.get("configuration")
        base = configuration.get("base") if isinstance(configuration, dict) else None
        return cls(base=records.check_digest(base))

    def to_dict(self) -> dict[str, JSON]:
        """Give the codec's entry in an array's metadata."""
        return {"name": DIFFERENCE_CODEC, "configuration": {"base": self.base}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk cannot be told beforehand."""
        raise NotImplementedError

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: SelectorTuple, chunk_spec: ArraySpec
    ) -> NDBuffer:
        if not isinstance(byte_getter, StorePath) or not isinstance(byte_getter.store, ZipStore):
            raise self._needs_file()
        packed = await byte_getter.get(chunk_spec.prototype)
        if packed is None:
            raise IntegrityError(
                f"{byte_getter.store.path} is damaged: it has no chunk {byte_getter.path};"
                " run `moma-cl verify`"
            )
        values = await asyncio.to_thread(
            self._values,
            packed.to_bytes(),
            byte_getter.store.path,
            byte_getter.path,
            chunk_spec.shape,
        )
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)[selection]

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:  # noqa: ARG002  zarr gives both
        raise self._needs_file()

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:  # noqa: ARG002  zarr gives both
        raise InvalidInputError(
            f"the codec {DIFFERENCE_CODEC} only decodes; store blobs with `Store.put_blob`"
        )

    def _values(
        self, packed: bytes, file: Path, member: str, shape: tuple[int, ...]
    ) -> Float32Array:
        """Decode a whole chunk; what lies past the array's end is 0."""
        name, _, number = member.rsplit("/", 2)
        values: Float32Array = np.zeros(shape, dtype="<f4")
        planes = np.empty((4, *shape), dtype=np.uint8)
        with self._open_base(self.base, beside=file) as base:
            piece = self._piece(base, name, int(number), shape)
            with damage_reported(file, file.name.removesuffix(SUFFIX)):
                Zstd().decode(packed, planes)
            decode_difference(planes[:, : len(piece)], piece, out=values[: len(piece)])
        return values

    def _piece(self, base: Base, name: str, number: int, shape: tuple[int, ...]) -> Float32Array:
        spec = base.manifest.arrays.get(name)
        if spec is None or spec.dtype != "float32" or chunk_shape(spec) != shape:
            raise IntegrityError(
                f"blob {self.base} is no base for {name!r}: it has no float32 array of that name"
                f" in chunks of shape {shape}; run `moma-cl verify`"
            )
        return base.piece(name, number)

    @staticmethod
    def _open_base(digest: str, *, beside: Path) -> AbstractContextManager[Base]:
        """Open a base, which is stored whole, so that no other base is asked for."""
        folder = beside.absolute().parent
        name = f"{digest}{SUFFIX}"
        in_hub, copied = folder.parent / digest[:2] / name, folder / name
        if not in_hub.exists() and not copied.exists():
            raise IntegrityError(
                f"blob {digest} is missing: {beside} is stored as the difference from it, and"
                f" neither {in_hub} nor {copied} is there; copy its file to one of them, or run"
                " `moma-cl verify`"
            )
        path = in_hub if in_hub.exists() else copied
        return BlobReader(path, digest, _no_base, Files())

    def _needs_file(self) -> InvalidInputError:
        return InvalidInputError(
            f"cannot decode the difference from blob {self.base}: the array can only be read, and"
            " only straight from a blob's file, beside which its base is looked for; open that with"
            " `Store.open_group` or zarr.storage.ZipStore"
        )


def _no_base(digest: str) -> AbstractContextManager[Base]:
    raise IntegrityError(f"a base is stored whole, but one names blob {digest} as its own base")


def register() -> None:
    """Make the codec known to zarr, as the package's entry point does; twice does nothing."""
    register_codec(DIFFERENCE_CODEC, DifferenceCodec)


def open_group(path: Path, digest: str) -> zarr.Group:
    """Open a blob's file with zarr-python, to be read only; see `Store.open_group`."""
    read_manifest(path, digest)  # verified before zarr sees it
    register()
    return zarr.open_group(ZipStore(path, mode="r"), mode="r")
