"""Archives of structure files, which are read where they are: nothing is ever written.

All members are looked at before the first is read. Names that lead out of the archive, links,
devices, names that differ in case only, and thousandfold compression are refused.
"""

from __future__ import annotations

import io
import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol, Self, cast

from moma_cl.readers.byte_sources import MAX_RATIO, ByteStream, Inflated, Place, missing
from moma_cl.readers.formats import distinct_stems
from moma_store.errors import InvalidInputError, MomaError

_FLOOR = 8 << 20  # bytes that may come out before the ratio counts
_MOST_MEMBERS = 1_000_000
_LONG = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_LONGEST = 1 << 20  # bytes of a header with a long name
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """What an archive says of one of its members."""

    name: str
    kind: str  # "file", "folder", or what it is instead


class _Opened(Protocol):
    """An archive of either kind."""

    def members(self) -> Iterator[_Member]: ...

    def open(self, name: str) -> BinaryIO: ...

    def close(self) -> None: ...


class Bundle:
    """An archive whose members have been checked; a context manager.

    Parameters
    ----------
    place
        Where the archive is.

    Raises
    ------
    InvalidInputError
        It is no archive, or one of its members is refused.
    """

    def __init__(self, place: Place) -> None:
        self.label = place.label
        self.name = place.name
        with self._refused():
            self._archive = _opened(place)
        try:
            with self._refused():
                names = self._checked(self._archive.members())
                self.names = {posixpath.normpath(name): name for name in names}
        except BaseException:
            self._archive.close()
            raise
        shown = {name: PurePosixPath("/", name) for name in self.names.values() if _shown(name)}
        stems = distinct_stems(list(shown.values()))
        self._stems = {name: stems[path] for name, path in shown.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def places(self) -> Iterator[Place]:
        """Give the members in their order, without those whose names begin with a dot."""
        for name in self._stems:
            yield self.place(name)

    def place(self, name: str) -> Place:
        """Give the member with a path."""
        return MemberPlace(
            name=posixpath.basename(name),
            label=f"{self.label}:{name}",
            stem=self._stems.get(name, ""),
            bundle=self,
            path=name,
        )

    def open(self, name: str) -> BinaryIO:
        """Open the member with a path; an archive that is damaged there is refused."""
        with self._refused():
            return self._archive.open(name)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """Turn whatever the block raises over a malformed archive into an `InvalidInputError`."""
        try:
            yield
        except (MomaError, MemoryError):
            raise
        except Exception as error:
            raise InvalidInputError(
                f"{self.label} is no archive that can be read ({error})",
                code="invalid-input.unreadable",
            ) from error

    def _checked(self, members: Iterable[_Member]) -> list[str]:
        """Names of the files, if nothing among the members is refused."""
        names: list[str] = []
        seen: dict[str, str] = {}
        for number, member in enumerate(members):
            name = member.name
            _check_name(self.label, name)
            if member.kind not in {"file", "folder"}:
                raise _refusal(self.label, name, f"is {member.kind}")
            twin = seen.setdefault(name.rstrip("/").casefold(), name)
            if number >= _MOST_MEMBERS or (twin is not name and member.kind == "file"):
                reason = "is there twice, or differs from another in case only"
                raise _refusal(self.label, name, reason)
            if member.kind == "file":
                names.append(name)
        return names


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlace(Place):
    """A member of an archive.

    Attributes
    ----------
    bundle
        The archive.
    path
        The member's path in it.
    """

    bundle: Bundle
    path: str

    def opened(self) -> BinaryIO:
        """Open the member."""
        return cast("BinaryIO", _Contents(self.bundle.open(self.path)))

    def beside(self, name: str) -> Place:
        """Find a member relative to the folder of this one."""
        folder = posixpath.dirname(self.path)
        path = posixpath.normpath(posixpath.join(folder, name))
        if path not in self.bundle.names:
            raise missing(name, f"{self.bundle.label}:{folder}")
        return self.bundle.place(self.bundle.names[path])


class _Contents(ByteStream):
    """Bytes of a member, whose readers raise almost anything where an archive is malformed."""

    def some(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except MemoryError:
            raise
        except Exception as error:
            raise OSError(str(error)) from error


def _shown(name: str) -> bool:
    """Say whether a member is no hidden file, and no note of macOS."""
    parts = (part for part in name.split("/") if part != ".")
    return not any(part.startswith((".", "__MACOSX")) for part in parts)


def _check_name(label: str, name: str) -> None:
    """Refuse names that lead out of a folder, whatever the system."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or _DRIVE.match(name) or "\0" in name:
        raise _refusal(label, name, "leads out of the archive")


def _refusal(label: str, name: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{label} is refused: its member {name[:80]!r} {reason}; pack plain files under plain "
        "names",
        code="invalid-input.unsafe-archive",
    )


def _opened(place: Place) -> _Opened:
    """Open an archive by what it begins with."""
    with place.opened() as stream:
        mark = stream.read(2)
    if mark == b"PK":
        return _Zip(place)
    return _Tar(place, packed=mark == b"\x1f\x8b")


class _Zip:
    """A zip archive."""

    def __init__(self, place: Place) -> None:
        self._stream = place.opened()
        self._label = place.label
        try:
            self._zip = zipfile.ZipFile(self._stream)
            self._size = self._stream.seek(0, 2)
        except BaseException:
            self._stream.close()
            raise

    def members(self) -> Iterator[_Member]:
        """Look at all members."""
        total = 0
        for info in self._zip.infolist():
            total += info.file_size
            # The sum as well: members may overlap, each of them harmless by itself.
            worst = max(total / self._size, info.file_size / max(1, info.compress_size))
            if total > _FLOOR and worst > MAX_RATIO:
                reason = f"unpacks to more than {MAX_RATIO} times its size"
                raise _refusal(self._label, info.filename, reason)
            yield _Member(name=info.filename, kind=self._kind(info))

    @staticmethod
    def _kind(info: zipfile.ZipInfo) -> str:
        if info.flag_bits & 1:
            return "encrypted"
        mode = stat.S_IFMT(info.external_attr >> 16)
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "a link or device"
        return "folder" if info.is_dir() else "file"

    def open(self, name: str) -> BinaryIO:
        """Open a member."""
        return cast("BinaryIO", self._zip.open(name))

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()
        self._stream.close()


class _Header(tarfile.TarInfo):
    """A header of a tar archive that cannot make the reader take much memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _LONG and header.size > _LONGEST:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


class _Tar:
    """A tar archive.

    A compressed one is read anew when a member is opened after a later one.
    """

    def __init__(self, place: Place, *, packed: bool) -> None:
        self._place = place
        self._packed = packed
        self._stream: BinaryIO = place.opened()
        self._tar = self._begun()
        self._rest = iter(self._tar)

    def members(self) -> Iterator[_Member]:
        """Look at all members."""
        return map(_as_member, self._rest)

    def open(self, name: str) -> BinaryIO:
        """Open a member."""
        if not self._packed:
            return _contents(self._tar, self._tar.getmember(name))
        for _ in range(2):
            for info in self._rest:
                if info.name == name:
                    return _contents(self._tar, info)
            self.close()
            self._stream = self._place.opened()
            self._tar = self._begun()
            self._rest = iter(self._tar)
        raise KeyError(name)

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()
        self._stream.close()

    def _begun(self) -> tarfile.TarFile:
        """Begin to read from the start."""
        try:
            if not self._packed:
                return tarfile.TarFile(fileobj=self._stream, mode="r", tarinfo=_Header)
            self._stream = io.BufferedReader(Inflated(self._stream))
            return tarfile.open(fileobj=self._stream, mode="r|", tarinfo=_Header)
        except BaseException:
            self._stream.close()
            raise


def _as_member(info: tarfile.TarInfo) -> _Member:
    if info.isdir():
        return _Member(name=info.name, kind="folder")
    plain = info.isreg() and not info.issparse()
    return _Member(name=info.name, kind="file" if plain else "a link or device")


def _contents(tar: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    stream = tar.extractfile(info)
    if stream is None:
        raise KeyError(info.name)
    return cast("BinaryIO", stream)
