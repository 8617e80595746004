"""What the process that parses CIF and POSCAR text and reads databases does.

Its owner is `moma_cl.readers.text_parser`. Requests and replies are JSON.
"""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from moma_cl.core.worker_process import Answer
from moma_cl.readers.ase_db import read_batch
from moma_cl.readers.cif.space_groups import all_settings
from moma_cl.readers.cif.structure import read_cif
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import atomic_number
from moma_store.errors import InvalidInputError

NOTHING = "nothing"
"""Format of a request that is only a question whether the process is ready."""

DATABASE = "ase-db"
"""Format of a request for rows of a database."""

OUT_OF_MEMORY = "parse-memory"
"""Code of a reply after which the process must not be used again."""

_ISOTOPE = re.compile(r"[DT](?![A-Za-z])")


def prepare(parse_seconds: float, parse_bytes: int) -> Answer:
    """Import the parsers, limit the memory, and get ready to answer."""
    import pymatgen.io.vasp.inputs  # noqa: F401  imported for its effect, as the ones below
    import spglib  # noqa: F401

    all_settings()

    _limit_memory(parse_bytes)

    def answer(request: bytes) -> Iterator[bytes]:
        # Ends a parser that hangs although its owner was killed; no handler, for C code runs none.
        signal.alarm(int(parse_seconds) + 5)
        yield json.dumps(_reply(json.loads(request))).encode()
        signal.alarm(0)

    return answer


def _limit_memory(extra_bytes: int) -> None:
    """Limit the address space to what is in use and some more, where the system can."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    import resource

    in_use = int(statm.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = in_use + extra_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reply(request: dict[str, Any]) -> dict[str, object]:
    """Parse one text; whatever goes wrong is the status of that text."""
    try:
        if request["format"] == NOTHING:
            return {}
        if request["format"] == DATABASE:
            return read_batch(**{name: request[name] for name in request if name != "format"})
        text, is_cif = request["text"], request["format"] == "cif"
        return _as_reply(read_cif(text) if is_cif else _parse_poscar(text))
    except MemoryError:
        return {"code": OUT_OF_MEMORY, "message": "the parser ran out of memory"}
    except InvalidInputError as error:
        return {"code": error.code, "message": error.message}
    except Exception as error:  # noqa: BLE001  the parsers raise anything on malformed text
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {
            "code": "parse-error",
            "message": f"not a readable {request['format'].upper()} file ({reason})",
        }


def _parse_poscar(text: str) -> Crystal:
    from pymatgen.io.vasp.inputs import Poscar

    lines = text.split("\n")
    for label in " ".join(lines[5:6]).split():
        if _ISOTOPE.match(label):  # the parser takes D for hydrogen; T may be Si or Al in a zeolite
            atomic_number(label[0])
    factors = _scaling("".join(lines[1:2]))
    lines[1:2] = ["1.0"]
    try:
        poscar = Poscar.from_str("\n".join(lines), read_velocities=False)
    except ValueError as error:
        if "".join("".join(lines[5:6]).split()).isdigit():  # VASP 4, and more blocks than elements
            raise _missing_elements() from error
        raise
    if not poscar.true_names:
        raise _missing_elements()
    structure = poscar.structure
    _check_blocks(lines, [specie.symbol for specie in structure.species])
    if factors[0] < 0:
        factors = [(-factors[0] / structure.volume) ** (1 / 3)]
    names = [getattr(specie, "name", specie.symbol) for specie in structure.species]
    return Crystal(
        lattice=structure.lattice.matrix * factors,
        atomic_numbers=np.array([atomic_number(name) for name in names], dtype=np.int64),
        # Cartesian coordinates take the same factors as the cell, so fractional ones stay.
        frac_coords=structure.frac_coords,
    )


def _check_blocks(lines: list[str], symbols: list[str]) -> None:
    """Refuse elements, numbers of atoms and positions that do not fit each other.

    The parser takes as many as it can use, and the words after positions for elements where no
    line names them.
    """
    words = [re.split("[!#]", line)[0].split() for line in lines]
    start = next(i for i in range(5, len(words)) if words[i] and words[i][0].isdigit())
    height = max(1, start - 5)  # lines of elements, and as many of numbers
    names = [*chain.from_iterable(words[5:start])]
    numbers = chain.from_iterable(words[start : start + height])
    counts = [int(word) for word in takewhile(str.isdigit, numbers)]
    if names and len(names) != len(counts):
        raise _contradiction(f"names {len(names)} elements, but has {len(counts)} numbers of atoms")
    selective = lines[start + height].strip()[:1] in {"s", "S"}
    first = start + height + 1 + selective
    last = first + sum(counts)
    if len(words) > last and _are_numbers(words[last][:3]):
        raise _contradiction(f"lists more positions than its {sum(counts)} atoms")
    if names:
        return
    flags = words[first][3:6]
    if not selective and len(flags) == 3 and {*flags} <= {"T", "F"}:  # no tritium or fluorine
        raise _missing_elements()
    left = iter(symbols)
    if any(len({*islice(left, count)}) > 1 for count in counts):
        raise _contradiction("counts the atoms of several elements together")


def _are_numbers(words: list[str]) -> bool:
    try:
        return len([float(word) for word in words]) == 3
    except ValueError:
        return False


def _contradiction(what: str) -> InvalidInputError:
    return InvalidInputError(f"the POSCAR {what}: correct it", code="invalid-input.parse-error")


def _missing_elements() -> InvalidInputError:
    return InvalidInputError(
        "the POSCAR does not name its elements: add a line with their symbols before the line "
        "with the numbers of atoms",
        code="invalid-input.missing-elements",
    )


def _scaling(line: str) -> list[float]:
    """Read the second line: a factor, minus the volume of the cell in Å³, or x, y and z's factors.

    As the VASP wiki describes POSCAR.
    """
    words = re.split("[!#]", line)[0].split()
    try:
        factors = [float(word) for word in words]
    except ValueError:
        factors = []
    known = len(factors) in {1, 3} and all(map(math.isfinite, factors)) and all(factors)
    if not known or (len(factors) == 3 and min(factors) < 0):
        raise InvalidInputError(
            f"the second line of the POSCAR is {line.strip()[:40]!r}; expected one scaling factor, "
            "minus the volume of the cell (Å³), or three positive factors",
            code="invalid-input.parse-error",
        )
    return factors


def _as_reply(crystal: Crystal) -> dict[str, object]:
    return {
        "lattice": crystal.lattice.tolist(),
        "atomic_numbers": crystal.atomic_numbers.tolist(),
        "frac_coords": crystal.frac_coords.tolist(),
    }
