"""Rows from memory: structures, tables and documents that a program holds, read like files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from moma_cl.readers.rows import RawRow, Reading, check_unique, from_document, take_id
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.molecules import Molecule, structure_of
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

Data: TypeAlias = "str | Path | Mapping[str, Any] | pd.DataFrame | Iterable[Any]"
"""What rows can be read from: the path of a file or folder, or several; or, from memory, pymatgen
structures, ASE atoms, texts of CIF or POSCAR files, rows as dictionaries with a structure in one
column, or a pandas table with such a column."""

LABEL = "memory"
"""Stands for the file in the source of a row that no file holds."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRows:
    """Rows that a program holds.

    Attributes
    ----------
    items
        Structures, texts of structure files, or rows as dictionaries.
    """

    items: tuple[Any, ...]

    def rows(self, reading: Reading) -> Iterator[RawRow]:
        """Divide each item into id, structure and other columns, in order."""
        for number, item in enumerate(self.items, start=1):
            try:
                yield _row(item, str(number), reading)
            except InvalidInputError as error:
                yield RawRow(line=str(number), error=error)

    def origin(self) -> dict[str, str]:
        """Say where the rows came from, for a segment's record: name and digest of the content."""
        hashed = hashlib.sha256()
        for row in self.rows(Reading()):
            hashed.update(_canonical(row).encode())
        return {"name": LABEL, "sha256": hashed.hexdigest()}


Sources: TypeAlias = Sequence[Path] | MemoryRows
"""Files and folders, or rows from memory."""


def sources_of(data: Data) -> Sources:
    """Tell paths from rows in memory; a mixture of both is refused."""
    if isinstance(data, (str, Path)):
        return [Path(data)] if _is_path(data) else MemoryRows((data,))
    if isinstance(data, MemoryRows):
        return data
    if _is_table(data):
        return MemoryRows(tuple(_records(data)))
    if isinstance(data, Mapping) or _is_pymatgen(data) or _is_ase(data):
        return MemoryRows((data,))
    if not isinstance(data, Iterable):
        raise InvalidInputError(
            f"data of type {type(data).__name__} cannot be read; expected paths, structures, rows "
            "as dictionaries or a pandas table",
            code="invalid-input.unknown-data",
        )
    items = tuple(data)
    paths = [Path(item) for item in items if _is_path(item)]
    if paths and len(paths) < len(items):
        raise InvalidInputError(
            f"{len(paths)} of {len(items)} data are paths of files and the others are not; give "
            "only paths, or only structures and rows",
            code="invalid-input.unknown-data",
        )
    return paths or MemoryRows(items)


def _is_path(item: object) -> bool:
    """Tell a path from the content of a file: a text of several lines names no file."""
    return isinstance(item, Path) or (isinstance(item, str) and "\n" not in item)


# The classes are told by what they can do, so that nothing is imported to tell them.
def _is_table(item: object) -> bool:
    return hasattr(item, "columns") and hasattr(item, "itertuples")


def _is_pymatgen(item: object) -> bool:
    return hasattr(item, "as_dict") and hasattr(item, "sites")


def _is_ase(item: object) -> bool:
    return hasattr(item, "get_atomic_numbers") and hasattr(item, "get_positions")


def _records(table: Any) -> Iterator[dict[str, Any]]:
    """Give the rows of a pandas table; an index that somebody chose is the id of its rows."""
    names = [str(name) for name in table.columns]
    check_unique(names, "the table")
    for label, *cells in table.itertuples(index=True, name=None):
        row = dict(zip(names, cells, strict=True))
        if type(table.index).__name__ != "RangeIndex":
            row.setdefault("id", str(label))
        yield row


def _row(item: Any, line: str, reading: Reading) -> RawRow:
    if isinstance(item, Mapping):
        document = {str(name): _plain(value) for name, value in item.items()}
        row = from_document(document, reading, line)
        return replace(row, structure=_structure(row.structure))
    if isinstance(item, str):
        return RawRow(line=line, structure=item)
    columns = getattr(item, "info" if _is_ase(item) else "properties", None) or {}
    values = {str(name): _plain(value) for name, value in columns.items()}
    given_id = take_id(values, reading)
    return RawRow(line=line, given_id=given_id, structure=_structure(item), values=values)


def _structure(item: Any) -> Any:
    """Give a structure in a form that every reader gives; of another kind as it is."""
    if _is_pymatgen(item):
        return item.as_dict()
    if _is_ase(item):
        numbers = np.asarray(item.get_atomic_numbers(), dtype=np.int64)
        return structure_of(numbers, item.get_positions(), np.asarray(item.cell), item.pbc)
    return item


def _plain(value: Any) -> Any:
    """Turn numbers of numpy into Python's, and what pandas has for a missing value into none."""
    if isinstance(value, np.generic):
        value = value.item()
    missing = (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"  # noqa: PLR0124  NaN
    return None if missing else value


def _canonical(row: RawRow) -> str:
    """Write a row as text that is the same for the same content."""
    structure = row.structure
    if isinstance(structure, (Crystal, Molecule)):
        numbers = structure.atomic_numbers.tolist()
        arrays = [
            getattr(structure, name, None)
            for name in ("lattice", "frac_coords", "positions", "cell")
        ]
        structure = [numbers, *(None if array is None else array.tolist() for array in arrays)]
    content = [row.given_id, structure, dict(row.values)]
    return json.dumps(content, sort_keys=True, default=_in_full)


def _in_full(value: object) -> object:
    """Write what JSON lacks: all of an array, since its text leaves its middle out."""
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
