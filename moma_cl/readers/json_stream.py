"""Reading large JSON documents piece by piece, so that their size does not matter.

A parser of events such as ijson is not faster, ends at the first NaN, drops repeated keys, and
fills the memory over brackets that are nested deeply.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from moma_store.errors import InvalidInputError

_CHUNK = 1 << 16  # characters
_SPACE = re.compile(r"[ \t\n\r]*")
_AFTER_SPACE = re.compile(r"[ \t\n\r]*([^ \t\n\r])")


class JsonStream:
    """A JSON document that is read value by value.

    Parameters
    ----------
    stream
        Its text.
    limit
        Characters that one value may have.
    """

    def __init__(self, stream: TextIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._text = ""
        self._at = 0
        self._ended = False
        self._repeated: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def peek(self) -> str:
        """Look at the next character that is not a space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(_CHUNK)

    def value(self) -> tuple[object, InvalidInputError | None]:
        """Read the next value whole.

        Returns
        -------
        tuple[object, InvalidInputError | None]
            The value, and what is wrong with it though it could be read.

        Raises
        ------
        InvalidInputError
            It is no JSON or too long: nothing can be read after it.
        """
        self.peek()
        while True:
            self._repeated.clear()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise not_json(error) from error
            except (ValueError, RecursionError) as error:
                raise not_json(error) from error
            else:
                # a number at the end of the text may have more digits
                if end < len(self._text) or self._ended:
                    length, self._at = end - self._at, end
                    return value, self._problem(length)
            held = len(self._text) - self._at
            if held > self._limit:
                raise self._too_long()
            self._more(max(_CHUNK, held))

    def begins_list_of_objects(self) -> bool:
        """Say whether the next value is a list whose first element is an object."""
        if self.peek() != "[":
            return False
        while not (match := _AFTER_SPACE.match(self._text, self._at + 1)):
            if self._ended:
                return False
            self._more(_CHUNK)
        return match[1] == "{"

    def elements(self) -> Iterator[tuple[object, InvalidInputError | None]]:
        """Read a list element by element, each as `value` gives it."""
        self._take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self._take(",")
        self._take("]")

    def members(self) -> Iterator[str]:
        """Read an object member by member: give each key, and let the caller read its value."""
        self._take("{")
        while self.peek() != "}":
            key, _ = self.value()
            if not isinstance(key, str):
                raise not_json("a key that is no string")
            self._take(":")
            yield key
            if self.peek() != "}":
                self._take(",")
        self._take("}")

    def _take(self, character: str) -> None:
        following = self.peek()
        if following != character:
            raise not_json(f"expected {character!r}, found {following or 'the end'!r}")
        self._at += 1

    def _more(self, size: int) -> None:
        part = self._stream.read(size)
        self._ended = not part
        self._text = self._text[self._at :] + part
        self._at = 0

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) < len(pairs):
            self._repeated.append(_first_twice(pairs))
        return members

    def _problem(self, length: int) -> InvalidInputError | None:
        if length > self._limit:
            return self._too_long()
        return repeated_key(self._repeated[0]) if self._repeated else None

    def _too_long(self) -> InvalidInputError:
        return InvalidInputError(
            f"a value has more than {self._limit:,} characters, or is no JSON: write a large table "
            "as JSON lines, with pandas by to_json(orient='records', lines=True)",
            code="invalid-input.too-long",
        )


def not_json(reason: object) -> InvalidInputError:
    """Make the error of a text that is no JSON."""
    return InvalidInputError(f"not JSON ({reason})", code="invalid-input.not-json")


def repeated_key(name: str) -> InvalidInputError:
    """Make the error of an object that has a key twice."""
    return InvalidInputError(
        f"the key {name[:64]!r} occurs twice in one object", code="invalid-input.duplicate-key"
    )


def _first_twice(pairs: list[tuple[str, object]]) -> str:
    counts = Counter(name for name, _ in pairs)
    return next(name for name, count in counts.items() if count > 1)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object, refusing what JSON leaves open."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise repeated_key(_first_twice(pairs))
    return members


_STRICT = json.JSONDecoder(object_pairs_hook=_unique)


def load_object(text: str) -> dict[str, object]:
    """Load a JSON object; anything else, or one with a key twice, is refused."""
    try:
        loaded = _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from error
    if not isinstance(loaded, dict):
        raise InvalidInputError(
            f"a JSON {type(loaded).__name__}; expected an object", code="invalid-input.not-json"
        )
    return loaded
