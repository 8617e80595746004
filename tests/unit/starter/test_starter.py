"""The modules that a new hub starts with."""

import pytest

from moma_cl.commands import init
from moma_cl.commands.archive import export
from moma_cl.hub import Hub
from moma_cl.records.records import ModuleKind, Predictor
from moma_cl.starter import modules as starter_modules
from moma_cl.views.modules import modules
from moma_store.errors import AlreadyExistsError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.second_backbone import SECOND


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A folder with an archive of one module of the small backbone."""
    folder = tmp_path_factory.mktemp("shipped")
    hub = hubs.make_hub(folder / "hub", salt="elsewhere")
    hubs.add_task(hub, "public_energy", 200, target="energy", unit="eV/atom")
    export(hub, folder / "cgcnn.moma", modules=["public_energy"])
    return folder


@pytest.fixture
def ships(shipped, monkeypatch):
    monkeypatch.setattr(starter_modules, "FOLDER", shipped)


@pytest.mark.usefixtures("ships")
def test_a_new_hub_has_the_modules_that_ship(tmp_path):
    made = Hub(tmp_path / "hub").init(backbones=["cgcnn"])
    assert made.modules == 1
    assert [module.name for module in modules(tmp_path / "hub")] == ["public_energy"]


@pytest.mark.usefixtures("ships")
def test_a_hub_can_do_without(tmp_path):
    made = Hub(tmp_path / "hub").init(backbones=["cgcnn"], starter=False)
    assert made.modules == 0
    assert list(modules(tmp_path / "hub")) == []


@pytest.mark.usefixtures("ships")
def test_modules_of_other_parameters_stay_out(tmp_path, monkeypatch, shipped):
    (shipped / "chgnet.moma").write_bytes((shipped / "cgcnn.moma").read_bytes())
    assert Hub(tmp_path / "hub").init(backbones=["chgnet"]).modules == 0


@pytest.mark.usefixtures("ships")
def test_an_init_that_was_cut_short_is_finished(tmp_path, monkeypatch):
    store_backbone = init.store_backbone

    def killed(*given, **options):
        store_backbone(*given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(init, "store_backbone", killed)
        with pytest.raises(KeyboardInterrupt):
            Hub(tmp_path / "hub").init(backbones=["cgcnn"])
    assert Hub(tmp_path / "hub").init(backbones=["cgcnn"]).modules == 1


@pytest.mark.usefixtures("ships")
def test_a_first_task_composes_them_but_not_one_that_has_seen_its_answers(hub, add_task, made_up):
    options = {"unit": "eV/atom", "module": ModuleKind.NONE}
    add_task("mine", made_up(60, first=300), target="modulus", **options)
    add_task("same", made_up(60), target="energy", **options)
    with Store.open(hub) as store:
        digest = store.ref("modules/public_energy@cgcnn")
        compositions = {
            name: store.record(
                Predictor.from_doc(store.record(store.ref(f"fitted/{name}"))).compositions[0]
            )
            for name in ("mine", "same")
        }
    assert compositions["mine"]["n_candidates"] == 2
    assert digest in compositions["same"]["excluded"]


@pytest.mark.usefixtures("ships", "second_backbone")
def test_a_task_of_the_same_name_is_not_mistaken_for_the_module_that_ships(tmp_path):
    hub = Hub(tmp_path / "hub")
    hub.init(backbones=[SECOND], starter=False, recipe=hubs.short_recipe())
    hubs.add_task(hub.path, "public_energy", 40, target="energy", unit="eV/atom", module="none")
    with pytest.raises(AlreadyExistsError, match="--no-starter"):
        hub.add_backbone("cgcnn")
    assert hub.add_backbone("cgcnn", starter=False).modules == 0
