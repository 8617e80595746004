"""Lines that end in any way, files whose names are alike or odd, and columns of paths."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from moma_cl.core.printable import printable
from moma_cl.readers.dispatch import Limits, Reader, Reading
from moma_cl.readers.text_parser import StructureParser
from tests.helpers.cscl import CIF, CSCL, POSCAR, XYZ, codes, is_cscl


@pytest.fixture(scope="module")
def reader():
    """Read rows with one process that parses, which starts once."""
    with StructureParser(Limits()) as parser:
        yield Reader(parser, Reading())


def written(path, text=POSCAR):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Ends of lines

TEXTS = {
    "a.csv": "id,gap,path\nx,1,in.vasp\ny,2,in.vasp\n",
    "quoted.csv": f'id,gap,cif\nx,1,"{CIF}"\ny,2,"{CIF}"\n',
    "id_prop.csv": "in,1\nin,2\n",
    "a.jsonl": "".join(json.dumps({"structure": CSCL}) + "\n" for _ in range(2)),
    "a.json": json.dumps([CSCL, CSCL], indent=1),
    "a.xyz": XYZ * 2,
    "a.cif": CIF,
    "a.vasp": POSCAR,
}


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", TEXTS)
def test_lines_may_end_in_any_way_in_every_format(tmp_path, reader, name, encoding, end):
    written(tmp_path / "in.vasp")
    (tmp_path / name).write_bytes(TEXTS[name].replace("\n", end).encode(encoding))
    rows = list(reader.rows([tmp_path / name]))
    assert all(map(is_cscl, rows))
    assert len(rows) == (1 if name in {"a.cif", "a.vasp"} else 2)


def test_a_table_of_old_spreadsheets_has_line_feeds_inside_of_cells(tmp_path, reader):
    (tmp_path / "a.csv").write_bytes(f'id,cif\rx,"{CIF}"\ry,"{POSCAR}"\r'.encode())
    rows = list(reader.rows([tmp_path / "a.csv"]))
    assert [row.id for row in rows if is_cscl(row)] == ["x", "y"]


def test_a_line_end_is_one_wherever_reading_is_interrupted(tmp_path, reader):
    lines = [json.dumps({"id": f"{n}", "structure": CSCL, "pad": "x" * n}) for n in range(700)]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(lines).encode())
    assert [row.source.rpartition(":")[2] for row in reader.rows([tmp_path / "a.jsonl"])] == [
        str(number) for number in range(1, 701)
    ]


# Names of files


@pytest.mark.parametrize(
    ("files", "pattern", "ids"),
    [
        (["a/POSCAR", "b/POSCAR"], "*/POSCAR", ["a", "b"]),
        (["a/POSCAR"], "*/POSCAR", ["a"]),
        (["a/POSCAR.gz", "b/CONTCAR"], "*/*", ["a", "b"]),
        (["a/CONTCAR", "a/POSCAR"], "*/*CAR", ["CONTCAR", "POSCAR"]),
        (["a/x/POSCAR", "b/y/POSCAR"], "**/POSCAR", ["a/x", "b/y"]),
        (["a/in.vasp", "b/in.vasp"], "*/in.vasp", ["a", "b"]),
        (["a/x.vasp", "a/y.vasp", "b/x.vasp"], "*/*.vasp", ["a/x", "y", "b/x"]),
        (["x.vasp", "x.poscar"], "x.*", ["x.poscar", "x.vasp"]),
        (["POSCAR.mp-1", "POSCAR.mp-2"], "POSCAR*", ["POSCAR.mp-1", "POSCAR.mp-2"]),
        (["mp-1.5.vasp", "mp-1.6.vasp"], "*.vasp", ["mp-1.5", "mp-1.6"]),
    ],
)
def test_files_whose_names_are_alike_are_told_apart(tmp_path, reader, files, pattern, ids):
    import gzip

    for name in files:
        path = written(tmp_path / name)
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(POSCAR.encode()))
    assert [row.id for row in reader.rows([tmp_path / pattern]) if is_cscl(row)] == ids
    listed = [Path(tmp_path / name) for name in sorted(files)]
    assert [row.id for row in reader.rows(listed)] == ids
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in listed:
            archive.write(path, path.relative_to(tmp_path))
    assert [row.id for row in reader.rows([tmp_path / "all.zip"])] == ids


def test_a_file_given_twice_keeps_its_name(tmp_path, reader):
    path = written(tmp_path / "a.vasp")
    assert [row.id for row in reader.rows([path, path])] == ["a", "a"]


def test_members_of_an_archive_may_begin_with_a_dot_and_a_slash(tmp_path, reader):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("./id_prop.csv", "x,1\ny,2\n")
        archive.writestr("./x.vasp", POSCAR)
        archive.writestr("./y/POSCAR", POSCAR)
    assert [row.id for row in reader.rows([tmp_path / "a.zip"]) if is_cscl(row)] == ["x", "y"]


def test_a_name_that_is_no_text_has_a_row_that_can_be_written(tmp_path, reader):
    for name in (b"Gr\xf6\xdfe.vasp", b"a\nb.vasp", b"\x1b[31m.vasp", b"bad\xff.cif"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text(POSCAR)  # noqa: PTH118  bytes
    written(tmp_path / "good.vasp")
    rows = {row.id: row for row in reader.rows([tmp_path])}
    assert set(rows) == {r"Gr\xf6\xdfe", r"a\nb", r"\x1b[31m", r"bad\xff", "good"}
    assert is_cscl(rows[r"Gr\xf6\xdfe"])
    assert rows[r"bad\xff"].error.code == "parse-error"
    for row in rows.values():
        text = row.id + row.source + (row.error.message if row.error else "")
        assert text.isprintable()
        text.encode()
    (missing,) = reader.rows([Path(os.fsdecode(b"none\xf6.cif"))])
    assert (missing.id, missing.error.code) == (r"none\xf6", "not-found")
    missing.error.message.encode()


def test_text_that_can_be_printed_stays():
    assert printable("Größe 1.5 Å") == "Größe 1.5 Å"
    assert printable("\ud800") == r"\ud800"


# Paths in tables


def test_folders_of_vasp_lie_beside_a_table(tmp_path, reader):
    written(tmp_path / "a" / "POSCAR")
    written(tmp_path / "b" / "CONTCAR")
    written(tmp_path / "c" / "POSCAR")
    written(tmp_path / "c" / "CONTCAR")
    written(tmp_path / "id_prop.csv", "a,1\nb,2\nc,3\nd,4\n")
    a, b, c, d = reader.rows([tmp_path])
    assert is_cscl(a)
    assert is_cscl(b)
    assert [row.values["value"] for row in (a, b)] == [1, 2]
    assert codes((c, d)) == ["many-structures", "missing-structure"]
    assert "POSCAR and CONTCAR" in c.error.message


def test_a_column_of_paths_may_name_what_vasp_writes(tmp_path, reader):
    for name in ("a/POSCAR", "b/CONTCAR", "c/POSCAR", "POSCAR_d"):
        written(tmp_path / name)
    written(tmp_path / "in.csv", "path,y\na/POSCAR,1\nb/CONTCAR,2\nc,3\nPOSCAR_d,4\nnone,5\n")
    *good, bad = reader.rows([tmp_path / "in.csv"])
    assert all(map(is_cscl, good))
    assert [row.id for row in good] == ["a", "b", "in:4", "POSCAR_d"]
    assert bad.error.code == "missing-structure"
    assert "'none'" in bad.error.message


# What to_csv of pandas makes of structures


def test_structures_that_were_printed_into_a_table_are_named(tmp_path, reader):
    import pandas as pd
    from ase import Atoms
    from pymatgen.core import Lattice, Molecule, Structure

    structure = Structure(Lattice.cubic(4.2), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    printed = [structure, structure.as_dict(), repr(structure), Atoms("CsCl"), object()]
    printed.append(Molecule(["O"], [[0, 0, 0]]))
    pd.DataFrame({"structure": printed}).to_csv(tmp_path / "a.csv")
    rows = list(reader.rows([tmp_path / "a.csv"]))
    assert codes(rows) == ["printed-structure"] * len(printed)
    assert "to(fmt='cif')" in rows[0].error.message


def test_texts_of_json_are_read_in_every_format(tmp_path, reader):
    text = json.dumps(CSCL)
    (tmp_path / "a.jsonl").write_text(json.dumps({"structure": text}))
    (tmp_path / "a.csv").write_text('id,structure\nx,"' + text.replace('"', '""') + '"\n')
    for name in ("a.jsonl", "a.csv"):
        (row,) = reader.rows([tmp_path / name])
        assert is_cscl(row)


def test_a_poscar_in_a_document_may_have_old_line_ends(tmp_path, reader):
    (tmp_path / "a.jsonl").write_text(json.dumps({"structure": POSCAR.replace("\n", "\r")}))
    (row,) = reader.rows([tmp_path / "a.jsonl"])
    assert is_cscl(row)
