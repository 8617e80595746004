"""The text of a CIF as data blocks: items and loops, after the grammar of CIF 1.1."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moma_store.errors import InvalidInputError

Block = dict[str, list[str]]
"""Values by lower-case tag; an item outside a loop is a list of one."""

UNSET = frozenset({"", "?", "."})
"""Values that stand for none: unknown, not applicable."""

_TOKEN = re.compile(
    r"""^;(?P<field>.*?)\n;(?=\s|$)   # a text field, from a semicolon at the start of a line
    | '(?P<single>[^\n]*?)'(?=\s|$)   # a quote ends only before white space
    | "(?P<double>[^\n]*?)"(?=\s|$)
    | (?P<comment>\#[^\n]*)
    | (?P<bare>\S+)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?(?:\(\d*\))?")
_RESERVED = ("loop_", "global_", "stop_")


def malformed(message: str) -> InvalidInputError:
    """Make the error of a text that is no CIF."""
    return InvalidInputError(
        f"not a readable CIF file: {message}", code="invalid-input.parse-error"
    )


def blocks(text: str) -> list[Block]:
    """Split a CIF into its data blocks.

    A dot in a tag, as later dictionaries write it, counts as an underscore.
    """
    found: list[Block] = []
    tokens = list(_tokens(text))
    place = 0
    while place < len(tokens):
        value, quoted = tokens[place]
        word = "" if quoted else value.lower()
        if word.startswith("data_"):
            found.append({})
            place += 1
        elif not found:
            raise malformed(f"{value[:40]!r} stands before the first data_ line")
        elif word == "loop_":
            place = _read_loop(tokens, place + 1, found[-1])
        elif word.startswith("_"):
            if place + 1 == len(tokens) or _is_structural(*tokens[place + 1]):
                raise malformed(f"{value[:40]} has no value")
            _store(found[-1], word, [tokens[place + 1][0]])
            place += 2
        elif word.startswith("save_"):
            place += 1
        else:
            raise malformed(f"value {value[:40]!r} belongs to no tag")
    return found


def value_of(block: Block, *tags: str) -> str:
    """Find the first value that is set among some tags; "" if there is none."""
    for tag in tags:
        for value in block.get(tag, ()):
            if value not in UNSET:
                return value
    return ""


def number(value: str, what: str) -> float:
    """Read a number, with or without a standard uncertainty in brackets."""
    if _NUMBER.fullmatch(value) is None:
        raise malformed(f"{what} is {value[:40]!r}, not a number")
    return float(value.partition("(")[0])


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Give values and whether each was quoted."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind != "comment":
            yield match[kind].strip(), kind != "bare"


def _is_structural(value: str, quoted: bool) -> bool:
    lowered = value.lower()
    return not quoted and (lowered.startswith(("_", "data_", "save_")) or lowered in _RESERVED)


def _read_loop(tokens: list[tuple[str, bool]], place: int, block: Block) -> int:
    """Read the tags and values of a loop; the place behind it."""
    tags = []
    while place < len(tokens) and not tokens[place][1] and tokens[place][0].startswith("_"):
        tags.append(tokens[place][0].lower())
        place += 1
    start = place
    while place < len(tokens) and not _is_structural(*tokens[place]):
        place += 1
    values = [value for value, _ in tokens[start:place]]
    if not tags or len(values) % len(tags):
        raise malformed(
            f"a loop of {len(tags)} tags ({', '.join(tags)[:80]}) has {len(values)} values"
        )
    for column, tag in enumerate(tags):
        _store(block, tag, values[column :: len(tags)])
    return place


def _store(block: Block, tag: str, values: list[str]) -> None:
    tag = tag.replace(".", "_")
    if tag in block and block[tag] != values:
        raise malformed(f"{tag} is given twice in one block")
    block[tag] = values
