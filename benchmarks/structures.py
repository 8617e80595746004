"""The structures that benchmarks of backbones measure with: real and made ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from moma_cl.structures.crystals import Crystal

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def sample(n_structures: int) -> list[dict[str, Any]]:
    """Take structures from all files of the data, as many from each and evenly spaced."""
    files = sorted(DATA.glob("*/*.jsonl.gz"))
    if not files:
        raise SystemExit(f"no data under {DATA}: this benchmark reads real structures")
    share = -(-n_structures // len(files))
    chosen = [structure for path in files for structure in evenly(path, share)]
    return chosen[:n_structures]


def evenly(path: Path, count: int) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        rows = lines.readlines()
    for index in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int):
        yield json.loads(rows[index])["structure"]


@cache
def file(name: str, count: int) -> tuple[dict[str, Any], ...]:
    return tuple(evenly(DATA / f"{name}.jsonl.gz", count))


def shuffled(name: str, count: int) -> list[dict[str, Any]]:
    structures = file(name, count)
    order = np.random.default_rng(0).permutation(len(structures))
    return [structures[index] for index in order]


def crystal_of(structure: dict[str, Any]) -> Crystal:
    """Turn a structure of the data into arrays."""
    from pymatgen.core import Element

    return Crystal(
        lattice=np.array(structure["lattice"], dtype=np.float64),
        atomic_numbers=np.array([Element(symbol).Z for symbol in structure["species"]]),
        frac_coords=np.array(structure["frac_coords"], dtype=np.float64),
    )


def pymatgen(one: dict[str, Any]) -> Any:
    from pymatgen.core import Structure

    return Structure(one["lattice"], one["species"], one["frac_coords"])


def crystal(structure: Any) -> Crystal:
    return Crystal(
        lattice=structure.lattice.matrix,
        atomic_numbers=np.array(structure.atomic_numbers),
        frac_coords=structure.frac_coords,
    )


def triclinic(n_atoms: int, seed: int) -> Crystal:
    """Atoms in a random triclinic cell, 20 Å³ each and at least 1.5 Å apart."""
    rng = np.random.default_rng(seed)
    lattice = (20.0 * n_atoms) ** (1 / 3) * (np.eye(3) + rng.normal(scale=0.08, size=(3, 3)))
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    sites = np.zeros((0, 3))
    while len(sites) < n_atoms:
        candidate = rng.random(3)
        apart = ((candidate - sites)[:, None] + images) @ lattice
        if np.linalg.norm(apart, axis=-1).min(initial=9.0) > 1.5:
            sites = np.vstack([sites, candidate])
    return Crystal(lattice=lattice, atomic_numbers=rng.integers(1, 84, n_atoms), frac_coords=sites)
