"""The layouts of JSON that programs and databases of the field write."""

import json

import numpy as np
import pytest

from moma_cl.readers.dispatch import read_rows
from moma_cl.readers.memory import sources_of
from tests.helpers.cscl import CIF, CSCL, LATTICE, codes, is_cscl

POSITIONS = [[0, 0, 0], [2.1, 2.1, 2.1]]
SITES = {
    "lattice": {"matrix": LATTICE},
    "sites": [
        {"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0]},
        {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ],
}
JARVIS = {
    "lattice_mat": LATTICE,
    "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "elements": ["Cs", "Cl"],
    "abc": [4.2, 4.2, 4.2],
    "angles": [90, 90, 90],
    "cartesian": False,
    "props": ["", ""],
}
ASE = {"numbers": [55, 17], "positions": POSITIONS, "cell": LATTICE, "pbc": [True, True, True]}
SPECIES = [
    {"name": "metal", "chemical_symbols": ["Cs"], "concentration": [1.0]},
    {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]},
]
OPTIMADE = {
    "lattice_vectors": LATTICE,
    "cartesian_site_positions": POSITIONS,
    "species_at_sites": ["metal", "Cl"],
    "species": SPECIES,
    "dimension_types": [1, 1, 1],
    "nsites": 2,
}


def read(tmp_path, document, name="a.json", **said):
    (tmp_path / name).write_text(json.dumps(document))
    return list(read_rows([tmp_path / name], **said))


@pytest.mark.parametrize(
    "structure",
    [
        JARVIS,
        {**JARVIS, "coords": POSITIONS, "cartesian": True},
        ASE,
        {**ASE, "pbc": True},
        OPTIMADE,
        {**OPTIMADE, "species_at_sites": ["Cs", "Cl"], "species": None},
    ],
)
def test_a_structure_is_read_by_itself_in_a_column_and_beside_other_columns(tmp_path, structure):
    (alone,) = read(tmp_path, structure)
    (inside,) = read(tmp_path, [{"jid": "J-1", "atoms": structure, "gap": 1.5}])
    (beside,) = read(tmp_path, [{"jid": "J-1", **structure, "gap": 1.5}])
    assert all(map(is_cscl, (alone, inside, beside)))
    assert alone.id == "a"
    for row in (inside, beside):
        assert (row.id, row.values) == ("J-1", {"gap": 1.5})


def test_a_row_keeps_its_id_and_values_beside_the_compact_form(tmp_path):
    (row,) = read(tmp_path, {"id": "x", **CSCL, "gap": 2.0}, "a.jsonl")
    assert is_cscl(row)
    assert (row.id, row.values) == ("x", {"gap": 2.0})


@pytest.mark.parametrize(
    "wrap", [list, lambda entries: {"meta": {"api_version": "1.1.0"}, "data": entries}]
)
def test_responses_of_optimade_are_read(tmp_path, wrap):
    entries = [
        {"id": f"x{n}", "type": "structures", "attributes": {**OPTIMADE, "_mp_gap": n}}
        for n in range(2)
    ]
    rows = read(tmp_path, wrap(entries))
    assert all(map(is_cscl, rows))
    assert [row.id for row in rows] == ["x0", "x1"]
    assert [row.values["_mp_gap"] for row in rows] == [0, 1]
    (one,) = read(tmp_path, {"data": entries[0], "meta": {}})
    assert is_cscl(one)
    assert one.id == "x0"


@pytest.mark.parametrize("key", ["data", "response", "results"])
def test_rows_of_a_response_are_read_one_by_one(tmp_path, key):
    entries = [{"material_id": "m1", "structure": SITES, "gap": 1.0}, {"material_id": "m2"}]
    good, bad = read(tmp_path, {key: entries, "meta": {"total": 2}})
    assert is_cscl(good)
    assert (good.id, good.values) == ("m1", {"gap": 1.0})
    assert (bad.id, bad.error.code) == ("m2", "missing-structure")


def test_a_column_of_numbers_that_is_called_data_stays_one(tmp_path):
    (row,) = read(tmp_path, {"data": [1, 2], "structure": CSCL})
    assert is_cscl(row)
    assert row.values == {"data": [1, 2]}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"structure_features": ["implicit_atoms"]}, "disordered"),
        ({"structure_features": ["assemblies"]}, "disordered"),
        ({"nsites": 3}, "malformed-structure"),
        ({"species_at_sites": ["Cs"], "nsites": 1}, "malformed-structure"),
        ({"species_at_sites": ["other", "Cl"]}, "unknown-element"),
        ({"species": [*SPECIES, SPECIES[0]]}, "malformed-structure"),
        ({"species": [{**SPECIES[0], "attached": ["H"]}, SPECIES[1]]}, "disordered"),
        ({"species": [{**SPECIES[0], "concentration": [0.9]}, SPECIES[1]]}, "disordered"),
        (
            {"species": [{**SPECIES[0], "chemical_symbols": ["Cs", "vacancy"]}, SPECIES[1]]},
            "malformed-structure",
        ),
        (
            {
                "species": [
                    {
                        "name": "metal",
                        "chemical_symbols": ["Cs", "vacancy"],
                        "concentration": [0.5, 0.5],
                    },
                    SPECIES[1],
                ]
            },
            "disordered",
        ),
        ({"species": [{**SPECIES[0], "chemical_symbols": ["X"]}, SPECIES[1]]}, "dummy-species"),
    ],
)
def test_sites_of_optimade_that_would_be_lost_are_refused(tmp_path, changed, code):
    assert codes(read(tmp_path, {**OPTIMADE, **changed})) == [code]


def test_a_layer_of_optimade_has_no_third_vector(tmp_path):
    layer = {
        **OPTIMADE,
        "dimension_types": [1, 1, 0],
        "lattice_vectors": [*LATTICE[:2], [None] * 3],
    }
    (row,) = read(tmp_path, layer)
    assert row.flags == ("boxed-molecule",)
    assert np.allclose(row.crystal.lattice[:2], LATTICE[:2])


@pytest.mark.parametrize("numbers", [[55, -1], [55, 0], [55, 17.5], [55, 119], [55, "Cl"], 55])
def test_numbers_that_are_no_elements_are_refused(tmp_path, numbers):
    assert codes(read(tmp_path, {**ASE, "numbers": numbers})) == ["malformed-structure"]


def test_what_ase_writes_as_json_is_read(tmp_path):
    from ase import Atoms
    from ase.db import connect
    from ase.io.jsonio import encode

    atoms = Atoms("CsCl", positions=POSITIONS, cell=LATTICE, pbc=True)
    with connect(tmp_path / "rows.json") as database:
        for number in range(2):
            database.write(atoms, gap=number + 0.5, data={"more": [1, 2]})
    rows = list(read_rows([tmp_path / "rows.json"]))
    assert all(map(is_cscl, rows))
    assert [row.values["gap"] for row in rows] == [0.5, 1.5]
    (tmp_path / "one.json").write_text(encode(atoms))
    (row,) = read_rows([tmp_path / "one.json"])
    assert is_cscl(row)
    (row,) = read_rows(sources_of([{"id": "x", "atoms": atoms.todict()}]))
    assert is_cscl(row)
    layer = Atoms("CsCl", positions=POSITIONS, cell=LATTICE, pbc=[True, True, False])
    (tmp_path / "one.json").write_text(encode(layer))
    (row,) = read_rows([tmp_path / "one.json"])
    assert row.flags == ("boxed-molecule",)


@pytest.mark.parametrize("structure", [SITES, CSCL, JARVIS, CIF])
@pytest.mark.parametrize("orient", ["columns", "index", "records", "split", "table"])
def test_a_table_of_pandas_is_read_in_every_form(tmp_path, structure, orient):
    import pandas as pd

    frame = pd.DataFrame({"gap": [1.0, 2.0], "structure": [structure] * 2, "mpid": ["m1", "m2"]})
    frame.to_json(tmp_path / "a.json", orient=orient)
    rows = list(read_rows([tmp_path / "a.json"]))
    assert all(map(is_cscl, rows))
    assert [row.id for row in rows] == ["m1", "m2"]
    assert [row.values["gap"] for row in rows] == [1.0, 2.0]


def test_the_index_of_a_table_of_columns_is_its_id(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"mine": [CSCL, CSCL], "gap": [1.0, 2.0]}, index=["x", "y"])
    frame.to_json(tmp_path / "a.json")
    assert [row.id for row in read_rows([tmp_path / "a.json"]) if is_cscl(row)] == ["x", "y"]
    frame.reset_index(drop=True).to_json(tmp_path / "a.json")
    assert [row.id for row in read_rows([tmp_path / "a.json"]) if is_cscl(row)] == ["a:0", "a:1"]


def test_a_table_too_large_to_read_at_once_says_how_to_write_it(tmp_path):
    from moma_cl.readers.dispatch import Limits

    table = {"structure": {str(n): CSCL for n in range(3000)}}
    (row,) = read(tmp_path, table, limits=Limits(document_bytes=100_000))
    assert row.error.code == "too-long"
    assert "lines=True" in row.error.message


@pytest.mark.parametrize(
    "document",
    [
        {"symbols": ["Cs", "Cl"], "geometry": [0, 0, 0, 4, 4, 4]},
        {"unit_cell": LATTICE, "atoms": ["Cs @ 0 0 0"]},
    ],
)
def test_other_layouts_are_refused_with_those_that_are_read(tmp_path, document):
    (row,) = read(tmp_path, [{"structure": document}])
    assert row.error.code == "malformed-structure"
    assert "JARVIS" in row.error.message
    assert "OPTIMADE" in row.error.message


def test_two_columns_of_one_name_are_refused_wherever_they_are(tmp_path):
    import pandas as pd

    (tmp_path / "a.csv").write_text("path,gap,gap,,\na.cif,1,2,,\n")
    (tmp_path / "id_prop.csv").write_text("id,gap,gap\na,1,2\n")
    split = {"columns": ["gap", "structure", "gap"], "data": [[1, CSCL, 2]]}
    (tmp_path / "a.json").write_text(json.dumps(split))
    frame = pd.DataFrame([[CSCL, 1, 2]], columns=["structure", "gap", "gap"])
    for name in ("a.csv", "id_prop.csv", "a.json"):
        (row,) = read_rows([tmp_path / name])
        assert row.error.code == "repeated-column"
        assert "both called 'gap'" in row.error.message
    from moma_store.errors import InvalidInputError

    with pytest.raises(InvalidInputError, match="columns 2 and 3 of the table"):
        sources_of(frame)


def test_a_key_twice_in_a_frame_is_refused(tmp_path):
    text = '1\nenergy=1 Lattice="4 0 0 0 4 0 0 0 4" energy=2\nCs 0 0 0\n'
    (tmp_path / "a.xyz").write_text(text)
    assert codes(read_rows([tmp_path / "a.xyz"])) == ["malformed-structure"]
    (tmp_path / "a.xyz").write_text(text.replace("energy=2", "energy=1"))
    assert codes(read_rows([tmp_path / "a.xyz"])) == [None]


def test_arrays_count_in_full_for_the_origin_of_rows_in_memory():
    def origin(last):
        positions = np.arange(6000.0).reshape(-1, 3)
        positions[1000, 1] = last
        numbers = np.full(2000, 11)
        return sources_of([{"atoms": {"numbers": numbers, "positions": positions}}]).origin()

    assert origin(1.0) == origin(1.0) != origin(2.0)
