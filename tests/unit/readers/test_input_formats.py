"""Every format that people have: tables, documents, frames, databases, archives, patterns, stdin."""

import gzip
import io
import json
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from moma_cl.readers.byte_sources import STANDARD_INPUT
from moma_cl.readers.dispatch import InputFormat, Limits, Reader, Reading, read_rows
from moma_cl.readers.rows import BOXED
from moma_cl.readers.text_parser import StructureParser
from moma_cl.structures.molecules import VACUUM
from moma_store.errors import InvalidInputError, NotFoundError
from tests.helpers.cscl import CIF, CSCL, LATTICE, POSCAR, WATER, XYZ, codes, is_cscl
from tests.helpers.processes import run_python


@pytest.fixture(scope="module")
def reader():
    """Read rows with one process that parses, which starts once."""
    with StructureParser(Limits()) as parser:
        yield Reader(parser, Reading())


def with_reading(reader, **said):
    """The same process, and what the user says of the files."""
    return Reader(reader._parser, Reading(**said))


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def pymatgen_cscl():
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice.cubic(4.2), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_holds_the_text_of_files(tmp_path, reader, delimiter, encoding, end):
    records = [
        ["material_id", "cif", "gap [Å]", "note"],
        ["a", quoted(CIF), "1.5", quoted(f'he said ""so"" {delimiter} twice')],
        ["b", quoted(POSCAR), "", "plain"],
        ["c", quoted(json.dumps(CSCL)), "-2e3", ""],
    ]
    records[1][3] = quoted(f'so "it" is{delimiter} twice')
    path = tmp_path / ("rows.tsv" if delimiter == "\t" else "rows.csv")
    text = "\n".join(delimiter.join(record) for record in records) + "\n"
    path.write_bytes(text.replace("\n", end).encode(encoding))
    rows = list(reader.rows([path]))
    assert all(map(is_cscl, rows))
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert [row.values["gap [Å]"] for row in rows] == [1.5, None, -2000.0]
    assert rows[0].values["note"] == f'so "it" is{delimiter} twice'
    assert rows[1].source == f"{path}:{3 + CIF.count(chr(10))}"


def test_a_table_names_files_relative_to_itself(tmp_path, reader):
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "a.cif").write_text(CIF)
    (tmp_path / "b.vasp").write_text(POSCAR)
    (tmp_path / "c.json").write_text(json.dumps(CSCL))
    (tmp_path / "d.xyz").write_text(XYZ)
    with gzip.open(tmp_path / "e.cif.gz", "wt") as stream:
        stream.write(CIF)
    path = tmp_path / "index.csv"
    path.write_text("tc,path\n1,cifs/a.cif\n2,b.vasp\n3,c.json\n4,d.xyz\n5,e.cif.gz\n6,f.cif\n")
    *good, bad = reader.rows([path])
    assert all(map(is_cscl, good))
    assert [row.values["tc"] for row in good] == [1, 2, 3, 4, 5]
    assert [row.id for row in good] == ["cifs/a", "b", "c", "d", "e"]
    assert bad.error.code == "missing-structure"
    assert "f.cif" in bad.error.message


def test_an_id_is_the_column_that_is_named_or_the_name_of_the_file(tmp_path, reader):
    (tmp_path / "a.cif").write_text(CIF)
    path = tmp_path / "index.csv"
    path.write_text("label,path\nfirst,a.cif\n")
    (row,) = reader.rows([path])
    assert (row.id, row.values) == ("a", {"label": "first"})
    (row,) = with_reading(reader, id_column="label").rows([path])
    assert (row.id, row.values) == ("first", {})
    (row,) = with_reading(reader, id_column="path").rows([path])
    assert row.id == "a.cif"
    assert is_cscl(row)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json", "rows.xyz"])
def test_an_id_column_that_is_not_there_is_an_error(tmp_path, reader, name):
    path = tmp_path / name
    line = json.dumps({"id": "x", "structure": CSCL})
    path.write_text(
        {".csv": f"id,cif\nx,{quoted(CIF)}\n", ".jsonl": line, ".json": f"[{line}]"}.get(
            path.suffix, XYZ
        )
    )
    assert codes(with_reading(reader, id_column="nosuch").rows([path])) == ["missing-column"]


def test_the_structure_column_is_found_or_named(tmp_path, reader):
    path = tmp_path / "rows.csv"
    path.write_text(f"name,odd,tc\nx,{quoted(CIF)},1\n")
    (row,) = reader.rows([path])
    assert is_cscl(row)
    assert row.values == {"name": "x", "tc": 1.0}
    path.write_text(f"name,structure,mine\nx,old,{quoted(CIF)}\n")
    said = {"structure_column": "mine", "id_column": "name"}
    (row,) = with_reading(reader, **said).rows([path])
    assert is_cscl(row)
    assert (row.id, row.values) == ("x", {"structure": "old"})
    path.write_text("name,tc\nx,1\n")
    with pytest.raises(InvalidInputError, match=r"columns are name, tc; --structure-column"):
        list(read_rows([path], strict=True))
    assert codes(reader.rows([path])) == ["missing-column"]
    with pytest.raises(InvalidInputError, match="no column 'mine'"):
        list(read_rows([path], strict=True, reading=Reading(**said)))


def test_a_malformed_record_costs_no_other(tmp_path, reader):
    path = tmp_path / "rows.csv"
    good = f"good,{quoted(CIF)},1\n"
    broken = [
        f'open,"{CIF},2\n',  # its quote is never closed
        f"after,{quoted(CIF)} and more,2\n",
        f"more,{quoted(CIF)},2,3\n",
        'zero,"a\0b",2\n',
    ]
    path.write_text("id,cif,tc\n" + "".join(good + line for line in broken) + good)
    rows = list(reader.rows([path]))
    assert [row.id for row in rows if row.error is None] == ["good"] * 5
    failed = [row for row in rows if row.error is not None]
    # The rest of the second is taken for a record of its own, since nobody can tell.
    assert codes(failed) == ["malformed-table"] * 4 + ["not-text"]
    path.write_text(f'id,cif,tc\n{good}last,"data_\n{good.replace(chr(34), "")}a,"b",1\n')
    assert codes(reader.rows([path]))[:2] == [None, "malformed-table"]


def test_the_longest_record_is_limited(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('id,cif\na,"' + "x" * 5000 + "\n" * 5000 + f"b,{quoted(CIF)}\n")
    rows = list(read_rows([path], limits=Limits(text_bytes=2000)))
    assert rows[0].error.code == "too-long"
    assert is_cscl(rows[-1])


# Documents


def test_documents_of_pymatgen_are_read(tmp_path, reader):
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    structure = pymatgen_cscl()
    entry = ComputedStructureEntry(structure, -6.5, entry_id="mp-1", data={"gap": 2.0})
    files = {
        "one": structure.as_dict(),
        "list": [structure.as_dict(), {"id": "x", "structure": CSCL, "tc": 1}],
        "by_id": {"a": structure.as_dict(), "b": {"structure": CSCL, "tc": 2}, "c": CSCL},
        "entry": entry.as_dict(),
        "entries": [entry.as_dict()] * 2,
        "summary": [{"material_id": "mp-2", "structure": structure.as_dict(), "gap": 1.0}],
        "texts": {"a": CIF},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows = {name: list(reader.rows([tmp_path / f"{name}.json"])) for name in files}
    assert all(is_cscl(row) for listed in rows.values() for row in listed)
    assert [row.id for row in rows["list"]] == ["list:1", "x"]
    assert [row.id for row in rows["by_id"]] == ["a", "b", "c"]
    assert rows["by_id"][1].values == {"tc": 2}
    assert rows["entry"][0].id == "mp-1"
    assert rows["entry"][0].values["energy"] == -6.5
    assert rows["entry"][0].values["gap"] == 2.0
    assert rows["summary"][0].id == "mp-2"
    assert rows["one"][0].id == "one"


def test_data_sets_of_matminer_and_pandas_are_read(tmp_path, reader):
    documents = [pymatgen_cscl().as_dict()] * 3
    cells = [[documents[0], 1.5], [None, 2.0], [documents[2], None], "no row"]
    split = {"index": [0, 1, "two", 3], "columns": ["structure", "e_form"], "data": cells}
    with gzip.open(tmp_path / "matbench.json.gz", "wt") as stream:
        json.dump(split, stream)
    rows = list(reader.rows([tmp_path / "matbench.json.gz"]))
    assert codes(rows) == [None, "missing-structure", None, "malformed-structure"] or codes(
        rows
    ) == [None, "missing-structure", None, "parse-error"]
    assert [row.id for row in rows[:3]] == ["matbench:0", "matbench:1", "two"]
    assert rows[0].values == {"e_form": 1.5}
    (tmp_path / "late.json").write_text(json.dumps({"data": cells, "columns": ["structure"]}))
    assert codes(reader.rows([tmp_path / "late.json"])) == ["not-json"]


def test_a_large_document_streams(tmp_path):
    path = tmp_path / "many.json"
    element = json.dumps({"structure": CSCL, "pad": "x" * 900})
    with path.open("w") as stream:
        stream.write("[" + ", ".join([element] * 3000) + "]")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from moma_cl.readers.dispatch import read_rows\n"
        "list(read_rows([Path(sys.argv[1])] * 1))\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert sum(r.error is None for _ in range(3) for r in read_rows([Path(sys.argv[1])])) == 9000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)\n"
    )
    assert int(run_python(program, path)) < 20_000  # kB


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["not-json"]),
        ("[", ["not-json"]),
        ("nonsense", ["not-json"]),
        ("3", ["not-json"]),
        ("[]", []),
        ("[1, 2]", ["malformed-structure"] * 2),
        ("[" * 100_000, ["not-json"]),
        ('{"a": ' * 100_000, ["not-json"]),
        ('[{"id": "a", "id": "b"}]', ["duplicate-key"]),
        ('{"lattice": 1, "lattice": 2}', ["duplicate-key"]),
        ("[" + json.dumps(CSCL) + ", {]", [None, "not-json"]),
        ("[" + json.dumps(CSCL) + " " + json.dumps(CSCL) + "]", [None, "not-json"]),
        (json.dumps([CSCL]) + "]", [None, "not-json"]),
        ("[1" + "0" * 5000 + "]", ["not-json"]),
        ("[" + " " * 50_000 + json.dumps(CSCL), [None, "not-json"]),
        ('["' + "x" * 200_000 + '"]', ["too-long"]),
        (
            json.dumps({"@class": "Popen", "@module": "subprocess", "sites": []}),
            ["malformed-structure"],
        ),
        ('{"columns": 3, "data": [[1]]}', ["not-json"]),
    ],
)
def test_malformed_documents_are_rows(tmp_path, text, expected):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert codes(read_rows([path], limits=Limits(document_bytes=100_000))) == expected


def test_a_truncated_document_gives_the_rows_before_the_cut(tmp_path):
    path = tmp_path / "a.json.gz"
    rng = np.random.default_rng(0)
    rows = [{"structure": CSCL, "noise": rng.random(20).tolist()} for _ in range(300)]
    path.write_bytes(gzip.compress(json.dumps(rows).encode())[:-5000])
    *good, last = read_rows([path])
    assert len(good) > 10
    assert codes(good) == [None] * len(good)
    assert last.error.code == "truncated"


# Frames and databases of ASE


def test_frames_of_ase_are_read(tmp_path, reader):
    from ase import Atoms
    from ase.build import bulk, fcc111, molecule
    from ase.io import write

    crystal = Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=LATTICE, pbc=True)
    crystal.info |= {"id": "mine", "gap": 2.5, "note": 'a "b" c', "vector": np.arange(3)}
    crystal.arrays["magmoms"] = np.ones((2, 2))
    surface = fcc111("Cu", (1, 1, 3))  # no third vector
    surface.info.clear()
    write(tmp_path / "many.xyz", [crystal, bulk("Cu"), molecule("H2O"), surface], format="extxyz")
    cscl, copper, water, slab = reader.rows([tmp_path / "many.xyz"])
    assert is_cscl(cscl)
    assert cscl.id == "mine"
    assert cscl.values["gap"] == 2.5
    assert copper.id == "many:2"
    assert np.allclose(copper.crystal.lattice, bulk("Cu").cell)
    assert copper.flags == ()
    assert water.flags == slab.flags == (BOXED,)
    assert np.allclose(slab.crystal.lattice[:2], surface.cell[:2])
    height = np.ptp(surface.positions[:, 2])
    assert np.allclose(slab.crystal.lattice[2], [0, 0, height + VACUUM])


def test_a_molecule_is_put_into_a_box(tmp_path, reader):
    from pymatgen.core import Molecule

    (tmp_path / "water.xyz").write_text(WATER)
    positions = [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]
    document = Molecule(["O", "H", "H"], positions).as_dict()
    (tmp_path / "water.json").write_text(json.dumps(document))
    compact = {"structure": {"species": ["O", "H", "H"], "positions": positions}}
    (tmp_path / "water.jsonl").write_text(json.dumps(compact))
    for suffix in ("xyz", "json", "jsonl"):
        (row,) = reader.rows([tmp_path / f"water.{suffix}"])
        assert row.error is None
        assert row.flags == (BOXED,)
        assert row.id.startswith("water")
        assert row.crystal.atomic_numbers.tolist() == [8, 1, 1]
        placed = row.crystal.frac_coords @ row.crystal.lattice
        assert np.allclose(placed - placed[0], np.subtract(positions, positions[0]))
        assert np.allclose(np.diag(row.crystal.lattice), np.ptp(positions, axis=0) + VACUUM)
        assert ((row.crystal.frac_coords > 0) & (row.crystal.frac_coords < 1)).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["missing-structure"]),
        ("hello\nyou\n" + XYZ, ["malformed-structure", None]),
        (XYZ + "\n\n" + XYZ, [None, None]),
        (XYZ.replace("2\n", "3\n", 1), ["malformed-structure"]),
        (XYZ.replace("2\n", "3\n", 1) + "\n" + XYZ, ["malformed-structure", None]),
        (XYZ.replace("2.1 2.1 2.1", "2.1 2.1"), ["malformed-structure"]),
        (XYZ.replace("2.1 2.1 2.1", "2.1 x 2.1"), ["malformed-structure"]),
        (XYZ.replace("0 0 0 4.2 0", "0 0 4.2 0", 1), ["malformed-structure"]),
        (XYZ.replace('Lattice="4.2 0 0 0', 'Lattice="4.2 0 0 x'), ["malformed-structure"]),
        (XYZ.replace("pos:R:3", "pos:R:2"), ["malformed-structure"]),
        (XYZ.replace("pos:R:3", "pos:R"), ["malformed-structure"]),
        (XYZ.replace("pos:R:3", "x:R:99999999999:pos:R:3"), ["malformed-structure"]),
        (XYZ.replace("Cs 0", "D 0"), ["isotope"]),
        (XYZ.replace("Cs 0", "Zz 0"), ["unknown-element"]),
        (XYZ.replace("Cs 0", "55 0"), [None]),
        ("0\n\n" + XYZ, ["no-atoms", None]),
        ("999999999\n\nH 0 0 0\n", ["malformed-structure"]),
        ("1" * 5000 + "\n" + XYZ, ["malformed-structure", None]),
        ("1\n\nH nan 0 0\n", ["not-finite"]),
        (XYZ.replace('"4.2 0 0 0 4.2 0 0 0 4.2"', '"1 0 0 1 0 0 0 0 1"'), ["zero-volume"]),
        (XYZ.encode() + b"\xff\xfe\x00" + XYZ.encode(), [None, "malformed-structure"]),
    ],
)
def test_malformed_frames_cost_no_other(tmp_path, text, expected):
    path = tmp_path / "a.xyz"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert codes(read_rows([path])) == expected


def test_databases_of_ase_are_read(tmp_path, reader):
    from ase import Atoms
    from ase.build import molecule
    from ase.db import connect

    path = tmp_path / "rows.db"
    with connect(path) as database:
        for number in range(250):
            crystal = Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=LATTICE, pbc=True)
            database.write(
                crystal, key_value_pairs={"gap": number / 2, "material_id": f"m{number}"}
            )
        database.write(molecule("H2O"), data={"anything": [1, 2]})
    *crystals, water = reader.rows([path])
    assert all(map(is_cscl, crystals))
    assert [row.id for row in crystals] == [f"m{number}" for number in range(250)]
    assert crystals[3].values == {"gap": 1.5}
    assert (water.id, water.flags) == ("rows:251", (BOXED,))


def test_vacuum_is_along_directions_that_are_stated_not_to_be_periodic(tmp_path, reader):
    from ase import Atoms
    from ase.db import connect
    from ase.io import write
    from pymatgen.core import Lattice, Structure

    layer = Atoms("CsCl", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 60], pbc=[1, 1, 0])
    write(tmp_path / "a.xyz", layer, format="extxyz")
    with connect(tmp_path / "a.db") as database:
        database.write(layer)
    lattice = Lattice(np.diag([4, 4, 60]), pbc=(True, True, False))
    structure = Structure(lattice, ["Cs", "Cl"], layer.positions, coords_are_cartesian=True)
    plain = {"lattice": np.diag([4, 4, 60]).tolist(), "pbc": [True, True, False]}
    plain |= {"species": ["Cs", "Cl"], "frac_coords": layer.get_scaled_positions().tolist()}
    (tmp_path / "a.json").write_text(json.dumps(structure.as_dict()))
    (tmp_path / "b.json").write_text(json.dumps(plain))
    for name in ("a.xyz", "a.db", "a.json", "b.json"):
        (row,) = reader.rows([tmp_path / name])
        assert row.flags == (BOXED,)
        assert np.allclose(np.abs(row.crystal.lattice), np.diag([4, 4, VACUUM + 2]))


def test_a_periodicity_that_is_neither_true_nor_false_is_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(XYZ.replace("T T T", "T T perhaps"))
    assert codes(read_rows([tmp_path / "a.xyz"])) == ["malformed-structure"]


def test_damaged_databases_are_rows(tmp_path, reader):
    import sqlite3

    cases = {
        "text": b"this is no database" * 100,
        "empty": b"",
    }
    for name, content in cases.items():
        (tmp_path / f"{name}.db").write_bytes(content)
        assert codes(reader.rows([tmp_path / f"{name}.db"])) == ["unreadable"]
    made = sqlite3.connect(tmp_path / "odd.db")
    made.execute(
        "CREATE TABLE systems (id INTEGER PRIMARY KEY, numbers, positions, cell, pbc, energy, "
        "key_value_pairs)"
    )
    good = (np.array([55, 17], "<i4").tobytes(), np.zeros(6).tobytes(), np.eye(3).tobytes())
    made.execute("INSERT INTO systems VALUES (1, 'text', 2, NULL, 7, NULL, '{}')")
    made.execute("INSERT INTO systems VALUES (2, ?, ?, ?, 7, 1.0, '[]')", good)
    made.execute("INSERT INTO systems VALUES (3, ?, ?, ?, 7, 1.0, '{}')", good)
    made.commit()
    made.close()
    rows = list(reader.rows([tmp_path / "odd.db"]))
    assert codes(rows) == ["malformed-structure", "malformed-structure", None]
    assert rows[2].values == {"energy": 1.0}


_COUNTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) "
_REST = "7 AS pbc, 1.0 AS energy, '{}' AS key_value_pairs"
_STORED = "positions, cell, pbc, energy, key_value_pairs"
NO_TABLES = {
    "a view": [
        (
            f"CREATE VIEW systems AS {_COUNTED} SELECT i AS id, X'0b000000' AS numbers, "
            f"zeroblob(24) AS positions, zeroblob(72) AS cell, {_REST} FROM n"
        )
    ],
    "a view without end": [
        (
            "CREATE VIEW systems AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            f"SELECT -i AS id, 1 AS numbers, 1 AS positions, 1 AS cell, {_REST} FROM n"
        )
    ],
    "a view that is called a table": [
        (
            f"CREATE VIEW systems AS {_COUNTED} SELECT i AS id, X'0b000000' AS numbers, "
            f"zeroblob(24) AS positions, zeroblob(72) AS cell, {_REST} FROM n"
        ),
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET type = 'table'",
    ],
    "a computed column": [
        f"CREATE TABLE systems (id INTEGER PRIMARY KEY, numbers AS (zeroblob(1000000)), {_STORED})",
        "INSERT INTO systems (id) VALUES (1)",
    ],
    "a virtual table": [f"CREATE VIRTUAL TABLE systems USING fts5(id, numbers, {_STORED})"],
    "ids that are no key": [f"CREATE TABLE systems (id, numbers, {_STORED})"],
    "no such table": ["CREATE TABLE structures (id INTEGER PRIMARY KEY)"],
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_databases_without_a_table_of_stored_rows_are_refused(name, tmp_path, reader):
    import sqlite3

    made = sqlite3.connect(tmp_path / "a.db")
    for statement in NO_TABLES[name]:
        made.execute(statement)
    made.commit()
    made.close()
    assert codes(reader.rows([tmp_path / "a.db"])) == ["unreadable"]


# Archives


def packed(path, members):
    """Write an archive of texts by name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        return path
    with tarfile.open(path, "w:gz" if path.suffix != ".tar" else "w") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_archives_are_read_without_being_unpacked(tmp_path, reader, name):
    members = {
        "in/a.cif": CIF,
        "in/b.vasp": POSCAR,
        "c.xyz": XYZ,
        "in/d.json": json.dumps([CSCL]),
        "e.jsonl": json.dumps({"structure": CSCL, "tc": 1}),
        "README": "hello",
        "__MACOSX/x.cif": "junk",
        "f.cif": "junk",
    }
    path = packed(tmp_path / name, members)
    rows = {row.source: row for row in reader.rows([path])}
    bad = {source: row.error.code for source, row in rows.items() if row.error}
    assert bad == {f"{path}:README": "unknown-format", f"{path}:f.cif": "parse-error"}
    assert all(is_cscl(row) for row in rows.values() if row.error is None)
    assert len(rows) == 7
    assert rows[f"{path}:in/a.cif"].id == "a"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_may_hold_a_table_and_its_files(tmp_path, reader, name):
    members = {"x/b.vasp": POSCAR, "x/id_prop.csv": "a,1.5\nb,2\nc,3\n", "x/a.cif": CIF}
    *good, missing = reader.rows([packed(tmp_path / name, members)])
    assert all(map(is_cscl, good))
    assert [(row.id, row.values["value"]) for row in good] == [("a", 1.5), ("b", 2.0)]
    assert missing.error.code == "missing-structure"


def link(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "names",
    [
        ["../a.cif"],
        ["x/../../a.cif"],
        ["/a.cif"],
        ["\\\\host\\a.cif"],
        ["C:\\a.cif"],
        ["..\\a.cif"],
        ["good.cif", "x/A.cif", "x/a.cif"],
        ["good.cif", "good.cif"],
    ],
)
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_unsafe_names_are_refused_whole(tmp_path, name, names):
    path = tmp_path / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in names:
                archive.writestr(zipfile.ZipInfo(member), CIF)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for member in names:
                archive.addfile(tarfile.TarInfo(member))
    assert codes(read_rows([path])) == ["unsafe-archive"]
    with pytest.raises(InvalidInputError) as caught:
        list(read_rows([path], strict=True))
    assert caught.value.code == "invalid-input.unsafe-archive"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_archives_with_links_and_devices_are_refused_whole(tmp_path, kind):
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.addfile(link("a.cif", kind))
        assert codes(read_rows([tmp_path / name])) == ["unsafe-archive"]
    info = zipfile.ZipInfo("a.cif")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert codes(read_rows([tmp_path / "a.zip"])) == ["unsafe-archive"]


def test_bombs_are_given_up_soon(tmp_path):
    zeros = b" " * (1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", zeros * 20)
    assert codes(read_rows([tmp_path / "a.zip"])) == ["unsafe-archive"]
    info = tarfile.TarInfo("a.cif")
    info.size = 20 << 20
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(info, io.BytesIO(zeros * 20))
    assert codes(read_rows([tmp_path / "a.tar.gz"])) == ["unreadable"]
    long_name = tarfile.TarInfo("x")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 20 << 20
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.addfile(long_name, io.BytesIO(zeros * 20))
    assert codes(read_rows([tmp_path / "b.tar.gz"])) == ["unreadable"]
    for suffix in ("jsonl", "csv", "xyz", "json", "cif"):
        with gzip.open(tmp_path / f"c.{suffix}.gz", "wb") as stream:
            stream.write((b" " * 999 + b"\n") * 20_000)
        (last,) = read_rows([tmp_path / f"c.{suffix}.gz"])
        assert last.error.code in {"truncated", "too-long", "unreadable"}, suffix


def test_damaged_archives_are_rows(tmp_path):
    whole = {n: packed(tmp_path / n, {"a.cif": CIF}).read_bytes() for n in ("a.zip", "a.tgz")}
    for name, content in whole.items():
        for damaged in (content[: len(content) // 2], b"", b"PK", content[:20] + b"\xff" * 30):
            (tmp_path / name).write_bytes(damaged)
            assert codes(read_rows([tmp_path / name])) == ["unreadable"] or not damaged


# Folders, patterns, standard input


def test_patterns_are_replaced_by_what_they_match(tmp_path, reader):
    for name in ("b.cif", "a.cif", "x/c.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CIF)
    (tmp_path / "odd[1].cif").write_text(CIF)
    assert [row.id for row in reader.rows([tmp_path / "?.cif"])] == ["a", "b"]
    assert [row.id for row in reader.rows([tmp_path / "**" / "[a-c].cif"])] == ["a", "b", "c"]
    assert [row.id for row in reader.rows([tmp_path / "odd[1].cif"])] == ["odd[1]"]
    assert codes(reader.rows([tmp_path / "*.vasp"])) == ["not-found"]
    with pytest.raises(NotFoundError, match="matches no file"):
        list(read_rows([tmp_path / "*.vasp"], strict=True))


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (json.dumps({"structure": CSCL}), None),
        (json.dumps([CSCL]), "json"),
        (f"cif,tc\n{quoted(CIF)},1\n", "csv"),
        (f"cif\ttc\n{quoted(CIF)}\t1\n", "tsv"),
        (CIF, "cif"),
        (POSCAR, "poscar"),
        (XYZ, "xyz"),
    ],
)
def test_standard_input_is_read(tmp_path, monkeypatch, reader, text, given):
    (tmp_path / "input").write_text(text)
    with (tmp_path / "input").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        said = with_reading(reader, format=InputFormat(given) if given else None)
        (row,) = said.rows([STANDARD_INPUT])
    assert is_cscl(row)
    assert row.source.startswith("stdin")


def test_a_format_can_be_named_for_files_whose_names_do_not_tell(tmp_path, reader):
    (tmp_path / "relaxed").write_text(POSCAR)
    (tmp_path / "export.txt").write_text(f"cif,tc\n{quoted(CIF)},1\n")
    assert codes(reader.rows([tmp_path / "relaxed"])) == ["unknown-format"]
    for name, given in (("relaxed", "poscar"), ("export.txt", "csv")):
        (row,) = with_reading(reader, format=InputFormat(given)).rows([tmp_path / name])
        assert is_cscl(row)
