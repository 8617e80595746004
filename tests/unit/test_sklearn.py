"""The estimator works with the tools of scikit-learn, and answers as a hub does, bit for bit."""

import doctest
import io
from copy import deepcopy
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import moma_cl.sklearn
from moma_cl.errors import BackboneError, InvalidInputError, NotFoundError
from moma_cl.hub import Hub
from moma_cl.sklearn import MomaRegressor
from moma_cl.structures.elements import SYMBOLS
from tests.helpers.hubs import refs
from tests.helpers.rows import made_up_rows

QUICK = {"backbones": ["cgcnn"], "compose": False}


def structure_of(row):
    crystal = row["structure"]
    return Structure(Lattice(crystal["lattice"]), crystal["species"], crystal["frac_coords"])


def structures_and_gaps(n_rows, **options):
    rows = made_up_rows(n_rows, **options)
    return [structure_of(row) for row in rows], np.array([row["gap"] for row in rows])


@pytest.fixture(scope="module")
def data():
    return structures_and_gaps(60)


@pytest.fixture(scope="module")
def fitted(data):
    return MomaRegressor(**QUICK).fit(*data)


@pytest.fixture
def temporary_folders(tmp_path, monkeypatch):
    """The folder in which temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


# answers


@pytest.mark.parametrize("compose", [False, True])
def test_the_estimator_answers_as_a_hub_with_the_same_rows(tmp_path, short_recipe, compose):
    structures, gaps = structures_and_gaps(160)
    new, _ = structures_and_gaps(40, first=160)
    options = {"unit": "eV", "property": "band_gap", "module": "full"}
    regressor = MomaRegressor(backbones=["cgcnn"], recipe=short_recipe, compose=compose, **options)
    regressor.fit(structures, gaps)
    hub = Hub.create(tmp_path / "hub", backbones=["cgcnn"], recipe=short_recipe)
    rows = [
        {"id": str(position), "structure": structure, "y": gap}
        for position, (structure, gap) in enumerate(zip(structures, gaps, strict=True))
    ]
    hub.add_task("gap", rows, target="y", compose=compose, **options)
    answers = hub.predict("gap", new, level=0.8)
    assert np.array_equal(regressor.predict(new), answers.values)
    lower, upper = regressor.predict_interval(new, level=0.8)
    assert lower.tolist() == [row.lower for row in answers]
    assert upper.tolist() == [row.upper for row in answers]
    assert (regressor.unit_, regressor.n_structures_) == ("eV", 160)
    assert regressor.calibration_ == answers[0].calibration


def test_it_learns(fitted, data):
    new, gaps = structures_and_gaps(40, first=60)
    assert fitted.score(*data) > 0.9
    assert fitted.score(new, gaps) > 0.5
    lower, upper = fitted.predict_interval(new)
    narrow_lower, narrow_upper = fitted.predict_interval(new, level=0.5)
    assert (lower <= narrow_lower).all()
    assert (narrow_upper <= upper).all()


def test_every_form_of_structures_is_taken(fitted, data):
    structures, _ = data
    few = structures[:5]
    rows = made_up_rows(5)
    array = np.empty(5, dtype=object)
    array[:] = few
    expected = fitted.predict(few)
    frame = pd.DataFrame({"id": range(5), "structure": few})
    for given in (
        tuple(few),
        array,
        array[:, None],
        frame["structure"],
        frame[["structure"]].rename(columns={"structure": "crystal"}),
        frame,
        rows,
        [row["structure"] for row in rows],
        [structure.as_dict() for structure in few],
    ):
        assert np.array_equal(fitted.predict(given), expected)
    atoms = [
        Atoms(
            row["structure"]["species"],
            cell=row["structure"]["lattice"],
            scaled_positions=row["structure"]["frac_coords"],
            pbc=True,
        )
        for row in rows
    ]
    cifs = pd.Series([str(CifWriter(structure)) for structure in few])
    for given in (atoms, cifs):
        assert fitted.predict(given) == pytest.approx(expected, rel=1e-5)
    assert fitted.predict([]).shape == (0,)


def test_own_ids_and_targets_of_rows_are_ignored(fitted, data):
    _, gaps = data
    rows = [
        {"id": "same", "structure": row["structure"], "target": 1.0, "unit": "GPa"}
        for row in made_up_rows(60)
    ]
    again = MomaRegressor(**QUICK).fit(rows, gaps.tolist())
    assert np.array_equal(again.predict(rows), fitted.predict(rows))


# what is refused


def bad(structure):
    return Structure(structure.lattice, [{"Li": 0.5, "Na": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])


def test_bad_structures_are_named_by_position(fitted, data):
    structures, gaps = data
    given = [structures[0], bad(structures[0]), structures[1], 7, Path("a.cif")]
    message = r"3 of 5 rows cannot be used.* from 0: 1: disordered.*; 3: the structure.*; 4: "
    with pytest.raises(InvalidInputError, match=message):
        fitted.predict(given)
    with pytest.raises(InvalidInputError, match=message):
        fitted.predict_interval(given)
    with pytest.raises(InvalidInputError, match=message):
        MomaRegressor(**QUICK).fit(given, gaps[:5])
    with pytest.raises(InvalidInputError, match=r"8 of 8 rows .*; also 5, 6, 7$"):
        fitted.predict([7] * 8)


def test_targets_without_a_transform_are_named_by_position(data):
    structures, gaps = data
    with pytest.raises(InvalidInputError, match=r"1 of 60 rows .* 3: .*log10"):
        MomaRegressor(target_transform="log10", **QUICK).fit(
            structures, np.where(np.arange(60) == 3, -1.0, gaps)
        )


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"unit": "furlongs of nothing"}, InvalidInputError, "furlong"),
        ({"unit": ""}, InvalidInputError, "unit"),
        ({"target_transform": "log2"}, InvalidInputError, "'log2'.*none, log10, log"),
        ({"module": "multitask"}, InvalidInputError, "full, adapter, none"),
        ({"backbones": ["nothing"]}, BackboneError, "nothing"),
        ({"hub": "nowhere"}, NotFoundError, "nowhere"),
    ],
)
def test_a_parameter_is_checked_when_it_is_used(
    data, parameters, error, message, temporary_folders
):
    regressor = MomaRegressor(**QUICK | parameters)
    with pytest.raises(error, match=message):
        regressor.fit(*data)
    assert list(temporary_folders.iterdir()) == []


def test_what_is_no_row_of_structures_is_refused(fitted, data):
    structures, gaps = data
    atoms = Atoms("Li", cell=[3, 3, 3], pbc=True)
    for one in (structures[0], atoms, "data_x\n", made_up_rows(1)[0], Path("folder")):
        with pytest.raises(InvalidInputError, match="X is one object of type"):
            fitted.predict(one)
    table = pd.DataFrame({"a": structures, "b": structures})
    with pytest.raises(InvalidInputError, match="table without a column of structures"):
        fitted.predict(table)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MomaRegressor(**QUICK).fit(structures, gaps[1:])
    with pytest.raises(InvalidInputError, match="nothing to learn"):
        MomaRegressor(**QUICK).fit(structures, np.ones(60))
    with pytest.raises(InvalidInputError, match=r"level 1\.5"):
        fitted.predict_interval(structures, level=1.5)
    with pytest.raises(NotFittedError):
        MomaRegressor().predict(structures)


# the tools of scikit-learn


def test_a_clone_is_not_fitted_and_a_copy_is(fitted, data, temporary_folders):
    structures, _ = data
    with pytest.raises(NotFittedError):
        clone(fitted).predict(structures)
    copied = deepcopy(fitted)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    for other in (copied, joblib.load(file)):
        assert other.get_params() == fitted.get_params()
        assert np.array_equal(other.predict(structures), fitted.predict(structures))
    assert list(temporary_folders.iterdir()) == []


def test_the_archive_is_a_hub(fitted, data, tmp_path):
    structures, _ = data
    archive = tmp_path / "hub.moma"
    archive.write_bytes(fitted.archive_)
    hub = Hub(tmp_path / "hub")
    hub.import_archive(archive)
    values = hub.predict(fitted.task_, structures).values
    assert np.array_equal(values, fitted.predict(structures))


def test_scores_are_cross_validated(data, temporary_folders):
    structures, gaps = data
    folds = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(MomaRegressor(**QUICK), structures, gaps, cv=folds)
    assert scores.mean() > 0.7
    assert list(temporary_folders.iterdir()) == []


def test_an_estimator_ends_a_pipeline_and_is_searched(data, short_recipe):
    structures, gaps = data
    rows = pd.DataFrame({"structure": structures, "number": range(60)})
    take = FunctionTransformer(lambda table: table["structure"])
    pipeline = make_pipeline(take, MomaRegressor(**QUICK))
    grid = {
        "momaregressor__target_transform": ["none", "log10"],
        "momaregressor__recipe": [short_recipe],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(rows, gaps)
    assert len(search.cv_results_["params"]) == 2
    assert search.predict(rows[:4]).shape == (4,)


@pytest.mark.slow
def test_fits_run_beside_each_other(data):
    structures, gaps = data
    regressor = MomaRegressor(**QUICK)
    alone = cross_validate(regressor, structures, gaps, cv=2, return_estimator=True)
    beside = cross_validate(regressor, structures, gaps, cv=2, return_estimator=True, n_jobs=2)
    assert np.array_equal(alone["test_score"], beside["test_score"])
    for one, other in zip(alone["estimator"], beside["estimator"], strict=True):
        assert np.array_equal(one.predict(structures), other.predict(structures))


# modules of a hub


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.zip")}


def test_modules_of_a_hub_help_and_the_hub_stays_as_it_is(tmp_path, short_recipe, made_up):
    hub = Hub.create(tmp_path / "lab", backbones=["cgcnn"], recipe=short_recipe, salt="mine")
    for name in ("task", "energy"):
        hub.add_task(name, made_up(160), target="energy", unit="eV/atom")
    before = content_of(hub.path), len(hub.log())
    structures, gaps = structures_and_gaps(60, first=100)
    regressor = MomaRegressor(hub=hub.path).fit(structures, gaps)
    assert (content_of(hub.path), len(hub.log())) == before
    assert regressor.task_ == "task_"
    archive = tmp_path / "fitted.moma"
    archive.write_bytes(regressor.archive_)
    own = Hub(tmp_path / "own")
    own.import_archive(archive)
    assert {module.name for module in own.modules()} == {"task", "energy"}
    assert own.show("hub").document["salt"] == "mine"
    assert own.show("hub/recipe").document == short_recipe.to_doc()
    assert refs(own.path, "backbones/") == refs(hub.path, "backbones/")


def test_a_step_that_fails_is_a_warning(data, monkeypatch, short_recipe):
    from moma_cl.reconciling.pass_actions import Done, PassAction

    failed = Done(task="task", action=PassAction.FAILED, kind="module", text="broken", seconds=0.0)
    monkeypatch.setattr(Hub, "update", lambda self: [failed])
    with pytest.warns(RuntimeWarning, match="broken"):
        MomaRegressor(backbones=["cgcnn"], recipe=short_recipe).fit(*data)


# the checks of scikit-learn itself


def crystal_of(numbers):
    """A crystal of dimers, one for each number: of elements of its own, as long as it says."""
    cell = np.diag([8.0, 8.0, 8.0 * len(numbers)])
    bonds = 2.0 + 0.8 * np.tanh(np.asarray(numbers, dtype=np.float64) / 3)
    positions, species = [], []
    for place, bond in enumerate(bonds):
        positions += [[0.0, 0.0, 8.0 * place], [bond, 0.0, 8.0 * place]]
        species += [SYMBOLS[3 + 2 * place % 80], SYMBOLS[4 + 2 * place % 80]]
    return {"lattice": cell.tolist(), "species": species, "positions": positions}


class OnRowsOfNumbers(MomaRegressor):
    """Stands a crystal for each row of numbers, which is what the checks are made of."""

    def fit(self, X, y):
        X = validate_data(self, X, dtype=np.float64)
        return super().fit([crystal_of(row) for row in X], y)

    def _answers(self, X, level=None):
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return super()._answers([crystal_of(row) for row in X], level)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.input_tags.string = False
        tags.input_tags.dict = False
        return tags


@parametrize_with_checks([OnRowsOfNumbers(**QUICK)])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_example_of_the_class_runs():
    assert doctest.testmod(moma_cl.sklearn).failed == 0


def test_targets_that_grow_with_the_cell_are_refused_unless_stated_not_to():
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5] * 3]
    )
    structures = [cell * (1 + index % 3, 1, 1) for index in range(12)]
    totals = [-5.0 * len(structure) - 0.01 * index for index, structure in enumerate(structures)]
    regressor = MomaRegressor(backbones=["cgcnn"], unit="eV", compose=False)
    with pytest.raises(InvalidInputError) as refused:
        regressor.fit(structures, totals)
    assert refused.value.code == "invalid-input.grows-with-cell"
    assert clone(regressor).set_params(intensive=True).fit(structures, totals).n_structures_ == 12
