"""CIF files against what they say: all settings, and files with one fault.

``python -m benchmarks cif_campaign``. ``MOMA_CL_CIF`` sets how many faults are made (10,000).
Counts so far are in ``results/cif_campaign_progress.json``.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moma_cl.readers.cif.operations import PARTS, Operations
from moma_cl.readers.cif.space_groups import Setting, all_settings, operations_of
from moma_cl.readers.cif.structure import read_cif
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.fingerprints import fingerprint, known_in
from moma_store.errors import InvalidInputError

TARGET = 10_000
DATA = Path(__file__).parents[2] / "shared" / "data" / "upstream" / "mp_36k.jsonl.gz"
PROGRESS = Path(__file__).parent / "results" / "cif_campaign_progress.json"
GENERAL = ((11, 0.131, 0.217, 0.083), (17, 0.377, 0.061, 0.291))  # Na and Cl


def outcome(text: str, right: Crystal) -> str:
    """Read a CIF: "same" as the right crystal, "different", or "refused"."""
    try:
        crystal = read_cif(text)
    except InvalidInputError:
        return "refused"
    found = np.array([fingerprint(crystal)], dtype=np.uint64)
    wanted = np.array([fingerprint(right)], dtype=np.uint64)
    return "same" if known_in(found, wanted)[0] else "different"


def symbols(setting: Setting) -> list[str]:
    """List what a file may give for a setting: tags and symbols, without operations."""
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        kind: Any = spglib.get_spacegroup_type(setting.hall_number)
    full = kind.international_full.replace("_", "")
    short = kind.international_short.replace("_", "")
    tag = "_symmetry_space_group_name_H-M"
    named = [f"{tag} '{name}'" for name in sorted(setting.names)]
    if setting.choice in {"", "1", "2", "H", "R", "b", "b1"}:  # the short ones mean no others
        named += [f"{tag} '{short}'", f"{tag} '{short.lower()}'"]
    named += [f"{tag} '{full}'"]
    if setting.choice:
        named += [f"_space_group_name_H-M_alt '{full}:{setting.choice}'"]
    named += [f"_space_group_name_Hall '{kind.hall_symbol}'"]
    return [*named, f"_space_group_IT_number {setting.number}"]


def general_cell(operations: Operations, *, right_angles: bool) -> list[float]:
    """Make a cell, in Å and degrees, that has a symmetry and as little more as can be."""
    lengths = np.diag([21.1, 25.3, 29.7])
    skew = np.eye(3) if right_angles else np.array([[1, 0, 0], [0.1, 1, 0], [0.17, 0.13, 1]])
    start = (skew @ lengths) @ (skew @ lengths).T
    turned = operations.rotations
    metric = (np.swapaxes(turned, 1, 2) @ start @ turned).mean(axis=0)
    edges = np.sqrt(np.diag(metric))
    angles = [
        np.degrees(np.arccos(metric[i, j] / (edges[i] * edges[j])))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    return [*edges.tolist(), *angles]


def setting_file(
    symmetry: str, cell: list[float], sites: list[tuple[Any, ...]], formula: str = ""
) -> str:
    """Write a CIF of a cell and sites (element, x, y, z)."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{n} {v:.10g}" for n, v in zip(names, cell, strict=True))]
    lines += [symmetry, formula, "loop_"]
    lines += [f"_atom_site_{tag}" for tag in ("type_symbol", "fract_x", "fract_y", "fract_z")]
    lines += [" ".join([symbol, *(f"{x:.10f}" for x in place)]) for symbol, *place in sites]
    return "\n".join(lines) + "\n"


def settings(every: int = 1) -> Counter[str]:
    """Read every setting by its symbols alone, against its operations written out."""
    counts: Counter[str] = Counter()
    labels = {11: "Na", 17: "Cl"}
    for setting in all_settings()[::every]:
        operations = operations_of(setting.hall_number)
        for right_angles in (False, True):
            cell = general_cell(operations, right_angles=right_angles)
            all_sites = [
                (labels[element], *((rotation @ place + shift / PARTS) % 1.0))
                for element, *place in GENERAL
                for rotation, shift in zip(
                    operations.rotations, operations.translations, strict=True
                )
            ]
            p1 = "_symmetry_space_group_name_H-M 'P 1'"
            right = read_cif(setting_file(p1, cell, all_sites))
            few = [(labels[element], *place) for element, *place in GENERAL]
            formula = f"_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z {len(operations)}"
            for symmetry in symbols(setting):
                for given in ("", formula):
                    counts[outcome(setting_file(symmetry, cell, few, given), right)] += 1
    return counts


def structures(limit: int) -> Iterator[Any]:
    """Give structures of the data beside the repository; none without it."""
    from pymatgen.core import Structure

    if not DATA.exists():
        return
    with gzip.open(DATA, "rt") as lines:
        found = [line for place, line in enumerate(lines) if place % 3 == 0][:limit]
    for line in found:
        record = json.loads(line)["structure"]
        yield Structure(record["lattice"], record["species"], record["frac_coords"])


def faulty(text: str, rng: random.Random) -> tuple[str, str]:
    """Put one fault into a CIF that pymatgen wrote; the fault's name, and the text."""
    lines = text.rstrip("\n").split("\n")
    places = {tag: i for i, tag in enumerate(line.split()[0] for line in lines if line.strip())}
    first = places["_atom_site_occupancy"] + 1
    operation = places["_symmetry_equiv_pos_as_xyz"] + 1
    site = rng.randrange(first, len(lines))
    operations = [i for i in range(operation, len(lines)) if "'" in lines[i] and "," in lines[i]]
    values = lines[site].split()
    kind = rng.choice(["site", "element", "operation", "occupancy", "label", "group", "number"])
    if kind == "site":
        lines[site : site + 1] = [] if rng.random() < 0.5 else [lines[site]] * 2
    elif kind == "operation":
        spot = rng.choice(operations)
        changed = rng.choice([("x", "-x"), ("y", "z"), ("z", "z+1/2"), ("-x", "x"), ("", "")])
        lines[spot] = lines[spot].replace(*changed, 1) if changed[0] else ""
        if not lines[spot]:
            del lines[spot]
    elif kind in {"group", "number"}:
        tag = "_symmetry_space_group_name_H-M" if kind == "group" else "_symmetry_Int_Tables_number"
        other = rng.choice(all_settings())
        lines[places[tag]] = (
            f"{tag} '{rng.choice(sorted(other.names))}'"
            if kind == "group"
            else f"{tag} {other.number}"
        )
    else:
        column = {"element": 0, "label": 1, "occupancy": -1}[kind]
        values[column] = {
            "element": rng.choice(["Na", "O", "Va", "OH", "7Li", "D", "Si", "HO"]),
            "label": rng.choice(["Q1", "OH1", "Wat", "HO1", "T2", "Na9"]),
            "occupancy": rng.choice([".", "?", "0", "0.5", "2"]),
        }[kind]
        lines[site] = "  ".join(values)
    return kind, "\n".join(lines) + "\n"


def faults(count: int, after: Callable[[Counter[str]], None]) -> Counter[str]:
    """Read files with one fault, and each of them without it."""
    from pymatgen.io.cif import CifWriter

    counts: Counter[str] = Counter()
    rng = random.Random(7)
    for structure in structures(max(1, count // 5)):
        try:
            text = str(CifWriter(structure, symprec=0.01))
        except Exception:  # noqa: BLE001  spglib finds no symmetry
            continue
        try:
            right = read_cif(text)
        except InvalidInputError as error:
            counts[f"unharmed: refused, {error.code}"] += 1
            continue
        counts["unharmed: read"] += 1
        for _ in range(5):
            kind, spoiled = faulty(text, rng)
            counts[f"{kind}: {outcome(spoiled, right)}"] += 1
        if sum(counts.values()) % 100 < 6:
            after(counts)
    return counts


def _sum(counts: Counter[str], word: str) -> float:
    return float(sum(count for key, count in counts.items() if word in key))


def run() -> list[dict[str, Any]]:
    """Run the two campaigns and report."""
    count = int(os.environ.get("MOMA_CL_CIF", TARGET))
    state: dict[str, Counter[str]] = {}
    started = time.perf_counter()

    def note(name: str) -> Callable[[Counter[str]], None]:
        def write(counts: Counter[str]) -> None:
            state[name] = counts
            PROGRESS.parent.mkdir(exist_ok=True)
            PROGRESS.write_text(json.dumps(state, indent=1) + "\n")

        return write

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_symbol = settings()
        note("settings")(by_symbol)
        harmed = faults(count, note("faults"))
        note("faults")(harmed)
    refused, unharmed = _sum(harmed, "unharmed: refused"), _sum(harmed, "unharmed")
    rows = [
        _row("settings by symbol: same", _sum(by_symbol, "same"), "files", "-", None),
        _row("settings by symbol: refused", _sum(by_symbol, "refused"), "files", "-", None),
        _bar("settings by symbol: different", _sum(by_symbol, "different"), "files", 0),
        _bar("faults: answered as another crystal", _sum(harmed, ": different"), "files", 0),
        _bar("unharmed but refused", refused / max(unharmed, 1.0), "1", 0.01),
        _row("seconds", time.perf_counter() - started, "s", "-", None),
    ]
    return rows + [_row(name, float(n), "files", "-", None) for name, n in sorted(harmed.items())]


def _bar(name: str, ours: float, unit: str, most: float) -> dict[str, Any]:
    return _row(name, ours, unit, f"<= {most:g}", ours <= most)


def _row(name: str, ours: float, unit: str, bar: str, holds: bool | None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": None,
        "unit": unit,
        "ratio": None,
        "bar": bar,
        "holds": holds,
    }
