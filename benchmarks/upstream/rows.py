"""Rows of an upstream task, without any material by which the benchmarks judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.upstream.tasks import UpstreamTask
from moma_cl.readers.dispatch import read_rows
from moma_cl.structures.checks import check_crystal
from moma_cl.structures.crystals import Crystal, PackedCrystals
from moma_cl.structures.fingerprints import fingerprint, known_in, reduced_formula

HELD_OUT_PARTS = 20  # one of them stops the training, one is held out
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Materials:
    """What the benchmarks judge by: reduced formulas, and fingerprints."""

    formulas: frozenset[str]
    fingerprints: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UpstreamRows:
    """Rows of one task.

    Attributes
    ----------
    crystals
        The structures.
    values
        In the unit of the task, shape ``(n_rows,)``.
    formulas
        Reduced formula of each row.
    fingerprints
        Fingerprint of each row, shape ``(n_rows,)``.
    n_left_out
        Rows left out because a benchmark has the material.
    """

    crystals: PackedCrystals
    values: NDArray[np.float64]
    formulas: tuple[str, ...]
    fingerprints: NDArray[np.uint64]
    n_left_out: int


def benchmark_materials() -> Materials:
    """Find the materials of every benchmark, once; the answer is kept in ``build/``."""
    kept = Path("build/upstream/materials.json")
    if not kept.exists():
        files = sorted((DATA / "paper").glob("*.jsonl.gz"))
        crystals = [row.crystal for row in read_rows(files, strict=True) if row.crystal]
        found = {
            "formulas": sorted({reduced_formula(c.atomic_numbers) for c in crystals}),
            "fingerprints": sorted({fingerprint(c) for c in crystals}),
        }
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    found = json.loads(kept.read_text())
    return Materials(
        formulas=frozenset(found["formulas"]),
        fingerprints=np.array(found["fingerprints"], dtype=np.uint64),
    )


def upstream_rows(
    task: UpstreamTask, elements: frozenset[int], materials: Materials
) -> UpstreamRows:
    """Read what a module may be trained on.

    Parameters
    ----------
    task
        The task.
    elements
        Atomic numbers that the backbone knows.
    materials
        What must not be among the rows.

    Returns
    -------
    UpstreamRows
        At most ``task.max_rows`` rows, in the order of the files.
    """
    rows = list(_usable(task, elements))
    if task.one_formula:
        prints = np.array([fingerprint(crystal) for crystal, _ in rows], dtype=np.uint64)
        allowed = ~known_in(prints, materials.fingerprints)
    else:
        formulas = [reduced_formula(crystal.atomic_numbers) for crystal, _ in rows]
        allowed = np.array([formula not in materials.formulas for formula in formulas])
    chosen = np.flatnonzero(allowed)
    if len(chosen) > task.max_rows:
        sample = np.random.default_rng(0).choice(len(chosen), task.max_rows, replace=False)
        chosen = chosen[np.sort(sample)]
    crystals = [rows[row][0] for row in chosen]
    return UpstreamRows(
        crystals=PackedCrystals.pack(crystals),
        values=np.array([rows[row][1] for row in chosen]),
        formulas=tuple(reduced_formula(crystal.atomic_numbers) for crystal in crystals),
        fingerprints=np.array([fingerprint(crystal) for crystal in crystals], dtype=np.uint64),
        n_left_out=int((~allowed).sum()),
    )


def parts_of(rows: UpstreamRows) -> NDArray[np.int64]:
    """Divide rows by formula, or by structure where there is one formula.

    Parameters
    ----------
    rows
        The rows.

    Returns
    -------
    NDArray[np.int64]
        Train 0, validation 1, held-out 2, shape ``(n_rows,)``.
    """
    several = len(set(rows.formulas)) > HELD_OUT_PARTS
    keys = rows.formulas if several else map(str, rows.fingerprints)
    numbers = [int(hashlib.sha256(key.encode()).hexdigest(), 16) % HELD_OUT_PARTS for key in keys]
    return np.array([{0: 2, 1: 1}.get(number, 0) for number in numbers])


def _usable(task: UpstreamTask, elements: frozenset[int]) -> Iterator[tuple[Crystal, float]]:
    seen: set[str] = set()
    files = [DATA / "upstream" / f"{name}.jsonl.gz" for name in task.files]
    for row in read_rows(files, strict=True):
        value = row.values.get(task.column)
        if row.crystal is None or not isinstance(value, int | float) or row.id in seen:
            continue
        if not task.transform.defined_at(value) or row.crystal.n_atoms > task.max_atoms:
            continue
        if check_crystal(row.crystal, elements=elements) is not None:
            continue
        seen.add(row.id)
        yield row.crystal, value / row.crystal.n_atoms if task.per_atom else float(value)
