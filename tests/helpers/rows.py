"""Rows with a structure and targets, and files of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tests.helpers.crystals import PAIRS, RADII, rocksalt


def made_up_rows(n_rows: int, *, first: int = 0) -> list[dict[str, object]]:
    """Rocksalts under various strains, with targets that depend on size and strain."""
    rows = []
    for index in range(first, first + n_rows):
        cation, anion = PAIRS[index % len(PAIRS)]
        strain = 0.01 * (index // len(PAIRS))
        size = (RADII[cation] + RADII[anion]) * (1.0 + strain)
        rows.append(
            {
                "id": f"row-{index}",
                "structure": rocksalt(cation, anion, strain),
                "energy": -3.0 / size + 0.1 * RADII[anion],
                "modulus": float(np.exp(4.0 - size)),
                "gap": RADII[cation] / RADII[anion],
            }
        )
    return rows


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """The text of a JSON-lines file."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write rows as JSON lines and give the path."""
    path.write_text(json_lines(rows))
    return path
