"""Rows of JSON files: one a line, or many in one document."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from moma_cl.readers.byte_sources import READ_ERRORS, Place
from moma_cl.readers.json_stream import JsonStream, load_object, not_json, repeated_key
from moma_cl.readers.rows import STRUCTURE_NAMES, Found, Reading, cut_off, first_of, from_document
from moma_cl.readers.structure_json import is_structure
from moma_cl.readers.text_parser import Limits
from moma_store.errors import InvalidInputError

_SKIPPED = 8  # how many times the longest line is read on in search of the next line


def lines(place: Place, limits: Limits, reading: Reading) -> Iterator[Found]:
    """Read JSON lines.

    Parameters
    ----------
    place
        The file.
    limits
        What one row may cost.
    reading
        What the user says of it.

    Yields
    ------
    Found
        A row for each line that is not empty.
    """
    number = 0
    stem = place.stem
    try:
        with place.stream() as stream:
            for number, line in enumerate(_split(stream, limits), start=1):
                if line is None or line.strip():
                    source, fallback = f"{place.label}:{number}", f"{stem}:{number}"
                    try:
                        text = _decoded(line, limits, first=number == 1)
                        document = load_object(text)
                    except InvalidInputError as error:
                        yield Found(source=source, fallback=fallback, error=error)
                    else:
                        yield from_document(document, source, fallback, reading)
    except READ_ERRORS as error:
        yield cut_off(place, number, error)


def _split(stream: io.BufferedReader, limits: Limits) -> Iterator[bytes | None]:
    """Split into lines; one that is too long is skipped and given as ``None``."""
    limit = limits.text_bytes
    while line := stream.readline(limit + 1):
        if len(line) <= limit or line.endswith(b"\n"):
            yield line
            continue
        yield None
        for _ in range(_SKIPPED):
            rest = stream.readline(limit)
            if not rest or rest.endswith(b"\n"):
                break
        else:
            raise OSError(f"a line of more than {_SKIPPED * limit:,} bytes")


def _decoded(line: bytes | None, limits: Limits, *, first: bool) -> str:
    limit = min(limits.text_bytes, limits.document_bytes)
    if line is None or len(line) > limit:
        raise InvalidInputError(
            f"the line has more than {limit:,} bytes", code="invalid-input.too-long"
        )
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the line is not UTF-8 ({error.reason} at byte {error.start})",
            code="invalid-input.not-text",
        ) from error


def documents(place: Place, limits: Limits, reading: Reading) -> Iterator[Found]:
    """Read a JSON file: one structure or row, many in a list or by id, or a matminer data set.

    Parameters
    ----------
    place
        The file.
    limits
        What one row may cost.
    reading
        What the user says of it.

    Yields
    ------
    Found
        A row for each structure.
    """
    number = 0
    try:
        with place.stream() as stream:
            wide = stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
            text = io.TextIOWrapper(stream, encoding="utf-16" if wide else "utf-8-sig")
            rows = _Documents(place, JsonStream(text, limits.document_bytes), reading).rows()
            for found in rows:
                number += 1
                yield found
    except InvalidInputError as error:
        whole = number == 0  # nothing came before, so that the file itself is meant
        name = place.stem if whole else f"{place.stem}:{number + 1}"
        yield Found(source=place.label, fallback=name, error=error)
    except (*READ_ERRORS, UnicodeError) as error:
        yield cut_off(place, number, error)


class _Documents:
    """The rows of one JSON file."""

    def __init__(self, place: Place, stream: JsonStream, reading: Reading) -> None:
        self._label = place.label
        self._stem = place.stem
        self._stream = stream
        self._reading = reading

    def rows(self) -> Iterator[Found]:
        """Give the rows."""
        if self._stream.peek() == "[":
            for number, (value, problem) in enumerate(self._stream.elements(), start=1):
                yield self._found(value, problem, str(number))
        else:
            yield from self._members()
        if self._stream.peek():
            raise not_json("there is something after the end")

    def _members(self) -> Iterator[Found]:
        """Read an object: one row, rows by their ids, or a table in pandas' split form."""
        document: dict[str, object] = {}
        problem = None
        by_id = False
        for key in self._stream.members():
            if key == "data" and isinstance(document.get("columns"), list):
                yield from self._split(document)
                continue
            value, wrong = self._stream.value()
            problem = problem or wrong
            by_id = by_id or (not document and _is_row(key, value))
            if by_id:
                yield self._found(value, wrong, key, given_id=key)
            else:
                problem = problem or (repeated_key(key) if key in document else None)
                document[key] = value
        if not by_id and "columns" not in document:
            found = from_document(document, self._label, self._stem, self._reading)
            yield found if problem is None else self._failed(problem, None)
        elif not by_id and "data" in document:
            raise not_json("the columns come after the data; write them first")

    def _split(self, document: Mapping[str, object]) -> Iterator[Found]:
        """Read the rows of a table whose columns are known, as matminer caches it."""
        columns = document["columns"]
        names = [str(name) for name in columns] if isinstance(columns, list) else []
        index = document.get("index")
        labels = index if isinstance(index, list) else []
        for place, (cells, problem) in enumerate(self._stream.elements()):
            label = labels[place] if place < len(labels) else place
            value = dict(zip(names, cells, strict=False)) if isinstance(cells, list) else cells
            yield self._found(
                value, problem, str(label)[:80], given_id=label if isinstance(label, str) else None
            )

    def _found(
        self,
        value: object,
        problem: InvalidInputError | None,
        name: str,
        *,
        given_id: str | None = None,
    ) -> Found:
        """Give one of many."""
        if problem is not None:
            return self._failed(problem, name)
        source, fallback = f"{self._label}:{name}", f"{self._stem}:{name}"
        if not isinstance(value, Mapping):
            # the text of a CIF file by its id; anything else is refused later
            return Found(source=source, fallback=fallback, given_id=given_id, structure=value)
        return from_document(value, source, given_id or fallback, self._reading)

    def _failed(self, problem: InvalidInputError, name: str | None) -> Found:
        suffix = "" if name is None else f":{name}"
        return Found(
            source=f"{self._label}{suffix}", fallback=f"{self._stem}{suffix}", error=problem
        )


def _is_row(key: str, value: object) -> bool:
    """Say whether the first member of an object is a row, by its id."""
    if isinstance(value, str):
        return "\n" in value
    if key in {"structure", "lattice", "molecule", "data", "atoms"} or key.startswith("@"):
        return False
    return isinstance(value, Mapping) and (
        is_structure(value) or first_of(STRUCTURE_NAMES, value) is not None
    )
