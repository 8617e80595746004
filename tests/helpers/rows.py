"""Rows with a structure and targets, and files of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

ALKALI = ("Li", "Na", "K", "Rb", "Cs")
ALKALINE = ("Mg", "Ca", "Sr", "Ba")
HALOGENS = ("F", "Cl", "Br", "I")
CHALCOGENS = ("O", "S", "Se", "Te")
RADII = dict(
    zip((*ALKALI, *ALKALINE, *HALOGENS, *CHALCOGENS), np.linspace(0.7, 2.2, 17), strict=True)
)
PAIRS = [(cation, anion) for cation in ALKALI for anion in HALOGENS] + [
    (cation, anion) for cation in ALKALINE for anion in CHALCOGENS
]


def rocksalt(cation: str, anion: str, strain: float = 0.0) -> dict[str, object]:
    """The primitive cell of a rocksalt, its lattice constant made from made-up radii."""
    half = (RADII[cation] + RADII[anion]) * (1.0 + strain)
    return {
        "lattice": [[0.0, half, half], [half, 0.0, half], [half, half, 0.0]],
        "species": [cation, anion],
        "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
    }


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
