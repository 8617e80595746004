"""``add-backbone``, and archives between hubs of several backbones."""

import shutil
from pathlib import Path

import pytest

from moma_cl.commands import add_backbone, add_module, init
from moma_cl.hub import Hub
from moma_cl.records.hub import is_hub
from moma_cl.records.records import ModuleKind
from moma_cl.starter import modules as starter_modules
from moma_store.errors import (
    AlreadyExistsError,
    BackboneError,
    InvalidInputError,
    NotFoundError,
)
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.archives import TakenApart
from tests.helpers.hubs import memo_results, refs
from tests.helpers.rows import made_up_rows
from tests.helpers.second_backbone import BOTH, BOTH_TUNED, CGCNN, SECOND

pytestmark = pytest.mark.usefixtures("second_backbone")

RECIPE = hubs.short_recipe(1, predictor=BOTH_TUNED)
HEAVY = {  # uranium, which only one of the backbones knows
    "id": "heavy",
    "structure": {
        "lattice": [[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]],
        "species": ["U", "O"],
        "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
    },
    "energy": -9.0,
}


@pytest.fixture(scope="module")
def made(second_backbone, tmp_path_factory) -> Path:
    """A folder with a hub of both backbones and a task, and with hubs without tasks."""
    folder = tmp_path_factory.mktemp("made")
    hub = hubs.make_hub(folder / "hub", RECIPE, backbones=BOTH)
    hubs.add_task(hub, "energy", 160)
    hubs.add_task(hub, "gap", 40, module=ModuleKind.ADAPTER)
    Hub(hub).export(folder / "whole.zip")
    Hub(hub).export(folder / "part.zip", modules=["energy"])
    Hub(hub).export(folder / "second.zip", modules=[f"energy@{SECOND}"])
    Hub(hub).export(folder / "adapter.zip", modules=["gap"])
    hubs.make_hub(folder / "both", RECIPE, backbones=BOTH)
    hubs.make_hub(folder / "first", RECIPE)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """Copy one of the hubs."""
    return lambda name: Path(shutil.copytree(made / name, tmp_path / name))


# elements


def test_a_backbone_that_does_not_know_an_element_of_a_row_is_refused(copy):
    hub = copy("first")
    hubs.add_task(hub, "energy", [*made_up_rows(20), HEAVY], compose=False)
    before = refs(hub)
    with pytest.raises(
        InvalidInputError, match="row 'heavy' of task 'energy': the backbone was not made for U"
    ):
        Hub(hub).add_backbone(SECOND)
    assert refs(hub) == before
    Hub(hub).retract("energy", ["heavy"], compose=False)
    assert Hub(hub).add_backbone(SECOND).name == SECOND


def test_a_row_with_an_element_that_one_backbone_does_not_know_is_refused(copy):
    taken = hubs.add_task(copy("both"), "energy", [*made_up_rows(20), HEAVY], compose=False)
    assert (taken.rows, [refusal.id for refusal in taken.refusals]) == (20, ["heavy"])


# backbones of a hub


def test_a_backbone_is_added_once_by_a_name_that_is_installed(copy):
    hub = copy("first")
    added = Hub(hub).add_backbone(SECOND)
    assert (added.name, added.version, added.modules) == (SECOND, "7", 0)
    assert set(refs(hub, "backbones/")) == {f"backbones/{name}" for name in BOTH}
    before = refs(hub)
    with pytest.raises(AlreadyExistsError, match="has the backbone 'second' already"):
        Hub(hub).add_backbone(SECOND)
    with pytest.raises(BackboneError, match=r"no backbone 'secnd' is installed.*'second'"):
        Hub(hub).add_backbone("secnd")
    assert refs(hub) == before


def test_a_hub_is_the_same_whether_a_backbone_comes_first_or_later(copy):
    hub = copy("first")
    Hub(hub).add_backbone(SECOND)
    assert refs(hub) == refs(copy("both"))


def test_which_backbone_weights_are_of_is_said_where_there_are_several(copy):
    with Store.open(copy("first")) as store:
        assert add_module.chosen_backbone(store, None) == CGCNN
        with pytest.raises(NotFoundError, match="`moma-cl add-backbone second` adds it"):
            add_module.chosen_backbone(store, SECOND)
    with Store.open(copy("both")) as store:
        assert add_module.chosen_backbone(store, SECOND) == SECOND
        with pytest.raises(InvalidInputError, match=r"with --backbone .*: cgcnn, second"):
            add_module.chosen_backbone(store, None)


def test_a_hub_has_a_backbone(tmp_path):
    with pytest.raises(InvalidInputError, match="a hub needs a backbone"):
        Hub(tmp_path / "hub").init(backbones=[])
    with pytest.raises(BackboneError, match="no backbone 'third'"):
        Hub(tmp_path / "hub").init(backbones=[CGCNN, "third"])
    assert not (tmp_path / "hub").exists()


def test_an_init_that_was_cut_short_between_two_backbones_is_finished(tmp_path, copy, monkeypatch):
    store_backbone = init.store_backbone

    def killed(store, name, *arguments, **options):
        if name == SECOND:
            raise KeyboardInterrupt
        return store_backbone(store, name, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(init, "store_backbone", killed)
        with pytest.raises(KeyboardInterrupt):
            hubs.make_hub(tmp_path / "hub", RECIPE, backbones=BOTH)
    assert set(refs(tmp_path / "hub")) == {f"backbones/{CGCNN}"}
    assert not is_hub(tmp_path / "hub")
    with pytest.raises(NotFoundError, match="run `moma-cl init` again"):
        hubs.add_task(tmp_path / "hub", "energy", 20, compose=False)
    hubs.make_hub(tmp_path / "hub", RECIPE, backbones=BOTH)
    assert refs(tmp_path / "hub") == refs(copy("both"))


@pytest.mark.parametrize("when", ["before the modules", "after the modules"])
def test_an_add_backbone_that_was_cut_short_is_repeated(made, copy, tmp_path, monkeypatch, when):
    monkeypatch.setattr(starter_modules, "FOLDER", tmp_path)
    shutil.copy(made / "second.zip", tmp_path / f"{SECOND}.moma")
    import_contents = add_backbone.import_contents

    def killed(*given):
        if when == "after the modules":
            import_contents(*given)
        raise KeyboardInterrupt

    hub = copy("first")
    with monkeypatch.context() as patched:
        patched.setattr(add_backbone, "import_contents", killed)
        with pytest.raises(KeyboardInterrupt):
            Hub(hub).add_backbone(SECOND)
    assert Hub(hub).add_backbone(SECOND).modules == 1
    assert {f"backbones/{SECOND}", f"modules/energy@{SECOND}"} <= refs(hub).keys()
    assert f"modules/energy@{CGCNN}" not in refs(hub)


# archives


def test_a_whole_hub_of_two_backbones_comes_back_and_answers_alike(made, tmp_path):
    Hub(tmp_path / "new").import_archive(made / "whole.zip")
    assert refs(tmp_path / "new") == refs(made / "hub")
    assert memo_results(tmp_path / "new") == memo_results(made / "hub")
    rows = made_up_rows(5, first=300)
    answers = [Hub(hub).predict("energy", rows) for hub in (tmp_path / "new", made / "hub")]
    assert answers[0].values.tolist() == answers[1].values.tolist()


def test_modules_of_both_backbones_move_together_or_one_by_one(made, copy):
    hub = copy("both")
    imported = Hub(hub).import_archive(made / "second.zip")
    assert imported.refs == (f"modules/energy@{SECOND}",)
    imported = Hub(hub).import_archive(made / "part.zip")
    assert (imported.refs, imported.present) == (
        (f"modules/energy@{CGCNN}",),
        (f"modules/energy@{SECOND}",),
    )
    assert refs(hub, "modules/energy") == refs(made / "hub", "modules/energy")
    taken = hubs.add_task(hub, "gap", 40, module=ModuleKind.NONE)
    assert taken.rows == 40
    listed = Hub(hub).tasks()[0].compositions
    assert {one.backbone for one in listed} == set(BOTH)
    assert refs(hub, "compositions/").keys() == {f"compositions/gap@{name}" for name in BOTH}
    with pytest.raises(NotFoundError, match="energy@cgcnn, energy@second"):
        Hub(hub).export(hub / "x.zip", modules=["energy@third"])


def test_modules_of_a_backbone_that_the_hub_lacks_are_refused(made, copy):
    hub = copy("first")
    for archive in ("second.zip", "part.zip"):
        with pytest.raises(BackboneError, match="`moma-cl add-backbone second` adds it"):
            Hub(hub).import_archive(made / archive)
    assert not refs(hub, "modules/")
    Hub(hub).add_backbone(SECOND)
    assert len(Hub(hub).import_archive(made / "part.zip").refs) == 2


def test_modules_of_other_parameters_of_the_same_name_are_refused(made, copy, tmp_path):
    taken = TakenApart.load(made / "second.zip")
    for doc in taken.records.values():
        if doc["kind"] == "backbone":
            doc["parameters"] = doc["adapter"]
    hub = copy("both")
    with pytest.raises(BackboneError, match="of another backbone 'second'"):
        Hub(hub).import_archive(taken.save(tmp_path / "changed.zip"))
    assert not refs(hub, "modules/")


@pytest.mark.parametrize("other", [CGCNN, SECOND])
def test_adapters_that_started_elsewhere_are_refused(made, copy, tmp_path, other):
    taken = TakenApart.load(made / "adapter.zip")
    backbones = {d["name"]: d for d in taken.records.values() if d["kind"] == "backbone"}
    (whose,) = set(BOTH) - {other}
    # the hub has this adapter, but of another backbone
    backbones[whose]["adapter"] = backbones[other]["adapter"]
    hub = copy("both")
    with pytest.raises(BackboneError, match="another initial adapter"):
        Hub(hub).import_archive(taken.save(tmp_path / "changed.zip"))
    assert not refs(hub, "modules/")
    assert len(Hub(hub).import_archive(made / "adapter.zip").refs) == 2


def test_a_module_without_a_backbone_is_refused(made, copy, tmp_path):
    taken = TakenApart.load(made / "part.zip")
    module = taken.named(f"modules/energy@{SECOND}")
    module["backbone"] = module["dataset"]
    with pytest.raises(InvalidInputError, match="a module in it has no backbone"):
        Hub(copy("both")).import_archive(taken.save(tmp_path / "changed.zip"))


@pytest.mark.parametrize("kind", ["compositions", "modules"])
def test_a_whole_hub_has_the_backbones_of_its_refs(made, tmp_path, kind):
    taken = TakenApart.load(made / "whole.zip")
    del taken.refs[f"backbones/{SECOND}"]
    taken.summary["refs"] = {
        ref: digest
        for ref, digest in taken.refs.items()
        if not ref.endswith(f"@{SECOND}") or ref.startswith(kind)
    }
    with pytest.raises(InvalidInputError, match=f"it has '{kind}/.*', but no such backbone"):
        Hub(tmp_path / "new").import_archive(taken.save(tmp_path / "changed.zip"))


@pytest.mark.parametrize("change", ["lacking", "twice", "another first"])
def test_a_predictor_has_one_composition_of_each_backbone_that_answers(made, tmp_path, change):
    taken = TakenApart.load(made / "whole.zip")
    predictor = taken.named("predictors/energy")
    first, second = ({"$record": taken.refs[f"compositions/energy@{name}"]} for name in BOTH)
    kernel = learner_on(taken, CGCNN, "composition", predictor)
    beside = learner_on(taken, SECOND, "backbone", predictor)
    compositions, learners = {
        "lacking": ([first], [kernel, beside]),
        "twice": ([first, second, first], [kernel, beside]),
        "another first": ([second, first], [kernel]),
    }[change]
    predictor |= {"compositions": compositions, "learners": learners}
    with pytest.raises(InvalidInputError, match="has other backbones than its learners"):
        Hub(tmp_path / "new").import_archive(taken.save(tmp_path / "changed.zip"))


def learner_on(taken, backbone, start, predictor):
    """The link of a learner of a predictor's rows, by its backbone and what it started from."""
    on = taken.refs[f"backbones/{backbone}"]
    own = taken.refs[f"compositions/energy@{backbone}"]
    return next(
        {"$record": digest}
        for digest, doc in taken.records.items()
        if doc["kind"] == "learner"
        and (doc["backbone"]["$record"], doc["start"]) == (on, start)
        and all(doc[name] == predictor[name] for name in ("task", "dataset"))
        and doc["composition"] in (None, {"$record": own})
    )


def test_an_interrupted_init_is_not_finished_with_other_backbones_in_silence(tmp_path, monkeypatch):
    from moma_cl.commands import init

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(init, "HubRecord", killed)
        with pytest.raises(KeyboardInterrupt):
            Hub(tmp_path / "hub").init(backbones=["cgcnn"])
    with pytest.raises(AlreadyExistsError, match="has put the backbone 'cgcnn'"):
        Hub(tmp_path / "hub").init(backbones=[SECOND])
    assert {one.name for one in Hub(tmp_path / "hub").init(backbones=BOTH).backbones} == {*BOTH}
