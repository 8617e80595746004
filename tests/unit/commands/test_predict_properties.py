"""Answers by property: no hub, no data, the modules that ship with the package."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import moma_cl
from moma_cl.commands import predict_properties
from moma_cl.commands.archive import export
from moma_cl.commands.predict_properties import iter_predictions, predict
from moma_cl.hub import Hub
from moma_cl.records.records import Module
from moma_cl.starter import modules as starter_modules
from moma_store.errors import InvalidInputError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.rows import made_up_rows

CHGNET = starter_modules.archive_of("chgnet")
NAMES = {"lab_energy": "formation_energy", "lab_modulus": "bulk_modulus", "lab_gap": "band_gap"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hub with three trained modules, one of a logarithm, and the archive of them."""
    folder = tmp_path_factory.mktemp("shipped")
    hub = hubs.make_hub(folder / "hub", salt="elsewhere")
    rows = [{**row, "modulus": np.log10(row["modulus"])} for row in made_up_rows(240)]
    options = {"compose": False}
    add = hubs.add_task
    add(hub, "lab_energy", rows, target="energy", unit="eV/atom", property="e_form", **options)
    add(hub, "lab_gap", rows, target="gap", unit="eV", property="band_gap", **options)
    add(
        *(hub, "lab_modulus", rows),
        **{"target": "modulus", "unit": "log10(GPa)", "property": "bulk_modulus", **options},
    )
    Hub(hub).update()
    export(hub, folder / "cgcnn.moma", modules=sorted(NAMES))
    return folder


@pytest.fixture
def ships(made, monkeypatch):
    monkeypatch.setattr(starter_modules, "FOLDER", made)


pytestmark = pytest.mark.usefixtures("ships")


def test_each_structure_has_a_row_for_each_property(made_up):
    answers = predict(made_up(3, first=300), ["bulk_modulus", "formation_energy"])
    assert [(row.id, row.property) for row in answers] == [
        (f"row-{number}", name)
        for number in (300, 301, 302)
        for name in ("bulk_modulus", "formation_energy")
    ]
    assert [(row.unit, row.module) for row in answers[:2]] == [
        ("GPa", "lab_modulus@cgcnn"),
        ("eV/atom", "lab_energy@cgcnn"),
    ]
    for row in answers:
        assert (row.status, row.level, row.calibration) == ("ok", 0.9, "held-out")
        assert row.lower < row.value < row.upper
    frame = answers.to_frame()
    assert frame["property"].tolist() == ["bulk_modulus", "formation_energy"] * 3


def test_a_module_answers_with_its_readout_in_its_unit(made, made_up):
    rows = made_up(40, first=300)
    (energies,) = (predict(rows, "formation_energy").values,)
    errors = np.abs(energies - [row["energy"] for row in rows])
    with Store.open(made / "hub") as store:
        module = Module.from_doc(store.record(store.ref("modules/lab_energy@cgcnn")))
    assert (module.target, module.property) == ("energy", "formation_energy")
    assert module.answers["unit"] == "eV/atom"
    assert 0 < module.answers["mae"] < module.answers["mae_of_median"]
    assert errors.mean() < module.answers["mae_of_median"]


def test_what_was_learned_as_a_logarithm_is_answered_in_its_plain_unit(made_up):
    rows = made_up(30, first=300)
    answers = predict(rows, "bulk_modulus")
    measured = np.array([row["modulus"] for row in rows])
    assert np.abs(np.log10(answers.values) - np.log10(measured)).mean() < 0.3
    wide = predict(rows, "bulk_modulus", level=0.97)
    assert all(row.lower >= 0 for row in wide)
    ratios = [row.upper / row.value - row.value / row.lower for row in answers]
    assert ratios == pytest.approx([0.0] * len(rows), abs=1e-6)  # symmetric as a logarithm


def test_a_wider_level_has_wider_intervals(made_up):
    rows = made_up(5, first=300)
    narrow, wide = (predict(rows, "band_gap", level=level) for level in (0.5, 0.9))
    assert narrow.values.tolist() == wide.values.tolist()
    for small, large in zip(narrow, wide, strict=True):
        assert large.upper - large.lower > small.upper - small.lower


def test_a_bad_structure_stops_neither_rows_nor_properties(made_up):
    good, bad = made_up(2, first=300)
    bad["structure"]["frac_coords"][1] = [0.0, 0.0, 0.01]
    answers = predict([bad, good], "formation_energy,band_gap")
    statuses = [row.status for row in answers]
    assert statuses[0] == statuses[1] == "overlapping-atoms"
    assert statuses[2:] == ["ok", "ok"]
    assert (answers[0].value, answers[0].property) == (None, "formation_energy")


def test_elements_that_the_module_has_not_seen_are_outside(made_up):
    (row,) = made_up(1)
    row["structure"]["species"] = ["U", "O"]
    (answer,) = predict([row], "band_gap")
    assert (answer.applicability, answer.unseen_elements) == ("outside", ("U",))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"properties": "density"}, "'density'.*band_gap, bulk_modulus, formation_energy"),
        ({"properties": []}, "no property is named"),
        ({"properties": "band_gap", "level": 1.0}, "is no coverage"),
        ({"properties": "band_gap", "structures": 7}, "type int"),
    ],
)
def test_bad_questions_are_refused_before_anything_is_loaded(options, expected, monkeypatch):
    monkeypatch.setattr(predict_properties, "_load", None)
    with pytest.raises(InvalidInputError, match=expected):
        iter_predictions(**{"structures": [], **options})  # not even asked for a row


def test_modules_are_loaded_once_and_threads_share_them(made_up, monkeypatch):
    kept = predict_properties._LoadedModules()
    loads = []
    load = predict_properties._load
    monkeypatch.setattr(predict_properties, "_loaded_modules", lambda: kept)
    monkeypatch.setattr(
        predict_properties, "_load", lambda *given: loads.append(given[0].module) or load(*given)
    )
    rows = made_up(6, first=300)
    alone = predict(rows, "band_gap,formation_energy").values.tolist()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(predict, rows, "band_gap,formation_energy") for _ in range(8)]
        answers = [one.result().values.tolist() for one in asked]
    assert answers == [alone] * 8
    assert sorted(loads) == ["lab_energy@cgcnn", "lab_gap@cgcnn"]


def test_the_answers_say_which_values_a_name_means(made, made_up, tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    shutil.copytree(made / "hub", hub)
    rows = [{**row, "band_gap_hse": row["gap"]} for row in made_up(200)]
    hubs.add_task(hub, "hse", rows, target="band_gap_hse", unit="eV")
    export(hub, tmp_path / "cgcnn.moma", modules=["lab_gap", "hse"])
    monkeypatch.setattr(starter_modules, "FOLDER", tmp_path)
    (plain,) = predict(made_up(1), "band_gap")
    assert plain.module == "hse@cgcnn"  # its column is in the table of properties
    assert plain.message == "band_gap_hse is meant; there are also gap"
    (explicit,) = predict(made_up(1), "gap")
    assert (explicit.module, explicit.property, explicit.message) == ("lab_gap@cgcnn", "gap", "")


def test_graphs_of_two_backbones_are_each_their_own(made, made_up, monkeypatch, tmp_path):
    for path in (made / "cgcnn.moma", CHGNET):
        shutil.copy(path, tmp_path)
    rows = made_up(3, first=300)
    alone = predict(rows, "lab_gap").values.tolist()
    monkeypatch.setattr(starter_modules, "FOLDER", tmp_path)
    both = predict(rows, "mp_band_gap_pbe,lab_gap,mp_formation_energy")
    assert [row.module for row in both[:3]] == [
        "mp_band_gap_pbe@chgnet",
        "lab_gap@cgcnn",
        "mp_formation_energy@chgnet",
    ]
    assert both.values[1::3].tolist() == alone


def test_the_package_exports_it():
    assert moma_cl.predict is predict


def test_an_answer_has_the_fields_of_a_task_as_json(made_up):
    (row,) = predict(made_up(1), "band_gap").to_dicts()
    assert row["task"] == ""
    assert json.loads(json.dumps(row))["module"] == "lab_gap@cgcnn"
