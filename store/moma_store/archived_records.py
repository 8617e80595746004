"""Reading an archive where it lies, without a hub that it is added to."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moma_store import records
from moma_store.archives import RECORDS, Archive
from moma_store.errors import NotFoundError
from moma_store.files import Files
from moma_store.objects import SUFFIX

if TYPE_CHECKING:
    from moma_store.blob_reader import Blob, BlobReader
    from moma_store.records import BlobLink, JsonObject


class ArchivedRecords:
    """The records and blobs of an archive, read as those of a store are; a context manager.

    Blobs are copied into a temporary folder when they are first read, since their files are zip
    archives themselves. Every array is verified, as a store verifies it. Whoever wrote the archive
    is trusted: nothing checks whether its records mean what they should.

    Parameters
    ----------
    path
        The archive.
    refs
        Refs besides those of the archive, as digests by name.

    Raises
    ------
    NotFoundError
        If there is no file.
    InvalidInputError
        If it is no archive.
    FormatError
        If a newer version wrote it.
    """

    def __init__(self, path: Path, refs: Mapping[str, str] | None = None) -> None:
        self._archive = Archive(path)
        self._refs = {**self._archive.summary.refs, **(refs or {})}
        self._files = Files()
        self._records: dict[str, JsonObject] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="moma-cl-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
        self._archive.__exit__()

    @property
    def cache_dir(self) -> Path:
        """Folder whose contents go when the archive is closed."""
        return Path(self._folder.name) / "cache"

    def refs(self, prefix: str = "") -> dict[str, str]:
        """List refs by name."""
        return {name: digest for name, digest in self._refs.items() if name.startswith(prefix)}

    def ref(self, name: str) -> str | None:
        """Look up a ref."""
        return self._refs.get(name)

    def record(self, digest: str) -> JsonObject:
        """Look up a record."""
        if self._records is None:
            lines = self._archive.lines(RECORDS)
            self._records = {records.digest(doc): doc for doc in lines}
        if digest not in self._records:
            raise NotFoundError(f"the archive has no record {digest}")
        return self._records[digest]

    def blob(self, link: BlobLink, names: Collection[str] | None = None) -> Blob:
        """Read a blob, verified."""
        with self._opened(link.digest) as reader:
            return reader.read(names)

    def blob_pieces(self, link: BlobLink, name: str) -> Iterator[Any]:
        """Read one array of a blob piece by piece."""
        with self._opened(link.digest) as reader:
            yield from reader.pieces(name)

    @contextmanager
    def _opened(self, digest: str) -> Iterator[BlobReader]:
        from moma_store.blob_reader import BlobReader  # records alone are read without numpy

        path = Path(self._folder.name) / f"{digest}{SUFFIX}"
        if not path.exists():
            with path.open("wb") as stream:
                self._archive.copy_object(digest, stream)
        with BlobReader(path, digest, self._opened, self._files) as reader:
            yield reader
