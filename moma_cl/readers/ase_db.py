"""Databases of ASE (SQLite), read as the plain tables they are.

ASE's own reader makes objects out of what it finds; here numbers are taken out and nothing else.
A database can be made to hang or fill the memory, so this runs in the process that can be killed.
It can also hold views and computed columns, whose rows are without end however small the file is:
only a table whose columns are all stored is read.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from moma_store.errors import InvalidInputError

_TABLE = "systems"
_COLUMNS = ("id", "numbers", "positions", "cell", "pbc", "energy", "key_value_pairs")
_QUERY = f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE} WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  constants


def read_batch(path: str, after: int, count: int, max_bytes: int) -> dict[str, Any]:
    """Read some rows; what is no database of ASE is refused.

    Parameters
    ----------
    path
        The database.
    after
        Rows up to this one are left out.
    count
        How many to read at most.
    max_bytes
        Longest cell that is read.

    Returns
    -------
    dict[str, Any]
        ``rows``: for each its ``row``, and either ``structure``, as the dictionary of ASE's
        ``Atoms``, and ``values``, or ``code`` and ``message``.
    """
    address = f"{Path(path).absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            _check_table(connection)
            connection.set_authorizer(_only_the_table)
            rows = connection.execute(_QUERY, (after, count)).fetchall()
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"not a database of ASE that can be read ({error})", code="invalid-input.unreadable"
        ) from error
    return {"rows": [_row(cells) for cells in rows]}


def _check_table(connection: sqlite3.Connection) -> None:
    """Refuse a view, a virtual table, computed columns, and rows that need sorting."""
    columns = connection.execute(f"PRAGMA table_xinfo({_TABLE})").fetchall()
    computed = [name for _, name, *_, hidden in columns if hidden and name in _COLUMNS]
    keys = [(name, declared.upper()) for _, name, declared, _, _, key, _ in columns if key]
    kinds = [
        str(kind)
        for _, name, kind, *_ in connection.execute("PRAGMA table_list")  # none before 3.37
        if name.lower() == _TABLE and kind != "table"
    ]
    if kinds:
        raise sqlite3.DatabaseError(f"{_TABLE!r} is a {kinds[0]}; expected a table")
    if computed:
        raise sqlite3.DatabaseError(f"column {computed[0]!r} is computed; expected a stored one")
    if columns and keys != [("id", "INTEGER")]:
        raise sqlite3.DatabaseError(f"the primary key of {_TABLE!r} is not the integer 'id'")


def _only_the_table(
    action: int, table: str | None, _column: str | None, _database: str | None, within: str | None
) -> int:
    """Let a query read the table, and neither other tables, views, functions nor recursion."""
    reads = action == sqlite3.SQLITE_READ and (table or "").lower() == _TABLE and within is None
    selects = action == sqlite3.SQLITE_SELECT and within is None
    return sqlite3.SQLITE_OK if reads or selects else sqlite3.SQLITE_DENY


def _row(cells: Sequence[Any]) -> dict[str, Any]:
    """Read one row; what is wrong with it is its own affair."""
    number, numbers, positions, cell, pbc, energy, pairs = cells
    row = number if isinstance(number, int) else 0
    try:
        structure = _structure(numbers, positions, cell, pbc)
        return {"row": row, "structure": structure, "values": _values(energy, pairs)}
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        return {
            "row": row,
            "code": "malformed-structure",
            "message": f"the row does not hold what ASE writes ({reason})",
        }


def _structure(numbers: bytes, positions: bytes, cell: bytes | None, pbc: object) -> dict[str, Any]:
    atomic_numbers = np.frombuffer(numbers, dtype="<i4")
    coordinates = np.frombuffer(positions, dtype="<f8").reshape(len(atomic_numbers), 3)
    vectors = np.frombuffer(cell or bytes(72), dtype="<f8").reshape(3, 3)
    bits = pbc if isinstance(pbc, int) else 0b111
    return {
        "numbers": atomic_numbers.tolist(),
        "positions": coordinates.tolist(),
        "cell": vectors.tolist(),
        "pbc": [bool(bits >> axis & 1) for axis in range(3)],
    }


def _values(energy: object, pairs: str | None) -> dict[str, object]:
    """Key-value pairs that are plain, and the energy."""
    document = json.loads(pairs or "{}")
    if not isinstance(document, dict):
        raise ValueError("key-value pairs that are no object")  # noqa: TRY004  one kind for all
    values: dict[str, object] = {
        name: value for name, value in document.items() if isinstance(value, str | float | int)
    }
    if isinstance(energy, float) and math.isfinite(energy):
        values.setdefault("energy", energy)
    return values
