"""Valid files of every input format, and random changes to them, for fuzzing the readers."""

from __future__ import annotations

import gzip
import io
import json
import random
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Caesium chloride, and for XYZ a molecule too.
LATTICE = [[4.2, 0.0, 0.0], [0.0, 4.2, 0.0], [0.0, 0.0, 4.2]]
CSCL = {"lattice": LATTICE, "species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}
CIF = """data_CsCl
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P -1'
_symmetry_Int_Tables_number 2
loop_
_symmetry_equiv_pos_site_id
_symmetry_equiv_pos_as_xyz
1 'x, y, z'
2 '-x, -y, -z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cs1 Cs+ 0 0 0 1.0
Cl1 Cl- 0.5 0.5 0.5 1.0
"""
POSCAR = """CsCl
1.0
4.2 0 0
0 4.2 0
0 0 4.2
Cs Cl
1 1
Direct
0 0 0
0.5 0.5 0.5
"""
XYZ = """2
Lattice="4.2 0 0 0 4.2 0 0 0 4.2" Properties=species:S:1:pos:R:3 energy=-3.5 pbc="T T T"
Cs 0 0 0
Cl 2.1 2.1 2.1
"""
WATER = """3
a molecule
O 0 0 0.12
H 0 0.76 -0.48
H 0 -0.76 -0.48
"""
_SITES = {
    "@module": "pymatgen.core.structure",
    "@class": "Structure",
    "lattice": {"matrix": LATTICE, "pbc": [True, True, True]},
    "sites": [
        {"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0]},
        {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ],
}
# Parts that readers may stumble over.
_TROUBLE = (
    b"99999999999",
    b"1e309",
    b"-",
    b"?",
    b"(",
    b"'",
    b'"',
    b"\n",
    b"\r",
    b"loop_\n",
    b";",
    b"nan",
    b"\xff\xfe",
    b"\x00",
    b"\xc3\x28",
    b"[" * 5000,
    b'{"a":' * 2000,
    b"\\ud800",
    b"../../etc/passwd",
    b"0" * 3000,
    "Å\N{RIGHT-TO-LEFT OVERRIDE}".encode(),
    b",,,,",
    b'"""',
)


def _table(delimiter: str) -> bytes:
    """Write a table with the text of a CIF file, a POSCAR file and JSON."""
    cells = [CIF, POSCAR, json.dumps(_SITES)]
    records = [["id", "cif", "gap [eV]"]]
    for number, cell in enumerate(cells):
        records.append([str(number), '"' + cell.replace('"', '""') + '"', "1.5"])
    return "".join(delimiter.join(record) + "\n" for record in records).encode()


def _zipped() -> bytes:
    """Pack one file of each text format."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (("a.cif", CIF), ("b.vasp", POSCAR), ("c.xyz", XYZ + WATER)):
            archive.writestr(zipfile.ZipInfo(name), text)
    return stream.getvalue()


def _tarred(mode: str) -> bytes:
    """Pack the same as a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]  # a mode
        for name, text in (("a.cif", CIF), ("b.vasp", POSCAR), ("c.xyz", XYZ + WATER)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def _database() -> bytes:
    """Make a small database of the kind that ASE writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        made = sqlite3.connect(path)
        made.execute(
            "CREATE TABLE systems (id INTEGER PRIMARY KEY, numbers BLOB, positions BLOB, cell "
            "BLOB, pbc INTEGER, energy REAL, key_value_pairs TEXT)"
        )
        numbers, positions = np.array([55, 17], "<i4"), np.array([[0, 0, 0], [2.1, 2.1, 2.1]])
        cells = (numbers.tobytes(), positions.tobytes(), np.array(LATTICE).tobytes())
        for number in range(5):
            made.execute(
                "INSERT INTO systems VALUES (?, ?, ?, ?, 7, -3.5, '{\"gap\": 1.5}')",
                (number, *cells),
            )
        made.commit()
        made.close()
        return path.read_bytes()


def valid_files() -> dict[str, bytes]:
    """Make a valid file of every format: contents by suffix."""
    row = {"id": "a", "structure": CSCL, "gap": 1.5}
    lines = [row, {"id": "b", "structure": CIF}, {"id": "c", "structure": _SITES}]
    split = {"index": [0, 1], "columns": ["structure", "gap"], "data": [[_SITES, 1.5], [CSCL, 2]]}
    by_line = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return {
        ".cif": CIF.encode(),
        ".vasp": POSCAR.encode(),
        ".xyz": (XYZ + WATER).encode(),
        ".jsonl": by_line,
        ".jsonl.gz": gzip.compress(by_line, mtime=0),
        ".json": json.dumps([row, _SITES]).encode(),
        ".split.json": json.dumps(split).encode(),
        ".csv": _table(","),
        ".tsv": _table("\t"),
        ".zip": _zipped(),
        ".tar": _tarred("w"),
        ".tar.gz": _tarred("w:gz"),
        ".db": _database(),
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change a file at random: flip bits, cut it, delete, repeat, copy or overwrite parts of it."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.choice([0, 1, 1, 5, 40, 400]))
        _change(data, start, stop, rng)
    if rng.random() < 0.03:
        return (
            bytes(data).decode("utf-8", errors="replace").encode(rng.choice(["utf-16", "utf-32"]))
        )
    return bytes(data)


def _change(data: bytearray, start: int, stop: int, rng: random.Random) -> None:
    kind = rng.randrange(6)
    if kind == 0 and start < len(data):
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 1 and rng.random() < 0.2:
        del data[start:]
    elif kind == 2:
        del data[start:stop]
    elif kind == 3:
        data[start:stop] = bytes(data[start:stop]) * rng.choice([2, 2, 3, 100])
    elif kind == 4:
        part = bytes(data[start:stop])
        place = rng.randrange(len(data) + 1)
        data[place:place] = part
    else:
        data[start:stop] = rng.choice(_TROUBLE)


def mutants(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Make ``count`` mutated files, each from a seed of its own; give name and content.

    The file of a number, counted from ``first``, is the same in every run.
    """
    files = list(valid_files().items())
    for number in range(first, first + count):
        suffix, content = files[number % len(files)]
        rng = random.Random(number)  # noqa: S311  a file must be the same in every run
        yield f"{number}{suffix}", mutated(content, rng)
