"""Where bytes come from: a file, a member of an archive, or standard input.

Whatever is compressed is read through a guard, so that a small file cannot become an endless one.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import os
import stat
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from moma_cl.core.printable import printable
from moma_cl.readers.formats import stem_of
from moma_store.errors import InvalidInputError, NotFoundError

STANDARD_INPUT = Path("-")
"""The source that stands for standard input."""

READ_ERRORS = (OSError, EOFError, zlib.error)
"""Anything that reading and decompressing a file can end with."""

MAX_RATIO = 250
"""What unpacks to more than so many times its size is a bomb; text of structures is tenfold."""

_PART = 1 << 16  # bytes that are read at once
_FLOOR = 8 << 20  # bytes that may be read before the ratio counts
_READ_AT_ONCE = 128 << 20  # a reader that asks for more was told to by the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(ABC):
    """Something with a name that bytes can be read from.

    Attributes
    ----------
    name
        Name of the file, without folders.
    label
        What messages call it.
    stem
        What rows without an id are named after: by default its name without suffixes.
    """

    name: str
    label: str
    stem: str = ""

    def __post_init__(self) -> None:
        for name, text in (("label", self.label), ("stem", self.stem or stem_of(self.name))):
            object.__setattr__(self, name, printable(text))

    @abstractmethod
    def opened(self) -> BinaryIO:
        """Open it for reading, as it is."""

    @abstractmethod
    def beside(self, name: str) -> Place:
        """Find a file that this one names by a path relative to its folder; it must be there."""

    @property
    def packed(self) -> bool:
        """Whether the bytes are compressed with gzip."""
        return self.name.lower().endswith(".gz")

    def stream(self) -> io.BufferedReader:
        """Open it for reading as text: decompressed and guarded, as `PlainText` has it."""
        raw = self.opened()
        source = cast("BinaryIO", Inflated(raw)) if self.packed else raw
        return io.BufferedReader(PlainText(source), _PART)

    def text(self, limit: int) -> str:
        """Read all of a text file; one of more bytes than the limit, or no text, is refused."""
        try:
            with self.stream() as stream:
                data = stream.read(limit + 1)
        except READ_ERRORS as error:
            raise unreadable(self.label, getattr(error, "strerror", None) or error) from error
        if len(data) > limit:
            raise InvalidInputError(
                f"{self.label} has more than {limit:,} bytes", code="invalid-input.too-long"
            )
        if b"\0" in data:
            raise InvalidInputError(
                f"{self.label} is binary, not text", code="invalid-input.not-text"
            )
        # Comments of old CIF files hold Latin-1; what matters in them is ASCII.
        return data.decode("utf-8-sig", errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace(Place):
    """A file on disk.

    Attributes
    ----------
    path
        The file.
    """

    path: Path

    @classmethod
    def of(cls, path: Path, stem: str = "") -> Self:
        """Give the place of a file on disk."""
        return cls(name=path.name, label=str(path), stem=stem, path=path)

    def opened(self) -> BinaryIO:
        """Open the file."""
        return self.path.open("rb")

    def beside(self, name: str) -> Place:
        """Find a file relative to the folder of this one."""
        path = self.path.parent / name
        try:
            if path.is_file():
                return FilePlace.of(path)
        except (OSError, ValueError) as error:  # a name too long, or with a zero in it
            raise unreadable(name[:80], error) from error
        raise missing(name, self.path.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlace(Place):
    """Standard input."""

    def opened(self) -> BinaryIO:
        """Give the stream, which closing the copy leaves open."""
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")

    def beside(self, name: str) -> Place:
        """Find a file relative to the working directory."""
        return FilePlace.of(Path("stdin")).beside(name)


class ByteStream(io.RawIOBase):
    """A stream of bytes made from another; a subclass says what ``some`` bytes are.

    Parameters
    ----------
    source
        The other stream, which is closed with this one.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def some(self, size: int) -> bytes:
        """Read some bytes, none at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read some bytes into a buffer."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        data = self.some(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close both streams."""
        self._source.close()
        super().close()


class Inflated(ByteStream):
    """Decompressed bytes of a gzip stream, until they outgrow it beyond reason."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(source)
        self._packed = _Counted(source)
        self._stream = gzip.GzipFile(fileobj=cast("BinaryIO", self._packed), mode="rb")
        self._n_bytes = 0

    def some(self, size: int) -> bytes:
        """Decompress some bytes."""
        if size > _READ_AT_ONCE:
            raise OSError(f"{size:,} bytes asked for at once")
        data = self._stream.read1(size)
        self._n_bytes += len(data)
        if self._n_bytes > max(_FLOOR, MAX_RATIO * self._packed.n_bytes):
            raise OSError(f"it unpacks to more than {MAX_RATIO} times its size")
        return data


class PlainText(ByteStream):
    """Text in UTF-8 whose lines end with a line feed.

    Old spreadsheets end lines with a carriage return, others with both. UTF-16 that begins with its
    mark is recoded.
    """

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(source)
        self._ready = b""
        self._held = b""  # a carriage return that a line feed may follow
        self._begun = self._ended = False
        self._wide: codecs.IncrementalDecoder | None = None

    def some(self, size: int) -> bytes:
        """Read some bytes of the text."""
        while not (self._ready or self._ended):
            data = self._source.read(_PART)
            self._ended = not data
            self._ready = self._recoded(data)
        part, self._ready = self._ready[:size], self._ready[size:]
        return part

    def _recoded(self, data: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._wide = codecs.getincrementaldecoder("utf-16")("replace")
        if self._wide is not None:
            data = self._wide.decode(data, final=self._ended).encode("utf-8", "replace")
        data, self._held = self._held + data, b""
        if b"\r" not in data:
            return data
        if data.endswith(b"\r") and not self._ended:
            data, self._held = data[:-1], b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class _Counted:
    """A stream that counts what was read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.n_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.n_bytes += len(data)
        return data


def unreadable(label: object, reason: object) -> InvalidInputError:
    """Make the error of a file that cannot be read."""
    return InvalidInputError(f"{label} cannot be read ({reason})", code="invalid-input.unreadable")


def missing(name: str, folder: object) -> InvalidInputError:
    """Make the error of a structure file that is not in the folder."""
    return InvalidInputError(
        f"there is no file {name[:80]!r} in {folder}", code="invalid-input.missing-structure"
    )


def expanded(sources: Sequence[Path]) -> Iterator[Path]:
    """Replace patterns such as ``**/*.cif`` by the files that match them, in the order of names.

    A pattern that matches nothing stays, as files, folders and ``-`` do.
    """
    for source in sources:
        pattern = str(source)
        if not glob.has_magic(pattern) or os.path.lexists(source):
            yield source
            continue
        # Path.glob knows neither absolute patterns nor ones that begin with `..`.
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        yield from map(Path, matches) if matches else [source]


def check_source(source: Path, has_format: Callable[[str], bool]) -> None:
    """Check that a source is there and can be read.

    Parameters
    ----------
    source
        A file or folder.
    has_format
        Whether a name tells the format of its file.

    Raises
    ------
    NotFoundError
        There is none.
    InvalidInputError
        It cannot be read, or its name tells no format.
    """
    try:
        mode = source.stat().st_mode
    except FileNotFoundError as error:
        kind = "matches no file" if glob.has_magic(str(source)) else "does not exist"
        raise NotFoundError(f"{source} {kind}") from error
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise unreadable(source, error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise unreadable(source, "neither a file nor a folder")
    if not os.access(source, os.R_OK):
        raise unreadable(source, "no permission")
    if stat.S_ISREG(mode) and not has_format(source.name):
        raise InvalidInputError(
            f"{source} is of no known kind; expected .jsonl, .json, .csv, .tsv, .xlsx, .xyz, "
            ".cif, .vasp, .db, .zip, .tar, each but .xlsx and .db also with .gz, or a name with "
            "POSCAR or CONTCAR; --input-format names the kind of other files",
            code="invalid-input.unknown-format",
        )
