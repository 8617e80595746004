"""Structures that pymatgen, ASE and gemmi write, read back: the same crystal or a refusal.

``python -m benchmarks round_trips``. ``MOMA_CL_TRIPS`` sets how many structures are written
(10,000): nine of ten from the data beside the repository, evenly, and one made of a random space
group. A run goes on where it stopped: the counts are in ``results/round_trips_progress.json``.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.crystal_files import DATABASES, FILES, Sample, crystal_of
from benchmarks.measuring import at_most, row
from moma_cl.arraytypes import FloatArray
from moma_cl.readers.dispatch import Limits, Reader, Reading, Row
from moma_cl.readers.text_parser import StructureParser
from moma_cl.structures.checks import check_crystal
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS
from moma_cl.structures.fingerprints import fingerprint, known_in

TARGET = 10_000
BATCH = 50
DATA = Path(__file__).parents[2] / "shared" / "data"
PROGRESS = Path(__file__).parent / "results" / "round_trips_progress.json"
CUTOFF = 5.0  # Å, of the distances that are compared
SHIFT = 0.005  # Å, by which a distance may differ: files have five decimals of lattice vectors
OUTCOMES = ("same", "refused", "different")
GENERATED = 10  # each tenth structure is made


def structures(count: int) -> Iterator[Any]:
    """Give structures of pymatgen, the same in every run: of the data, and made ones."""
    records = _records(count - count // GENERATED)
    rng = np.random.default_rng(17)
    for number in range(count):
        structure = None if number % GENERATED == GENERATED - 1 else next(records, None)
        yield decorated(structure or made(rng), number)


def _records(count: int) -> Iterator[Any]:
    """Take structures from all files of the data, evenly, and in an order that mixes them."""
    from pymatgen.core import Structure

    lines: list[bytes] = []
    for file in sorted(DATA.glob("*/*.jsonl.gz")):
        with gzip.open(file) as stream:
            lines += stream.readlines()
    places = np.linspace(0, len(lines), min(count, len(lines)), endpoint=False).astype(int)
    for place in np.random.default_rng(17).permutation(places):
        record = json.loads(lines[place])["structure"]
        yield Structure(record["lattice"], record["species"], record["frac_coords"])


def made(rng: np.random.Generator) -> Any:
    """Make a crystal of a random space group, with atoms on special and general positions."""
    from pymatgen.core import Structure
    from pymatgen.symmetry.groups import SpaceGroup

    special = np.array([0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75])
    while True:
        group = SpaceGroup.from_int_number(int(rng.integers(1, 231)))
        lattice = _lattice(group.crystal_system, rng)
        n_sites = int(rng.integers(1, 4))
        elements = rng.choice(np.arange(1, 84), n_sites, replace=False).tolist()
        free = rng.random((n_sites, 3)) < 0.4
        sites = np.where(free, rng.random((n_sites, 3)), rng.choice(special, (n_sites, 3)))
        try:
            structure = Structure.from_spacegroup(group.int_number, lattice, elements, sites)
        except ValueError:  # a cell that is none, or does not have the symmetry
            continue
        if len(structure) <= 200 and structure.is_valid(tol=1.0):
            return structure


def _lattice(crystal_system: str, rng: np.random.Generator) -> Any:
    from pymatgen.core import Lattice

    a, b, c = rng.uniform(4.0, 11.0, 3)
    alpha, beta, gamma = rng.uniform(75.0, 115.0, 3)
    if crystal_system in {"trigonal", "hexagonal"}:
        return Lattice.hexagonal(a, c)
    if crystal_system in {"tetragonal", "cubic"}:
        return Lattice.tetragonal(a, c if crystal_system == "tetragonal" else a)
    if crystal_system == "triclinic":
        return Lattice.from_parameters(a, b, c, alpha, beta, gamma)
    return Lattice.from_parameters(a, b, c, 90, beta if crystal_system == "monoclinic" else 90, 90)


def decorated(structure: Any, number: int) -> Any:
    """Give a structure what structures of users have, by its number in turn.

    Nothing; oxidation states, magnetic moments and atoms held fast; another order of the atoms and
    other axes, of a left hand; or atoms in other cells and another origin.
    """
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(number)
    kind, n_atoms = number // GENERATED % 4, len(structure)
    if kind == 1:
        states = {str(element): int(rng.integers(-3, 5)) for element in structure.composition}
        structure.add_oxidation_state_by_element(states)
        structure.add_site_property("magmom", rng.normal(size=n_atoms).round(3).tolist())
        moves = (rng.random((n_atoms, 3)) < 0.5).tolist()
        structure.add_site_property("selective_dynamics", moves)
    if kind == 2:
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = rng.permutation(n_atoms)
        structure = Structure(
            Lattice(structure.lattice.matrix @ axes * np.sign(-np.linalg.det(axes))),
            [structure[i].specie for i in order],
            structure.frac_coords[order],
        )
    if kind == 3:
        away = structure.frac_coords + rng.integers(-3, 4, (n_atoms, 3)) + rng.random(3)
        structure = Structure(structure.lattice, structure.species, away)
    return structure


def differences(crystal: Crystal, right: Known) -> list[str]:
    """Compare a crystal with the right one, whatever cells they are written in: what differs.

    By the fingerprint that the program knows crystals by, and by quantities that do not use it:
    composition, volume per atom, and all distances up to `CUTOFF`, sorted.
    """
    known = Known(crystal)
    divisor = gcd(crystal.n_atoms, right.crystal.n_atoms)
    times, right_times = right.crystal.n_atoms // divisor, crystal.n_atoms // divisor
    if (known.counts * times != right.counts * right_times).any():
        return ["composition"]
    found = []
    volumes = [one.volume / one.n_atoms for one in (crystal, right.crystal)]
    if abs(volumes[0] / volumes[1] - 1) > 1e-3:
        found.append("volume")
    if not known_in(known.fingerprint, right.fingerprint)[0]:
        found.append("fingerprint")
    if not (
        known.distances_are_in(right, times, right_times)
        and right.distances_are_in(known, right_times, times)
    ):
        found.append("distances")
    return found


class Known:
    """What a crystal is known by, computed once."""

    def __init__(self, crystal: Crystal) -> None:
        self.crystal = crystal
        self.counts = np.bincount(crystal.atomic_numbers, minlength=len(SYMBOLS))

    @cached_property
    def fingerprint(self) -> NDArray[np.uint64]:
        """The fingerprint of the program, shape ``(1,)``."""
        return np.array([fingerprint(self.crystal)], dtype=np.uint64)

    @cached_property
    def distances(self) -> dict[int, FloatArray]:
        """Distances up to `CUTOFF` and `SHIFT`, Å, sorted, by the pair of elements."""
        from pymatgen.optimization.neighbors import find_points_in_spheres

        lattice = np.ascontiguousarray(self.crystal.lattice)
        cartesian = np.ascontiguousarray(self.crystal.frac_coords @ lattice)
        periodic = np.ones(3, dtype=np.int64)
        centres, others, _, lengths = find_points_in_spheres(
            cartesian, cartesian, r=CUTOFF + SHIFT, pbc=periodic, lattice=lattice, tol=1e-8
        )
        numbers = self.crystal.atomic_numbers
        pairs = numbers[centres] * len(SYMBOLS) + numbers[others]
        order = np.lexsort((lengths, pairs))
        kinds, starts = np.unique(pairs[order], return_index=True)
        parts = np.split(lengths[order], starts[1:])
        return dict(zip(kinds.tolist(), parts, strict=True))

    def distances_are_in(self, other: Known, times: int, other_times: int) -> bool:
        """Say whether another crystal has all distances up to `CUTOFF`; each counts some times."""
        for pair, lengths in self.distances.items():
            ours = np.repeat(lengths[lengths <= CUTOFF], times)
            theirs = np.repeat(other.distances.get(pair, np.zeros(0)), other_times)
            if len(theirs) < len(ours) or (np.abs(ours - theirs[: len(ours)]) > SHIFT).any():
                return False
        return True


def write_batch(folder: Path, samples: list[Sample], counts: Counter[str]) -> list[Path]:
    """Write samples in every way: a file for each, or a database for all of them."""
    paths = []
    for name, (suffix, write) in FILES.items():
        for sample in samples:
            path = folder / f"{name} {sample.number}{suffix}"
            try:
                content = write(sample)
            except Exception:  # noqa: BLE001  spglib finds no symmetry
                counts[f"{name}: not written"] += 1
                continue
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            paths.append(path)
    for name, (suffix, write_all) in DATABASES.items():
        paths.append(folder / f"{name}{suffix}")
        write_all(paths[-1], samples)
    return paths


def trip(
    reader: Reader, samples: list[Sample], counts: Counter[str], wrong: list[str]
) -> Counter[str]:
    """Write samples, read them back and count what became of them, by writer."""
    by_number = {sample.number: sample for sample in samples}
    known: dict[tuple[int, bool], Known] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_batch(folder, samples, counts)
        for path in paths:
            writer, _, number = path.stem.rpartition(" ")
            rows = list(reader.rows([path]))
            numbers = [int(number)] if number.isdigit() else sorted(by_number)
            writer = writer if number.isdigit() else path.stem
            if len(rows) != len(numbers):
                counts[f"{writer}: different"] += 1
                wrong.append(f"{path.name}: {len(rows)} rows of {len(numbers)}")
                continue
            for read, one in zip(rows, numbers, strict=True):
                kind = (one, "symmetry" in writer)
                right = known[kind] = known.get(kind) or Known(by_number[one].right(writer))
                counts[f"{writer}: {_outcome(read, right, f'{writer} {one}', wrong)}"] += 1
    return counts


def _outcome(read: Row, right: Known, name: str, wrong: list[str]) -> str:
    problem = read.error if read.crystal is None else check_crystal(read.crystal)
    if read.crystal is None or problem is not None:
        return f"refused, {problem.code if problem else 'without a reason'}"
    found = differences(read.crystal, right)
    if found:
        wrong.append(f"{name}: {', '.join(found)}")
    return "different" if found else "same"


def go_on(
    target: int, state: dict[str, Any], after_batch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Go on until as many structures were written and read."""
    with StructureParser(Limits()) as parser:
        reader = Reader(parser, Reading())
        listed = islice(enumerate(structures(target)), state["structures"], None)
        while batch := list(islice(listed, BATCH)):
            started = time.perf_counter()
            samples = [
                Sample(number, structure)
                for number, structure in batch
                if check_crystal(crystal_of(structure)) is None
            ]
            counts = trip(reader, samples, Counter(state["counts"]), state["wrong"])
            state["counts"] = dict(sorted(counts.items()))
            state["structures"] += len(batch)
            state["seconds"] += time.perf_counter() - started
            after_batch(state)
    return state


def fresh() -> dict[str, Any]:
    """Begin a count."""
    return {"structures": 0, "seconds": 0.0, "wrong": [], "counts": {}}


def _write(state: dict[str, Any]) -> None:
    PROGRESS.parent.mkdir(exist_ok=True)
    PROGRESS.write_text(json.dumps(state, indent=1) + "\n")
    if state["structures"] % (20 * BATCH) == 0:
        print(f"{state['structures']:,} structures, {state['seconds']:.0f} s", flush=True)


def run() -> list[dict[str, Any]]:
    """Write and read the structures that are left, and report."""
    target = int(os.environ.get("MOMA_CL_TRIPS", TARGET))
    state = json.loads(PROGRESS.read_text()) if PROGRESS.exists() else fresh()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = go_on(target, state, _write)
    counts = state["counts"]
    totals: Counter[str] = Counter()
    for name, count in counts.items():
        totals[name.split(": ")[1].split(",")[0]] += count
    files, different = sum(totals[word] for word in OUTCOMES), float(totals["different"])
    written = float(state["structures"])
    return [
        row("structures", written, None, "structures", None, None)
        | {"bar": f">= {TARGET}", "holds": written >= TARGET},
        _count("written and read back", files),
        _count("the same crystal", totals["same"]),
        _count("refused, with a reason", totals["refused"]),
        at_most("another crystal in silence", different, None, "files", different, 0),
        row("seconds", state["seconds"], None, "s", None, None),
        *(_count(name, count) for name, count in counts.items()),
    ]


def _count(name: str, count: int) -> dict[str, Any]:
    return row(name, float(count), None, "files", None, None)
