"""The folder of blobs: where each file is, how it gets there, how it is read and taken away."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_store import records
from moma_store.errors import IntegrityError
from moma_store.files import Files, reported
from moma_store.records import BlobLink

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from moma_store.bases import AnyArray, Base
    from moma_store.blob_reader import Blob, BlobReader
    from moma_store.manifest import Manifest

SUFFIX = ".zarr.zip"
_NAME = re.compile(r"([0-9a-f]{64})\.zarr\.zip")
_WORTH_A_THREAD = 1 << 18  # bytes that take longer to hash than to ask a thread for it
_LARGEST_KEPT = 1 << 24  # bytes of a base, or of a file being made, that may be held in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """A file in the folder, as its directory has it.

    Attributes
    ----------
    path
        The file.
    digest
        The blob it is named after; None where the name is none that the store gives.
    n_bytes
        Its size.
    """

    path: Path
    digest: str | None
    n_bytes: int


class Objects:
    """The blobs of a hub.

    Parameters
    ----------
    folder
        Where they are.
    tmp
        Where they are written first, on the same file system.
    files
        The file system.
    """

    def __init__(self, folder: Path, tmp: Path, files: Files) -> None:
        self.folder = folder
        self._tmp = tmp
        self._files = files
        self._kept: tuple[Any, Base] | None = None
        self._thread: tuple[int, Executor] | None = None

    def path(self, digest: str) -> Path:
        """Give the path of a blob's file, whether or not it is there.

        Parameters
        ----------
        digest
            Logical digest of the blob.

        Returns
        -------
        Path
            The file.
        """
        records.check_digest(digest)
        return self.folder / digest[:2] / f"{digest}{SUFFIX}"

    def has(self, digest: str) -> bool:
        """Tell whether a blob's file is there, without opening it."""
        return self.path(digest).exists()

    def open(self, digest: str) -> BlobReader:
        """Open a blob, its metadata verified.

        Parameters
        ----------
        digest
            Logical digest of the blob.

        Returns
        -------
        BlobReader
            A context manager.

        Raises
        ------
        IntegrityError
            If the file is missing or damaged.
        """
        from moma_store.blob_reader import BlobReader

        return BlobReader(self.path(digest), digest, self.open_base, self._files)

    @contextmanager
    def open_base(self, digest: str) -> Iterator[Base]:
        """Open a blob that others are stored as differences from.

        A small one is read once and kept, as long as its file stays as it was.

        Parameters
        ----------
        digest
            Logical digest of the blob.

        Yields
        ------
        Base
            The blob.

        Raises
        ------
        IntegrityError
            If it is missing or damaged.
        """
        from moma_store.bases import MemoryBase

        try:
            status = self.path(digest).stat()
        except OSError:
            status = None  # opening it says what is wrong
        key = (digest, status and (status.st_ino, status.st_size, status.st_mtime_ns))
        kept = self._kept
        if kept is not None and kept[0] == key:
            yield kept[1]
            return
        with self.open(digest) as reader:
            if status is None or status.st_size > _LARGEST_KEPT:
                yield reader
                return
            base = MemoryBase(digest, reader.manifest, reader.read().arrays)
        self._kept = (key, base)
        yield base

    def read(self, link: BlobLink, names: Collection[str] | None) -> Blob:
        """Read a blob, verified; see `Store.blob`."""
        with self.open(link.digest) as reader:
            return reader.read(names)

    def put(
        self, arrays: Mapping[str, AnyArray], header: Mapping[str, Any], base: BlobLink | None
    ) -> BlobLink:
        """Store a blob durably; see `Store.put_blob`."""
        from moma_store import blobs

        with ExitStack() as opened:
            whole = None if base is None else opened.enter_context(self.open_base(base.digest))
            n_bytes = sum(array.nbytes for array in arrays.values())
            if n_bytes > _LARGEST_KEPT:
                return self._put_large(arrays, header, whole)
            beside = self._helper() if n_bytes > _WORTH_A_THREAD else blobs.AtOnce()
            return self._put_small(arrays, header, whole, beside)

    def close(self) -> None:
        """End the thread that helps to store blobs, if there is one."""
        thread, self._thread = self._thread, None
        if thread is not None and thread[0] == os.getpid():
            thread[1].shutdown()

    def adopt(self, source: Path, link: BlobLink) -> None:
        """Publish a finished blob file, verified by the caller, from the folder for drafts.

        Parameters
        ----------
        source
            The file, forced to disk.
        link
            The blob.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        self._files.publish(source, self.path(link.digest))

    def draft(self) -> Path:
        """Give a path in the folder for drafts that nobody else uses."""
        return self._tmp / uuid.uuid4().hex

    def listing(self) -> Iterator[ObjectFile]:
        """List all files in the folder, in the order of names.

        Yields
        ------
        ObjectFile
            The files.

        Raises
        ------
        StorageError
            If the folder cannot be read.
        """
        with reported("list", self.folder):
            for sub in self._files.listing(self.folder):
                if not sub.is_dir(follow_symlinks=False):
                    yield _object_file(sub)
                    continue
                yield from map(_object_file, self._files.listing(Path(sub.path)))

    def is_whole(self, digest: str) -> bool:
        """Tell whether a blob is there and undamaged, down to its arrays."""
        return self._stored(digest) is not None

    def _put_small(
        self,
        arrays: Mapping[str, AnyArray],
        header: Mapping[str, Any],
        base: Base | None,
        beside: Executor,
    ) -> BlobLink:
        from moma_store import blobs

        manifest, data = blobs.encode(arrays, header, base, beside=beside)
        stored = self._settled(manifest)
        if stored is not None:
            return stored
        target = self.path(manifest.digest)
        with self._files.write_published(self.draft(), target) as stream:
            stream.write(data)
            # While the disk is waited for there is time to hash the file.
            hashing = beside.submit(sha256, data)
        file = hashing.result().hexdigest()
        return BlobLink(digest=manifest.digest, file=file, n_bytes=len(data), base=manifest.base)

    def _helper(self) -> Executor:
        """Give a thread, kept for the next blob: to start one takes an eighth of a commit."""
        from concurrent.futures import ThreadPoolExecutor

        # A fork has none of its parent's threads.
        if self._thread is None or self._thread[0] != os.getpid():
            self._thread = (os.getpid(), ThreadPoolExecutor(1))
        return self._thread[1]

    def _put_large(
        self, arrays: Mapping[str, AnyArray], header: Mapping[str, Any], base: Base | None
    ) -> BlobLink:
        from moma_store import blobs

        manifest = blobs.describe(arrays, header, base=base)
        stored = self._settled(manifest)
        if stored is not None:
            return stored
        target = self.path(manifest.digest)
        with self._files.write_published(self.draft(), target) as stream:
            blobs.write(stream, arrays, manifest, base)
        return self._link(manifest)

    def _settled(self, manifest: Manifest) -> BlobLink | None:
        """Make a blob durable that is there and whole, if it is."""
        stored = self._stored(manifest.digest)
        if stored is None:
            return None
        target = self.path(manifest.digest)
        self._files.sync_path(target)
        self._files.settle(target)
        return self._link(stored)

    def _link(self, manifest: Manifest) -> BlobLink:
        target = self.path(manifest.digest)
        file = self._files.sha256(target)
        with reported("read", target):
            n_bytes = target.stat().st_size
        return BlobLink(digest=manifest.digest, file=file, n_bytes=n_bytes, base=manifest.base)

    def _stored(self, digest: str) -> Manifest | None:
        """Give the manifest of a blob that is there and whole."""
        if not self.has(digest):
            return None
        try:
            with self.open(digest) as reader:
                reader.verify()
                return reader.manifest
        except IntegrityError:
            return None


def _object_file(entry: os.DirEntry[str]) -> ObjectFile:
    match = _NAME.fullmatch(entry.name)
    placed = match is not None and entry.path.endswith(
        f"{os.sep}{entry.name[:2]}{os.sep}{match[0]}"
    )
    return ObjectFile(
        path=Path(entry.path),
        digest=match[1] if match is not None and placed else None,
        n_bytes=entry.stat(follow_symlinks=False).st_size,
    )
