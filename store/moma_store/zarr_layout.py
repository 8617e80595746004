"""How a blob is laid out as a Zarr v3 group: the metadata documents and the names of chunks.

The documents are written here rather than by zarr, so that the same content gives the same bytes
under every version of zarr; reading compares them for equality, so that no metadata from outside
decides which codec runs. Neither numpy nor zarr is imported for that.

References
----------
Zarr core specification, version 3: https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

from __future__ import annotations

import json
import zipfile
from math import prod
from pathlib import Path

from moma_store import records
from moma_store.manifest import (
    ITEM_BYTES,
    ArraySpec,
    Manifest,
    damage_reported,
)
from moma_store.records import JsonObject

METADATA = "zarr.json"
ZSTD_LEVEL = 1
DIFFERENCE_CODEC = "moma_cl.difference"  # see `moma_store.zarr_codec`
CHUNK_BYTES = 4 << 20
# Elements of a difference per chunk; its four byte planes then fill CHUNK_BYTES.
DIFFERENCE_CHUNK = CHUNK_BYTES // 4


def group_document(manifest: Manifest) -> bytes:
    """Give the metadata of the group.

    Parameters
    ----------
    manifest
        The blob's manifest.

    Returns
    -------
    bytes
        Contents of ``zarr.json``.
    """
    return records.canonical_json(
        {"zarr_format": 3, "node_type": "group", "attributes": manifest.to_attributes()}
    )


def array_document(manifest: Manifest, name: str) -> bytes:
    """Give the metadata of one array.

    Parameters
    ----------
    manifest
        The blob's manifest.
    name
        The array.

    Returns
    -------
    bytes
        Contents of ``NAME/zarr.json``.
    """
    spec = manifest.arrays[name]
    if name not in manifest.differences or manifest.base is None:
        return _array_document(spec.dtype, spec.shape, chunk_shape(spec))
    codec = {"name": DIFFERENCE_CODEC, "configuration": {"base": manifest.base}}
    return _array_document(spec.dtype, spec.shape, chunk_shape(spec), codecs=[codec])


def chunk_shape(spec: ArraySpec) -> tuple[int, ...]:
    """Divide an array along its first axis.

    Parameters
    ----------
    spec
        The array.

    Returns
    -------
    tuple[int, ...]
        Shape of a chunk: of `CHUNK_BYTES` at most, unless one row is larger.
    """
    if not spec.shape:
        return ()
    rest = tuple(max(1, n) for n in spec.shape[1:])
    rows = CHUNK_BYTES // (ITEM_BYTES[spec.dtype] * prod(rest))
    return (max(1, min(rows, spec.shape[0])), *rest)


def chunk_name(name: str, index: tuple[int, ...]) -> str:
    """Name the member that holds a chunk.

    Parameters
    ----------
    name
        The array.
    index
        Which chunk, along each axis.

    Returns
    -------
    str
        Zarr's default chunk key.
    """
    return "/".join([name, "c", *map(str, index)])


def read_manifest(path: Path, digest: str) -> Manifest:
    """Read the manifest of a blob file and verify all metadata in it; arrays are not read.

    Parameters
    ----------
    path
        The file.
    digest
        Logical digest of the blob.

    Returns
    -------
    Manifest
        The manifest.

    Raises
    ------
    IntegrityError
        If the file is missing or damaged.
    FormatError
        If a newer version wrote it.
    StorageError
        If the file cannot be read.
    """
    with damage_reported(path, digest), zipfile.ZipFile(path) as archive:
        return manifest_in(archive, digest)


def manifest_in(archive: zipfile.ZipFile, digest: str) -> Manifest:
    """Read the manifest of an open blob file and verify all metadata in it.

    Parameters
    ----------
    archive
        The file.
    digest
        Logical digest of the blob.

    Returns
    -------
    Manifest
        The manifest.

    Raises
    ------
    FormatError
        If a newer version wrote it.
    ValueError
        If the metadata is anything but what a blob of that digest has; other exceptions, too, if
        the archive is damaged.
    """
    found = archive.read(METADATA)
    manifest = Manifest.from_attributes(json.loads(found)["attributes"])
    if manifest.digest != digest:
        raise ValueError(f"its manifest has the digest {manifest.digest}")
    if found != group_document(manifest):
        raise ValueError(f"{METADATA} does not follow from the manifest")
    for name in manifest.arrays:
        member = f"{name}/{METADATA}"
        if archive.read(member) != array_document(manifest, name):
            raise ValueError(f"{member} does not follow from the manifest")
    return manifest


def _array_document(
    dtype: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    *,
    codecs: list[JsonObject] | None = None,
) -> bytes:
    endian = {"configuration": {"endian": "little"}} if ITEM_BYTES[dtype] > 1 else {}
    zstd = {"level": ZSTD_LEVEL, "checksum": False}
    return records.canonical_json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": False if dtype == "bool" else 0.0 if dtype.startswith("float") else 0,
            "codecs": codecs
            or [{"name": "bytes", **endian}, {"name": "zstd", "configuration": zstd}],
            "attributes": {},
        }
    )
