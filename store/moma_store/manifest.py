"""The manifest of a blob: what it holds, from which its name follows.

The *logical digest* that names a blob is the SHA-256 of the canonical JSON (`moma_store.records`)
of ``{"arrays": {NAME: {"dtype": …, "sha256": …, "shape": […]}}, "header": {…}}``, where ``sha256``
is over the array's elements in C order, little-endian. It depends neither on compression nor on
whether an array is stored as a difference. Since each array has its own digest, some can be read
and verified without the others.

The manifest stands in the attributes of the Zarr group under ``moma_cl``, together with how the
blob is stored: its format version, and the base and the names of the arrays that are stored as
differences from it, which zarr decodes by `moma_store.zarr_codec`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path

from moma_store import records
from moma_store.errors import (
    FormatError,
    IntegrityError,
    InvalidInputError,
    MomaError,
    StorageError,
)
from moma_store.records import JsonObject

ATTRIBUTE = "moma_cl"
FORMAT = 1

# Numpy's and Zarr's names agree. Text is stored as UTF-8 bytes with offsets: Zarr v3 has no settled
# form for strings, and objects would need pickle.
ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip

_ARRAY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """What an array is.

    Attributes
    ----------
    dtype
        One of the names in `ITEM_BYTES`.
    shape
        Its shape.
    sha256
        Digest of its elements in C order, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    def to_json(self) -> JsonObject:
        """Give the array's entry in the manifest."""
        return {"dtype": self.dtype, "shape": list(self.shape), "sha256": self.sha256}

    @classmethod
    def from_json(cls, doc: JsonObject) -> ArraySpec:
        """Read what `to_json` gives; any other value raises `ValueError` or `TypeError`."""
        dtype, shape = doc["dtype"], tuple(doc["shape"])
        if dtype not in ITEM_BYTES or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"no array of dtype {dtype!r} and shape {shape!r}")
        return cls(dtype=dtype, shape=shape, sha256=records.check_digest(doc["sha256"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a blob holds and how it is stored.

    Attributes
    ----------
    header
        A small JSON object.
    arrays
        The arrays by name, sorted.
    base
        Digest of the blob from which some arrays are stored as differences.
    differences
        Names of those arrays, sorted.
    """

    header: JsonObject
    arrays: dict[str, ArraySpec]
    base: str | None = None
    differences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.arrays:
            if not _ARRAY_NAME.fullmatch(name):
                raise InvalidInputError(
                    f"{name!r} cannot name an array in a blob; expected a letter, then letters,"
                    " digits, '_', '.' or '-', at most 200 in all"
                )

    @property
    def digest(self) -> str:
        """Logical digest of the blob."""
        return records.digest(self._content())

    def to_attributes(self) -> JsonObject:
        """Give the attributes of the Zarr group."""
        storage: JsonObject = {"format": FORMAT, **self._content()}
        if self.base is not None:
            storage["base"] = self.base
            storage["differences"] = list(self.differences)
        return {ATTRIBUTE: storage}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, JsonObject]) -> Manifest:
        """Read what `to_attributes` gives; any other value raises some exception."""
        storage = attributes[ATTRIBUTE]
        if storage["format"] > FORMAT:
            raise FormatError(
                f"a blob is in format {storage['format']}, this version of moma-cl knows up to"
                f" {FORMAT}; install a newer one"
            )
        base = storage.get("base")
        return cls(
            header=storage["header"],
            arrays={name: ArraySpec.from_json(doc) for name, doc in storage["arrays"].items()},
            base=None if base is None else records.check_digest(base),
            differences=tuple(storage.get("differences", ())),
        )

    def _content(self) -> JsonObject:
        arrays = {name: spec.to_json() for name, spec in self.arrays.items()}
        return {"arrays": arrays, "header": self.header}


@contextmanager
def damage_reported(path: Path, digest: str) -> Iterator[None]:
    """Turn whatever the block raises over a damaged blob file into an `IntegrityError`.

    Parameters
    ----------
    path
        The file that the block reads.
    digest
        Logical digest of the blob.

    Yields
    ------
    None
        Nothing; the block is run once.

    Raises
    ------
    IntegrityError
        If the block fails because of what the file holds, or the file is missing.
    StorageError
        If it fails because the operating system refuses to read.
    """
    try:
        yield
    except (InvalidInputError, FileNotFoundError) as error:
        raise _damaged(path, digest, error) from error
    except (MomaError, MemoryError):
        raise
    except OSError as error:
        # zipfile seeks wherever a damaged directory points it.
        if error.errno in (None, EINVAL):
            raise _damaged(path, digest, error) from error
        raise StorageError(f"cannot read {path}: {error.strerror}", errno=error.errno) from error
    except Exception as error:  # a damaged file makes zipfile, zarr and zstd raise almost anything
        raise _damaged(path, digest, error) from error


def _damaged(path: Path, digest: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"blob {digest} is missing or damaged: {path}: {type(error).__name__}: {error};"
        " run `moma-cl verify`"
    )
