"""A cache of bytes in a folder that may be deleted at any time."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import lmdb

# Address space only: the file grows as values are written.
_MAP_SIZE = 256 << 30
_CHECKSUM_SIZE = 16
_DAMAGED = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError)

logger = logging.getLogger(__name__)


class ByteCache:
    """Values by key in an LMDB environment of their own, each with a checksum.

    Everything in it can be computed again. So a damaged value counts as missing, and a full disk or
    a broken environment costs the cache, never the caller. Its folder, on a local disk, is made if
    it is missing; a process may open a folder only once at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the environment."""
        if self._environment is not None:
            self._environment.close()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the value of each key, or none where it is missing or damaged."""
        if self._environment is None:
            return [None] * len(keys)
        try:
            with self._environment.begin() as transaction:
                return [_checked(key, transaction.get(key)) for key in keys]
        except _DAMAGED:
            self._start_anew()
        except lmdb.Error:
            logger.debug("cache %s cannot be read", self._folder, exc_info=True)
        return [None] * len(keys)

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Write values by key, at most 511 bytes each key, in one transaction."""
        if self._environment is None:
            return
        try:
            with self._environment.begin(write=True) as transaction:
                for key, value in values.items():
                    transaction.put(key, _checksum(key, value) + value)
        except (*_DAMAGED, lmdb.MapFullError):
            self._start_anew()
        except lmdb.Error:
            logger.debug("cache %s cannot be written", self._folder, exc_info=True)

    def _open(self) -> lmdb.Environment | None:
        for _ in range(2):
            try:
                return self._environment_at(self._folder)
            except _DAMAGED:
                shutil.rmtree(self._folder, ignore_errors=True)
            except (OSError, lmdb.Error) as error:
                logger.warning("no cache at %s: %s", self._folder, error)
                return None
        return None

    @staticmethod
    def _environment_at(folder: Path) -> lmdb.Environment:
        folder.mkdir(parents=True, exist_ok=True)
        # a power cut may lose written pages, which are then computed again
        return lmdb.open(str(folder), map_size=_MAP_SIZE, sync=False, readahead=False)

    def _start_anew(self) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._environment = self._open()


def _checked(key: bytes, stored: bytes | None) -> bytes | None:
    if stored is None:
        return None
    value = stored[_CHECKSUM_SIZE:]
    return value if _checksum(key, value) == stored[:_CHECKSUM_SIZE] else None


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=_CHECKSUM_SIZE, key=key[:64]).digest()
