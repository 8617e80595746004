"""Databases of ASE (SQLite), read as the plain tables they are.

ASE's own reader makes objects out of what it finds; here numbers are taken out and nothing else.
A database can be made to hang or fill the memory, so this runs in the process that can be killed.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moma_store.errors import InvalidInputError

_QUERY = (
    "SELECT id, numbers, positions, cell, energy, key_value_pairs FROM systems "
    "WHERE id > ? ORDER BY id LIMIT ?"
)


def read_batch(path: str, after: int, count: int, max_bytes: int) -> dict[str, Any]:
    """Read some rows.

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
        ``rows``: for each its ``row``, and either ``atomic_numbers``, ``positions``, ``cell`` and
        ``values``, or ``code`` and ``message``.

    Raises
    ------
    InvalidInputError
        It is no database of ASE.
    """
    address = f"{Path(path).absolute().as_uri()}?mode=ro"
    try:
        with _Connection(address, max_bytes) as connection:
            found = connection.execute(_QUERY, (after, count)).fetchall()
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"not a database of ASE that can be read ({error})", code="invalid-input.unreadable"
        ) from error
    return {"rows": [_row(cells) for cells in found]}


class _Connection:
    """A connection that trusts nothing, and is closed at the end."""

    def __init__(self, address: str, max_bytes: int) -> None:
        self._connection = sqlite3.connect(address, uri=True)
        self._max_bytes = max_bytes

    def __enter__(self) -> sqlite3.Connection:
        connection = self._connection
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._max_bytes)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _row(cells: Sequence[Any]) -> dict[str, Any]:
    """Read one row; what is wrong with it is its own affair."""
    number = cells[0] if isinstance(cells[0], int) else 0
    try:
        return {"row": number, **_structure(cells[1], cells[2], cells[3]), "values": _values(cells)}
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        return {
            "row": number,
            "code": "malformed-structure",
            "message": f"the row does not hold what ASE writes ({reason})",
        }


def _structure(numbers: bytes, positions: bytes, cell: bytes | None) -> dict[str, Any]:
    atomic_numbers = np.frombuffer(numbers, dtype="<i4")
    coordinates = np.frombuffer(positions, dtype="<f8").reshape(len(atomic_numbers), 3)
    vectors = np.frombuffer(cell or bytes(72), dtype="<f8").reshape(3, 3)
    return {
        "atomic_numbers": atomic_numbers.tolist(),
        "positions": coordinates.tolist(),
        "cell": vectors.tolist(),
    }


def _values(cells: Sequence[Any]) -> dict[str, object]:
    """Key-value pairs that are plain, and the energy."""
    pairs = json.loads(cells[5] or "{}")
    if not isinstance(pairs, dict):
        raise ValueError("key-value pairs that are no object")  # noqa: TRY004  one kind for all
    values: dict[str, object] = {
        name: value for name, value in pairs.items() if isinstance(value, str | float | int)
    }
    if isinstance(cells[4], float) and math.isfinite(cells[4]):
        values.setdefault("energy", cells[4])
    return values
