"""The front door: what a program holds in memory is answered as its files are, bit for bit."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

import moma_cl
from moma_cl import Hub, TaskSpec
from moma_cl.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from moma_cl.records.records import ModuleKind


def structure_of(row):
    crystal = row["structure"]
    return Structure(Lattice(crystal["lattice"]), crystal["species"], crystal["frac_coords"])


def atoms_of(row):
    crystal = row["structure"]
    return Atoms(
        crystal["species"],
        cell=crystal["lattice"],
        scaled_positions=crystal["frac_coords"],
        pbc=True,
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory, made_up, short_recipe):
    hub = Hub.create(
        tmp_path_factory.mktemp("front") / "hub", backbones=["cgcnn"], recipe=short_recipe
    )
    hub.add_task("energy", made_up(160), target="energy", unit="eV/atom")
    return hub


@pytest.fixture
def empty_hub(tmp_path, short_recipe):
    return Hub.create(tmp_path / "hub", backbones=["cgcnn"], recipe=short_recipe)


def test_structures_from_memory_and_their_file_get_the_same_bits(hub, made_up, write_rows):
    rows = made_up(300, first=200)
    from_file = hub.predict("energy", write_rows(rows))
    structures = [structure_of(row) for row in rows]
    assert np.array_equal(hub.predict("energy", structures).values, from_file.values)
    assert np.array_equal(hub.predict("energy", rows).values, from_file.values)
    frame = pd.DataFrame({"id": [row["id"] for row in rows], "structure": structures})
    in_table = hub.predict("energy", frame)
    assert np.array_equal(in_table.values, from_file.values)
    assert [row.id for row in in_table] == [row["id"] for row in rows]
    assert [row.lower for row in in_table] == [row.lower for row in from_file]


def test_the_command_line_gives_the_same_bits_as_python(hub, made_up, write_rows):
    rows = made_up(20, first=200)
    path = write_rows(rows)
    command = [sys.executable, "-m", "moma_cli", "--hub", str(hub.path), "predict", "energy"]
    ended = subprocess.run(
        [*command, str(path), "--json"], capture_output=True, text=True, check=True
    )
    told = [row["value"] for row in json.loads(ended.stdout)["data"]]
    assert told == hub.predict("energy", [structure_of(row) for row in rows]).values.tolist()


def test_every_kind_of_structure_is_answered(hub, made_up, tmp_path):
    (row,) = made_up(1, first=250)
    structure = structure_of(row)
    text = str(CifWriter(structure))
    path = tmp_path / "one.cif"
    path.write_text(text)
    expected = hub.predict("energy", structure).values[0]
    assert np.isfinite(expected)
    for data in (
        atoms_of(row),
        [atoms_of(row)],
        text,
        [text],
        path,
        str(path),
        row,
        [row["structure"]],
    ):
        (answer,) = hub.predict("energy", data)
        assert answer.status == "ok"
        assert answer.value == pytest.approx(expected, rel=1e-5)


def test_a_bad_structure_is_a_row_s_status(hub, made_up):
    good = structure_of(made_up(1)[0])
    disordered = Structure(good.lattice, [{"Li": 0.5, "Na": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])
    answers = hub.predict("energy", [good, disordered, 7, "data_x\nnothing"])
    assert [row.status for row in answers] == [
        "ok",
        "disordered",
        "malformed-structure",
        "parse-error",
    ]
    assert np.isnan(answers.values).tolist() == [False, True, True, True]


def test_answers_become_tables(hub, made_up):
    answers = hub.predict("energy", made_up(12), level=0.8, explain=True)
    frame = answers.to_frame()
    assert len(frame) == len(answers) == 12
    assert {"id", "value", "lower", "upper", "unit", "applicability"} <= set(frame.columns)
    assert (frame.lower <= frame.value).all()
    assert frame.level.unique().tolist() == [0.8]
    assert answers.to_dicts()[3]["id"] == "row-3"
    assert answers[3].neighbours[0].id == "row-3"
    assert len(answers[2:5]) == 3
    html = answers._repr_html_()
    assert html.count("<tr>") == 11
    assert "2 more rows" in html


def test_a_predictor_is_loaded_once_until_another_answers(empty_hub, made_up, monkeypatch):
    from moma_cl.commands import ready_predictor

    loaded = []
    load = ready_predictor.load_predictor
    monkeypatch.setattr(
        ready_predictor,
        "load_predictor",
        lambda workspace, digest: loaded.append(digest) or load(workspace, digest),
    )
    hub = empty_hub
    hub.add_task("gap", made_up(40), target="gap", unit="1", compose=False)
    first = hub.predict("gap", made_up(2))
    hub.predict("gap", made_up(3))
    assert len(loaded) == 1
    hub.add_data("gap", made_up(20, first=40))
    second = hub.predict("gap", made_up(2))
    assert len(loaded) == 2
    assert first[0].predictor != second[0].predictor
    assert hub.predict("gap", made_up(2), at=first[0].predictor[:10]).values.tolist() == (
        first.values.tolist()
    )


def test_threads_may_share_a_hub(hub, made_up):
    alone = hub.predict("energy", made_up(30)).values
    shared = Hub(hub.path)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: shared.predict("energy", made_up(30)).values, range(16)))
    assert all(np.array_equal(values, alone) for values in together)


def test_rows_from_memory_are_stored_as_those_of_their_file(tmp_path, short_recipe, made_up):
    rows = made_up(40)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame = pd.DataFrame(
        {"structure": [structure_of(row) for row in rows], "gap": [row["gap"] for row in rows]},
        index=[row["id"] for row in rows],
    )
    values = []
    for number, data in enumerate([file, rows, frame]):
        hub = Hub.create(tmp_path / str(number), backbones=["cgcnn"], recipe=short_recipe)
        added = hub.add_task("gap", data, target="gap", unit="1", compose=False)
        assert (added.rows, added.refusals) == (40, ())
        segment = hub.show("gap").document["dataset"]["segments"][0]
        blob = hub.show(segment["digest"]).document["blob"]
        values.append((blob, hub.predict("gap", rows).values.tolist()))
        assert list(segment["sources"][0]) == ["name", "sha256"]
    assert values[0] == values[1] == values[2]


def test_missing_targets_of_a_table_are_refused_with_their_id(empty_hub, made_up):
    rows = made_up(12)
    frame = pd.DataFrame(
        {
            "id": [row["id"] for row in rows],
            "structure": [structure_of(row) for row in rows],
            "gap": [None, np.nan, *(np.float32(row["gap"]) for row in rows[2:])],
        }
    )
    added = empty_hub.add_task("gap", frame, target="gap", unit="1", compose=False)
    assert added.rows == 10
    assert [refusal.id for refusal in added.refusals] == ["row-0", "row-1"]


def test_targets_of_structures_come_from_their_own_properties(empty_hub, made_up):
    rows = made_up(24)
    pymatgen = [structure_of(row) for row in rows[:12]]
    ase = [atoms_of(row) for row in rows[12:]]
    for structure, row in zip(pymatgen, rows[:12], strict=True):
        structure.properties["gap"] = row["gap"]
    for atoms, row in zip(ase, rows[12:], strict=True):
        atoms.info |= {"gap": row["gap"], "id": row["id"]}
    added = empty_hub.add_task("gap", [*pymatgen, *ase], target="gap", unit="1", compose=False)
    assert added.rows == 24


@pytest.mark.parametrize(
    ("spec", "columns", "message"),
    [
        (None, {}, "needs a TaskSpec"),
        (None, {"target": "gap", "units": "eV"}, "'units'"),
        (TaskSpec(target="gap", unit="eV"), {"unit": "eV"}, "both"),
        (None, {"target": "y"}, "unit"),
        (None, {"target": "gap", "unit": "eV", "transform": "log2"}, "'log2'.*none, log10, log"),
        (None, {"target": "gap", "unit": "eV", "module": "multitask"}, "full, adapter, none"),
    ],
)
def test_a_wrong_specification_is_refused_before_data_are_read(hub, spec, columns, message):
    with pytest.raises(InvalidInputError, match=message):
        hub.add_task("new", "nowhere.jsonl", spec, **columns)


def test_a_specification_is_resolved_once():
    spec = TaskSpec(target="k_vrh", property="bulk_modulus", transform="log10", module="adapter")
    assert (spec.unit, spec.module) == ("GPa", ModuleKind.ADAPTER)
    assert TaskSpec.of(spec.task("k", "formula")) == TaskSpec(
        target="k_vrh", property="bulk_modulus", unit="GPa", transform="log10", module="adapter"
    )


def test_paths_and_structures_are_not_mixed(hub, made_up):
    with pytest.raises(InvalidInputError, match="1 of 2 data are paths"):
        hub.predict("energy", [Path("a.cif"), structure_of(made_up(1)[0])])
    with pytest.raises(InvalidInputError, match="type int"):
        hub.predict("energy", 3)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_refuses_what_the_real_run_refuses(
    tmp_path, short_recipe, made_up, dry_run, monkeypatch
):
    hub = Hub.create(tmp_path / "hub", backbones=["cgcnn"], recipe=short_recipe)
    held_out = [{**row, "fold": "held-out"} for row in made_up(20)]
    with pytest.raises(InvalidInputError, match="every row of column 'fold' is held-out"):
        hub.add_task("gap", held_out, target="gap", unit="1", fold_column="fold", dry_run=dry_run)
    trained = tmp_path / "source"
    other = Hub.create(trained, backbones=["cgcnn"], recipe=short_recipe)
    other.add_task("gap", made_up(60), target="gap", unit="1")
    other.export(tmp_path / "gap.zip", modules=["gap"])
    hub.import_archive(tmp_path / "gap.zip")
    with pytest.raises(AlreadyExistsError, match="a module 'gap' was added"):
        hub.add_task("gap", made_up(20), target="gap", unit="1", dry_run=dry_run)
    assert hub.tasks() == []


def test_a_dry_run_says_what_the_real_run_does_and_writes_nothing(empty_hub, made_up):
    rows = [*made_up(30), {"id": "bad", "structure": None, "gap": 1.0}]
    entries = len(empty_hub.log())
    dry = empty_hub.add_task("gap", rows, target="gap", unit="1", dry_run=True)
    assert len(empty_hub.log()) == entries
    real = empty_hub.add_task("gap", rows, target="gap", unit="1", compose=False)
    for field in ("rows", "added", "folds", "grouping", "refusals"):
        assert getattr(dry, field) == getattr(real, field)
    more = made_up(10, first=25)
    dry = empty_hub.add_data("gap", more, dry_run=True)
    real = empty_hub.add_data("gap", more, compose=False)
    assert (
        (dry.rows, dry.added, dry.repeated) == (real.rows, real.added, real.repeated) == (35, 5, 5)
    )


def test_a_task_that_is_not_there_is_named_with_its_neighbour(hub, made_up):
    with pytest.raises(NotFoundError, match="did you mean 'energy'"):
        hub.predict("enrgy", made_up(1))


def test_the_package_imports_nothing_and_knows_its_names():
    code = (
        "import sys, moma_cl; heavy = {'torch', 'numpy', 'zarr', 'pymatgen', 'lmdb', 'typing'};"
        "assert not {'torch', 'numpy', 'zarr', 'pymatgen', 'lmdb'} & sys.modules.keys();"
        "assert [name for name in moma_cl.__all__ if getattr(moma_cl, name) is None] == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(dir(moma_cl)) == set(moma_cl.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        moma_cl.nothing  # noqa: B018
