"""Every kind of file is read, and whatever is wrong with one becomes the status of a row."""

import gzip
import json
import os
import random
import time
from collections import Counter

import numpy as np
import pytest

from moma_cl.readers.dispatch import Limits, read_rows
from moma_cl.structures.checks import check_crystal
from moma_store.errors import InvalidInputError, NotFoundError
from tests.helpers.cscl import CIF, CSCL, LATTICE, POSCAR, codes, is_cscl
from tests.helpers.processes import run_python


def sites(*species, lattice=LATTICE):
    """A pymatgen dictionary with a site for each list of species."""
    listed = [{"species": s, "abc": [i / len(species), 0, 0]} for i, s in enumerate(species)]
    return {"@module": "pymatgen.core.structure", "lattice": {"matrix": lattice}, "sites": listed}


def write_lines(path, *rows):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def only(rows):
    (row,) = rows
    return row


def code_of(structure, tmp_path, **limits):
    path = write_lines(tmp_path / "a.jsonl", {"structure": structure})
    row = only(read_rows([path], limits=Limits(**limits)))
    assert (row.crystal is None) == (row.error is not None)
    return row.error and row.error.code


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_rows_keep_ids_values_and_places(tmp_path, name):
    path = tmp_path / name
    text = json.dumps({"id": "x", "structure": CSCL, "tc": 1.5, "note": None})
    text += (
        "\n\n" + json.dumps({"id": 7, "structure": CSCL}) + "\r\n" + json.dumps({"structure": CSCL})
    )
    opener = gzip.open if name.endswith("gz") else open
    with opener(path, "wt", encoding="utf-8-sig") as stream:
        stream.write(text)
    rows = list(read_rows([path]))
    assert [row.id for row in rows] == ["x", "7", "a:4"]
    assert [row.source for row in rows] == [f"{path}:1", f"{path}:3", f"{path}:4"]
    assert rows[0].values == {"tc": 1.5, "note": None}
    for row in rows:
        assert is_cscl(row)


def test_all_forms_of_a_structure_read_the_same(tmp_path):
    document = sites([{"element": "Cs", "occu": 1}], [{"element": "Cl", "occu": 1.0}])
    document["sites"][1]["abc"] = [0.5, 0.5, 0.5]
    cartesian = json.loads(json.dumps(document))
    for site, xyz in zip(cartesian["sites"], ([0, 0, 0], [2.1, 2.1, 2.1]), strict=True):
        del site["abc"]
        site["xyz"] = xyz
    path = write_lines(
        tmp_path / "a.jsonl",
        *({"structure": s} for s in (CSCL, document, cartesian, CIF, POSCAR)),
    )
    rows = list(read_rows([path]))
    assert len(rows) == 5
    for row in rows:
        assert is_cscl(row)


def test_what_pymatgen_writes_is_read(tmp_path):
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(4.2), ["Cs+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.to(filename=str(tmp_path / "one.json"))
    structure.to(filename=str(tmp_path / "two.cif"))
    structure.to(filename=str(tmp_path / "three.vasp"), fmt="poscar")
    for row in read_rows([tmp_path / "one.json", tmp_path / "two.cif", tmp_path / "three.vasp"]):
        assert is_cscl(row)


def test_documents_choose_no_code_to_run(tmp_path):
    document = sites([{"element": "Cs", "occu": 1}])
    trap = {"@module": "subprocess", "@class": "Popen", "args": ["touch", str(tmp_path / "ran")]}
    document["sites"][0]["properties"] = {"magmom": trap}
    document["properties"] = trap
    assert code_of(document, tmp_path) is None
    assert not (tmp_path / "ran").exists()


def test_oxidation_states_are_dropped(tmp_path):
    species = ["Na+", "Fe3+", "O2-", "Fe2.5+", "Cl0+", "Mn3+,spin=5"]
    document = {
        "lattice": LATTICE,
        "species": species,
        "frac_coords": [[0, 0, i / 6] for i in range(6)],
    }
    row = only(read_rows([write_lines(tmp_path / "a.jsonl", {"structure": document})]))
    assert row.crystal.atomic_numbers.tolist() == [11, 26, 8, 26, 17, 25]


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        ("D", "isotope"),
        ("T", "isotope"),
        ("D+", "isotope"),
        ("X", "dummy-species"),
        ("Xa0+", "dummy-species"),
        ("Qq", "unknown-element"),
        ("fe", "unknown-element"),
        ("", "unknown-element"),
        ("😀", "unknown-element"),
        (26, "malformed-structure"),
        (None, "malformed-structure"),
    ],
)
def test_species_that_are_no_elements_are_refused(tmp_path, species, expected):
    document = {"lattice": LATTICE, "species": [species], "frac_coords": [[0, 0, 0]]}
    assert code_of(document, tmp_path) == expected


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (None, "missing-structure"),
        ("", "missing-structure"),
        (" \n", "missing-structure"),
        (3, "malformed-structure"),
        ([], "malformed-structure"),
        ({}, "malformed-structure"),
        ({**CSCL, "lattice": None}, "no-lattice"),
        ({**CSCL, "lattice": [[1, 0], [0, 1]]}, "malformed-structure"),
        ({**CSCL, "lattice": "cubic"}, "malformed-structure"),
        ({**CSCL, "frac_coords": [[0, 0, 0]]}, "malformed-structure"),
        ({**CSCL, "frac_coords": [[0, 0, 0], [1, 2]]}, "malformed-structure"),
        ({**CSCL, "frac_coords": {"0": 1}}, "malformed-structure"),
        ({**CSCL, "frac_coords": [[0, 0, 10**400], [0, 0, 0]]}, "malformed-structure"),
        ({**CSCL, "species": "CsCl"}, "malformed-structure"),
        ({**sites([{"element": "Cs", "occu": 1}]), "@class": "Popen"}, "malformed-structure"),
        (sites([{"element": "Cs", "occu": 0.5}]), "disordered"),
        (sites([{"element": "Cs", "occu": 0.5}, {"element": "K", "occu": 0.5}]), "disordered"),
        (sites([]), "disordered"),
        (sites([{"element": "Cs", "occu": "much"}]), "disordered"),
        (sites([{"occu": 1}]), "malformed-structure"),
        (sites("Cs"), "malformed-structure"),
        ({"lattice": LATTICE, "sites": 5}, "malformed-structure"),
    ],
)
def test_unusable_documents_are_refused_with_their_reason(tmp_path, structure, expected):
    assert code_of(structure, tmp_path) == expected


def test_unusable_texts_are_refused_with_their_reason(tmp_path):
    no_type = CIF.replace("_atom_site_type_symbol\n", "").replace("Cl1 Cl-", "O1")
    blocks = " ".join(["1"] * 130)  # more than there are elements; as ASE writes it for VASP 4
    unnamed = POSCAR[: POSCAR.index("Cs Cl\n")] + blocks + "\nDirect\n" + "0 0 0.1\n" * 130
    cases = [
        (CIF.replace("Cl- 0.5 0.5 0.5 1.0", "Cl- 0.5 0.5 0.5 0.6"), "disordered"),
        (CIF + "K1 K+ 0 0 0 0.5\n", "disordered"),  # occupancies of 1.5 on one site
        (CIF.replace("Cs1 Cs+", "D1 D"), "isotope"),
        (no_type.replace("Cs1 Cs+", "T1"), "isotope"),  # a tetrahedral site of a zeolite
        (CIF.replace("Cs1 Cs+", "X1 X"), "dummy-species"),
        (CIF + CIF.replace("data_CsCl", "data_more"), "many-structures"),
        (CIF.replace("_cell_length_a 4.2\n", ""), "parse-error"),
        (CIF[:200], "parse-error"),
        ("data_\n", "parse-error"),
        ("hello", "parse-error"),
        (POSCAR.replace("Cs Cl\n", "").replace("CsCl", "?"), "missing-elements"),
        (unnamed, "missing-elements"),
        (POSCAR.replace("Cs Cl\n", "D Cl\n"), "isotope"),
        (POSCAR.replace("Cs Cl\n", "T Cl\n"), "isotope"),
        (POSCAR.replace("Cs Cl\n", "Xx Cl\n"), "dummy-species"),
        (POSCAR.replace("0.5 0.5 0.5\n", ""), "parse-error"),
    ]
    path = write_lines(tmp_path / "a.jsonl", *({"structure": text} for text, _ in cases))
    assert codes(read_rows([path])) == [code for _, code in cases]


def test_a_text_that_hangs_the_parser_costs_its_row_only(tmp_path):
    # A scale factor makes no sense of this number of atoms, but the parser tries.
    endless = POSCAR.replace("\n1 1\n", "\n400000000 1\n")
    path = write_lines(tmp_path / "a.jsonl", *({"structure": s} for s in (CIF, endless, CIF)))
    start = time.perf_counter()
    rows = list(read_rows([path], limits=Limits(parse_seconds=1, parse_bytes=256 << 20)))
    assert time.perf_counter() - start < 30
    assert rows[1].error.code in {"parse-timeout", "parse-memory", "parse-crash"}
    assert is_cscl(rows[0])
    assert is_cscl(rows[2])


def test_a_parser_that_takes_too_long_is_stopped(tmp_path):
    atoms = "".join(
        f"Cs{i} Cs {i % 97 / 97} {i % 89 / 89} {i % 83 / 83} 1.0\n" for i in range(30_000)
    )
    slow_text = CIF.replace("'P 1'", "'P m -3 m'") + atoms  # 48 images of each
    path = write_lines(tmp_path / "a.jsonl", {"structure": slow_text}, {"structure": POSCAR})
    slow, fast = read_rows([path], limits=Limits(parse_seconds=0.3))
    assert slow.error.code == "parse-timeout"
    assert "0.3 s" in slow.error.message
    assert is_cscl(fast)


def test_the_parser_starts_only_for_texts(tmp_path):
    write_lines(tmp_path / "a.jsonl", {"structure": CSCL})
    program = (
        "import sys; from pathlib import Path\n"
        "from moma_cl.core import worker_process\n"
        "def refuse(*args, **kwargs): raise AssertionError\n"
        "worker_process.subprocess.Popen = refuse\n"
        "from moma_cl.readers.dispatch import read_rows\n"
        f"rows = list(read_rows([Path({str(tmp_path / 'a.jsonl')!r})]))\n"
        "assert rows[0].error is None\n"
        "assert not any(name.startswith('pymatgen') for name in sys.modules)\n"
    )
    run_python(program)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"not json", "not-json"),
        (b"[1, 2]", "not-json"),
        (b'"text"', "not-json"),
        (b'{"id": "a", "id": "b"}', "duplicate-key"),
        (b'{"structure": {"lattice": 1, "lattice": 2}}', "duplicate-key"),
        (b'{"id": "\xff"}', "not-text"),
        (b"[" * 200_000, "not-json"),
        (b'{"x": ' + b"1" * 5000 + b"}", "not-json"),
        (b'{"id": ["a"], "structure": null}', "bad-id"),
        (b'{"id": true, "structure": null}', "bad-id"),
        (b'{"id": "a\\nb", "structure": null}', "bad-id"),
        (b'{"id": "\\ud800", "structure": null}', "bad-id"),
        (b'{"id": "' + b"a" * 600 + b'", "structure": null}', "bad-id"),
        (b'{"pad": "' + b"a" * 300_000 + b'"}', "too-long"),
        (b"\x00\x01\x02", "not-json"),
    ],
)
def test_a_bad_line_is_one_bad_row(tmp_path, line, expected):
    path = tmp_path / "a.jsonl"
    good = json.dumps({"structure": CSCL}).encode()
    path.write_bytes(b"\n".join([good, line, good]))
    rows = list(read_rows([path], limits=Limits(text_bytes=250_000)))
    assert codes(rows) == [None, expected, None]
    assert rows[1].source == f"{path}:2"
    rows[1].error.message.encode()  # can be printed


def test_a_truncated_archive_gives_the_rows_before_the_cut(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    rng = np.random.default_rng(0)
    rows = [{"id": str(i), "structure": CSCL, "noise": rng.random(20).tolist()} for i in range(300)]
    with gzip.open(path, "wt") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    *good, last = read_rows([path])
    assert len(good) > 10
    assert all(row.error is None for row in good)
    assert last.error.code == "truncated"
    path.write_bytes(b"this is no archive")
    assert only(read_rows([path])).error.code == "truncated"


def test_a_decompression_bomb_is_given_up_soon(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(64):
            stream.write(b" " * (1 << 20))
    rows = list(read_rows([path], limits=Limits(text_bytes=1 << 20)))
    assert [row.error.code for row in rows] == ["too-long", "truncated"]


def test_missing_and_unreadable_sources_are_rows_or_errors(tmp_path):
    fifo, archive = tmp_path / "pipe.jsonl", tmp_path / "model.pt"
    os.mkfifo(fifo)
    archive.write_bytes(b"\x80\x04K\x01.")
    sources = [tmp_path / "none.cif", fifo, archive]
    codes = [row.error.code for row in read_rows(sources)]
    assert codes == ["not-found", "unreadable", "unknown-format"]
    with pytest.raises(NotFoundError, match=r"none\.cif"):
        list(read_rows([tmp_path / "none.cif"], strict=True))
    with pytest.raises(InvalidInputError, match="of no known kind"):
        list(read_rows([archive], strict=True))


def test_a_folder_of_files_gives_a_row_for_each(tmp_path):
    (tmp_path / "b.cif").write_bytes(CIF.encode() + "# 4.2 Å\n".encode("latin-1"))
    (tmp_path / "POSCAR").write_text(POSCAR)
    (tmp_path / "c.cif").write_bytes(b"\0" * 10)
    (tmp_path / "d.cif").write_text("")
    (tmp_path / "e.cif").write_text("x" * 2_000_000)
    (tmp_path / "README").write_text("hello")
    (tmp_path / ".hidden").write_text("hello")
    (tmp_path / "sub").mkdir()
    rows = {row.id: row for row in read_rows([tmp_path], limits=Limits(text_bytes=1_000_000))}
    assert is_cscl(rows.pop("b"))
    assert is_cscl(rows.pop("POSCAR"))
    assert {name: row.error.code for name, row in rows.items()} == {
        "c": "not-text",
        "d": "missing-structure",
        "e": "too-long",
        "README": "unknown-format",
        "sub": "unknown-format",
    }


@pytest.mark.parametrize("header", ["", "id,tc,source\n"])
def test_a_table_gives_ids_and_values(tmp_path, header):
    (tmp_path / "id_prop.csv").write_text(
        header + f"a,1.5,icsd\nb,,mp\nmissing,2\n../a,3\nc,-1e3\n\n{'x' * 400},4\nPOSCAR_d,nan\n"
    )
    (tmp_path / "a.cif").write_text(CIF)
    for name in ("b.vasp", "c", "POSCAR_d"):
        (tmp_path / name).write_text(POSCAR)
    rows = list(read_rows([tmp_path]))
    first, second = ("tc", "source") if header else ("value", "value_2")
    assert [row.id for row in rows if row.error is None] == ["a", "b", "c", "POSCAR_d"]
    assert [row.error.code for row in rows if row.error] == [
        "missing-structure",
        "bad-id",
        "unreadable",
    ]
    assert rows[0].values == {first: 1.5, second: "icsd"}
    assert rows[1].values == {first: None, second: "mp"}
    assert rows[4].values == {first: -1000.0}
    assert is_cscl(rows[0])
    assert is_cscl(rows[4])


def test_reading_compact_rows_is_fast(tmp_path):
    line = json.dumps({"id": "a", "structure": CSCL, "tc": 1.0}) + "\n"
    path = write_lines(tmp_path / "a.jsonl", *([line] * 10_000))
    start = time.perf_counter()
    assert sum(row.error is None for row in read_rows([path])) == 10_000
    assert time.perf_counter() - start < 5  # about 0.3 s on a quiet machine


def mutated(text, rng):
    """A text with some characters changed, dropped, doubled or replaced by troublesome ones."""
    troublesome = ["99999999", "1e30", "-", "?", "(", "'", "\n", "loop_\n", ";", "nan", "\u00e5"]
    for _ in range(rng.choice([1, 2, 5, 20])):
        start = rng.randrange(len(text))
        stop = min(len(text), start + rng.choice([0, 1, 1, 5, 40]))
        middle = rng.choice(["", text[start:stop] * 2, rng.choice(troublesome)])
        text = text[:start] + middle + text[stop:] or "x"
    return text


@pytest.mark.parametrize("count", [400, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_mutated_texts_never_end_the_run(tmp_path, count, capsys):
    rng = random.Random(count)
    texts = (mutated(rng.choice([CIF, POSCAR]), rng) for _ in range(count))
    path = write_lines(tmp_path / "a.jsonl", *({"structure": text} for text in texts))
    outcomes = Counter()
    for row in read_rows([path], limits=Limits(parse_seconds=5)):
        problem = row.error or check_crystal(row.crystal)
        outcomes[problem.code if problem else "good"] += 1
    with capsys.disabled():
        print(f"\n{count:,} mutated texts: {dict(outcomes)}")  # noqa: T201  promised count
    assert outcomes.total() == count
    assert outcomes["good"] > 0.02 * count
    assert outcomes["parse-error"] > 0.1 * count
