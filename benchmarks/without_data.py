"""Answers without data: errors and coverage on held-out materials, time of the first answer, bytes.

The modules that ship were calibrated on the held-out rows by which their errors are told, so those
rows cannot judge the coverage of their intervals. Two other measurements do: rows of held-out
formulas that the sample of a training had no room for, which nothing has seen; and the held-out
rows, half of which calibrate while the other half judges, for many halves.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

import moma_cl
from benchmarks.measuring import at_most
from benchmarks.upstream.rows import UpstreamRows, benchmark_materials, parts_of, upstream_rows
from benchmarks.upstream.tasks import TASKS, UpstreamTask
from moma_cl.backbones.registry import backbone_class
from moma_cl.predictors.intervals import conformal_quantile
from moma_cl.starter.modules import FOLDER, archives
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS
from moma_cl.structures.fingerprints import known_in

NAMES = ("mp_formation_energy", "mp_band_gap_pbe", "mp_log_bulk_modulus")
OWN_ERRORS = {  # of the heads that were trained with the modules, on their held-out rows
    "mp_formation_energy": 0.0342,
    "mp_band_gap_pbe": 0.232,
    "mp_log_bulk_modulus": 0.0402,
}
LEVEL = 0.9
HALVES = 400
MOST_FRESH = 1000
REPEATS = 5
HELD_OUT = 2
MOST_SECONDS = 5.0
MOST_BYTES = 40e6


def run() -> list[dict[str, Any]]:
    """Measure each of the three modules, then the package."""
    rows = [row for task in TASKS if task.name in NAMES for row in _module(task)]
    return [*rows, *_cold(), _bytes()]


def _module(task: UpstreamTask) -> list[dict[str, Any]]:
    everything = replace(task, max_rows=10**9)
    elements, materials = backbone_class("chgnet").elements, benchmark_materials()
    sampled, rows = (upstream_rows(one, elements, materials) for one in (task, everything))
    used = known_in(rows.fingerprints, sampled.fingerprints)
    held_out = np.flatnonzero((parts_of(rows) == HELD_OUT) & used)
    fresh = np.flatnonzero((parts_of(rows) == HELD_OUT) & ~used)[:MOST_FRESH]
    own = OWN_ERRORS[task.name]
    errors, spans, _ = _asked(task, rows, held_out)
    table = [
        at_most(
            f"{task.name}: error, {len(held_out)} held-out rows",
            float(errors.mean()),
            own,
            task.unit,
            float(errors.mean()) / own,
            1.05,
        ),
        _coverage(f"{task.name}: coverage, halves of them", _by_halves(errors / spans), LEVEL),
    ]
    if len(fresh) >= 100:
        errors, _, covered = _asked(task, rows, fresh)
        name = f"{task.name}: {{}}, {len(fresh)} rows never used"
        mean = float(errors.mean())
        table += [
            at_most(name.format("error"), mean, own, task.unit, mean / own, None),
            _coverage(name.format("coverage"), float(covered.mean()), LEVEL),
        ]
    return table


def _asked(
    task: UpstreamTask, rows: UpstreamRows, places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Give errors and half-widths as the module learned the targets, and what intervals cover."""
    structures = [_structure(rows.crystals[place]) for place in places]
    answers = moma_cl.predict(structures, [task.name], level=LEVEL, device="cpu")
    assert all(row.status == "ok" for row in answers)
    ends = np.array([[row.value, row.lower, row.upper] for row in answers], dtype=np.float64)
    targets = rows.values[places]
    if task.unit.startswith("log10("):
        ends = np.log10(ends)
    values, lower, upper = ends.T
    # a bound of the property may have cut the lower end off
    spans = np.maximum(upper - values, values - lower)
    covered = (lower <= targets) & (targets <= upper)
    return np.abs(values - targets), spans, covered


def _by_halves(scores: NDArray[np.float64]) -> float:
    """Calibrate on half of the scores and count how many of the others are covered."""
    shares = []
    for seed in range(HALVES):
        order = np.random.default_rng(seed).permutation(len(scores))
        first, second = np.split(scores[order], [len(scores) // 2])
        shares.append(np.mean(second <= conformal_quantile(first, LEVEL)))
    return float(np.mean(shares))


def _structure(crystal: Crystal) -> Structure:
    species = [SYMBOLS[number] for number in crystal.atomic_numbers.tolist()]
    return Structure(Lattice(crystal.lattice), species, crystal.frac_coords)


def _coverage(name: str, share: float, level: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": share,
        "theirs": level,
        "unit": "of rows",
        "ratio": share / level,
        "bar": ">= 0.97 x",
        "holds": share >= 0.97 * level,
    }


def _cold() -> list[dict[str, Any]]:
    """Ask for two properties of one CIF file in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "NaCl.cif"
        lattice = Lattice.cubic(5.64)
        Structure.from_spacegroup("Fm-3m", lattice, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(
            str(file)
        )
        ask = ["predict", "--property", "band_gap,formation_energy", str(file), "--device", "cpu"]
        seconds, computing = [], []
        for _ in range(REPEATS):
            start, before = time.perf_counter(), _processor_time()
            command = [sys.executable, "-m", "moma_cli", *ask]
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
            computing.append(_processor_time() - before)
    name = "predict --property, one CIF, two properties, cold"
    busy = median(computing)
    return [
        at_most(name, median(seconds), None, "s", median(seconds), MOST_SECONDS),
        at_most("the same, processor time", busy, None, "s", busy, None),
    ]


def _processor_time() -> float:
    """Seconds that the processes started so far have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _bytes() -> dict[str, Any]:
    size = float(sum(path.stat().st_size for path in archives()))
    return at_most(f"archives in {FOLDER.name}", size, None, "bytes", size, MOST_BYTES)
