"""Frames of XYZ files, extended or plain.

A frame is a line with the number of atoms, a line of properties (``Lattice="…" Properties=…
energy=…``) or a comment, and a line for each atom. ASE, QUIP and OVITO write this. ASE's own
reader takes four times as long, and takes the words of a comment for properties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from moma_cl.readers.structure_json import numeric
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS, atomic_number
from moma_cl.structures.molecules import Molecule, structure_of
from moma_store.errors import InvalidInputError

# Key, then a value in quotes or braces, or up to the next space; a key alone is true. What is
# never closed goes up to the end, else its end would be searched anew from every key.
_PAIR = re.compile(
    r"""(?P<key>[^\s='"{}]+)(?:\s*=\s*(?:"(?P<double>[^"]*)"?|'(?P<single>[^']*)'?"""
    r"""|\{(?P<braced>[^}]*)\}?|(?P<bare>[^\s'"{}]\S*)))?"""
)
_SPELLINGS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_PLAIN_LAYOUT = "species:S:1:pos:R:3"
_MAX_COLUMNS = 1000
_LOGICAL = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


@dataclass(slots=True, kw_only=True)
class Frame:
    """The lines of one frame.

    Attributes
    ----------
    line
        Number of its first line, from one.
    comment
        Its second line.
    atoms
        The lines of its atoms.
    error
        Why it is none.
    """

    line: int
    comment: str = ""
    atoms: list[str] = field(default_factory=list)
    error: InvalidInputError | None = None


def frames(lines: Iterator[str], limit: int) -> Iterator[Frame]:
    """Divide a file into frames.

    Parameters
    ----------
    lines
        Its lines.
    limit
        Characters that one frame may have.

    Yields
    ------
    Frame
        Frames, and one with an error for each stretch of lines that belongs to none.
    """
    number, lost = 0, False
    while (line := next(lines, None)) is not None:
        number += 1
        count = line.strip()
        if not count:
            continue
        if not (count.isascii() and count.isdigit() and len(count) < 10):
            if not lost:
                yield Frame(line=number, error=_malformed(f"{count[:40]!r}", "a number of atoms"))
            lost = True
            continue
        lost = False
        frame = Frame(line=number)
        number += _fill(frame, lines, int(count), limit)
        yield frame


def _fill(frame: Frame, lines: Iterator[str], count: int, limit: int) -> int:
    """Take the lines of a frame; the number taken."""
    comment = next(lines, None)
    if comment is None:
        frame.error = _malformed("the end of the file", f"{count:,} atoms")
        return 0
    frame.comment, size = comment, len(comment)
    for n_atoms in range(count):
        line = next(lines, None)
        if line is None or not line.strip():
            frame.error = _malformed(f"{n_atoms:,} atoms", f"{count:,}")
            return n_atoms + 1 + (line is not None)
        size += len(line)
        if size > limit:
            frame.error = InvalidInputError(
                f"the frame has more than {limit:,} characters", code="invalid-input.too-long"
            )
            return n_atoms + 2
        frame.atoms.append(line)
    return count + 1


def read_frame(frame: Frame) -> tuple[Crystal | Molecule, dict[str, object]]:
    """Read the structure of a frame, a molecule where a lattice vector is lacking, and its values.

    The values are the other properties of the second line. A malformed frame is refused.
    """
    if frame.error is not None:
        raise frame.error
    values = _properties(frame.comment)
    columns = _columns(str(values.pop("Properties", _PLAIN_LAYOUT)))
    cells = [line.split() for line in frame.atoms]
    width = max(stop for _, stop in columns.values())
    if any(len(row) < width for row in cells):
        short = next(place for place, row in enumerate(cells) if len(row) < width)
        raise _malformed(f"{len(cells[short])} columns in atom {short + 1}", f"{width}")
    species = columns["species" if "species" in columns else "Z"][0]
    numbers = np.array([_number(row[species]) for row in cells], dtype=np.int64)
    start, stop = columns["pos"]
    positions = numeric([row[start:stop] for row in cells], "positions", shape=(len(cells), 3))
    lattice, pbc = values.pop("Lattice", None), values.pop("pbc", "T")
    if lattice is None:
        return structure_of(numbers, positions, np.zeros((3, 3))), values
    cell = numeric(str(lattice).split(), "the lattice", shape=(9,)).reshape(3, 3)
    periodic = None if pbc in {"T", "T T T"} else _periodic(pbc)
    return structure_of(numbers, positions, cell, periodic), values


def _malformed(problem: str, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"not a frame of an XYZ file: got {problem}, expected {expected}",
        code="invalid-input.malformed-structure",
    )


def _properties(comment: str) -> dict[str, object]:
    """Read the second line; one that assigns nothing is a comment."""
    if "=" not in comment:
        return {}
    properties: dict[str, object] = {}
    for match in _PAIR.finditer(comment):
        quoted = match["double"] or match["single"] or match["braced"]
        text = quoted if quoted is not None else match["bare"]
        name = _SPELLINGS.get(match["key"].lower(), match["key"])
        value = True if text is None else _value(text)
        if properties.setdefault(name, value) != value:
            raise _malformed(f"the key {name[:40]!r} with two values", "each key once")
    return properties


def _value(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _periodic(pbc: object) -> list[bool]:
    """Read in which directions a frame is periodic."""
    words = [f"{pbc:g}"] if isinstance(pbc, float) else str(pbc).lower().split()
    if len(words) not in {1, 3} or any(word not in _LOGICAL for word in words):
        raise _malformed(f"pbc={str(pbc)[:40]!r}", "T or F for each direction")
    return [_LOGICAL[word] for word in words] * (3 // len(words))


def _columns(layout: str) -> Mapping[str, tuple[int, int]]:
    """Columns of each property of atoms: the first, and the one after the last."""
    parts = layout.split(":")
    if len(parts) % 3 or any(not (n.isascii() and n.isdigit()) for n in parts[2::3]):
        raise _malformed(f"Properties={layout[:60]}", "name:type:number for each column")
    columns: dict[str, tuple[int, int]] = {}
    start = 0
    for name, width in zip(parts[::3], parts[2::3], strict=True):
        if name in columns:
            raise _malformed(f"Properties={layout[:60]}", "each column once")
        columns[name] = (start, start + int(width[:9]))
        start = columns[name][1]
    first, last = columns.get("pos", (0, 0))
    if start > _MAX_COLUMNS or not columns.keys() & {"species", "Z"} or last - first != 3:
        raise _malformed(f"Properties={layout[:60]}", "columns species or Z, and pos:R:3")
    return columns


def _number(name: str) -> int:
    """Read an element: its symbol or atomic number."""
    if name.isascii() and name.isdigit() and 0 < int(name[:9]) < len(SYMBOLS):
        return int(name)
    return atomic_number(name)
