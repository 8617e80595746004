"""A whole hub off the CPU: nothing is copied in silence, and keys are those of the CPU."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from moma_cl.commands import add_rows, set_recipe, update
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import ModuleKind
from moma_cl.testing.other_device import OTHER_DEVICE, other_device
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import InvalidInputError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import memo_results, record
from tests.helpers.rows import made_up_rows

N_ROWS = 200  # enough for folds and gradients


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    """A hub whose task answers, as the CPU made it, and is not composed yet."""
    hub = hubs.make_hub(tmp_path_factory.mktemp("device") / "hub", hubs.short_recipe(epochs=1))
    hubs.add_task(hub, "energy", N_ROWS, unit="eV/atom", compose=False)
    return hub


@pytest.fixture
def hub(answering, tmp_path):
    return Path(shutil.copytree(answering, tmp_path / "hub"))


@pytest.fixture
def gpu(monkeypatch):
    """Let the name of a GPU stand for the device that every machine has."""

    def found(name):
        return OTHER_DEVICE if name == "cuda" else torch.device("cpu")

    for module in (add_rows, set_recipe, update):
        monkeypatch.setattr(module, "resolve_device", found)
    monkeypatch.setattr("moma_cl.commands.hub_answers.resolve_device", found)
    with other_device():
        yield "cuda"


def values(hub, device):
    return np.array([row.value for row in Hub(hub, device=device).predict("energy", asked())])


def asked():
    return made_up_rows(20, first=N_ROWS)


def test_the_first_answer_is_made_on_the_device_and_its_record_tells_it(answering, gpu, tmp_path):
    Hub.create(
        tmp_path / "hub", backbones=["cgcnn"], recipe=hubs.short_recipe(epochs=1), device=gpu
    )
    Hub(tmp_path / "hub", device=gpu).add_task(
        "energy", made_up_rows(N_ROWS), target="energy", unit="eV/atom", compose=False
    )
    assert "device" not in record(answering, "predictors/energy")["made_by"]
    assert record(tmp_path / "hub", "predictors/energy")["made_by"]["device"] == OTHER_DEVICE.type


def test_a_pass_composes_trains_and_fits_and_its_predictor_answers_on_either_device(hub, gpu):
    done = Hub(hub, device=gpu).update()
    assert "failed" not in {entry.action for entry in done}
    assert Hub(hub, device="cpu").update() == []  # the keys are those of the CPU
    assert record(hub, "modules/energy@cgcnn")["made_by"]["device"] == OTHER_DEVICE.type
    here, there = values(hub, "cpu"), values(hub, gpu)
    assert np.abs(here - there).max() <= 1e-4 * np.abs(here).max()


def test_the_recipe_is_changed_and_rows_are_added_where_the_device_is(hub, gpu):
    there = Hub(hub, device=gpu)
    there.add_data("energy", made_up_rows(30, first=N_ROWS), compose=False)
    done = there.set_recipe("energy", {"predictor": {"interval_level": 0.8}}).done
    assert "failed" not in {entry.action for entry in done}
    assert record(hub, "fitted/energy")["made_by"]["device"] == OTHER_DEVICE.type


def test_a_missing_device_is_refused_before_anything_is_written(hub):
    before = hubs.refs(hub), memo_results(hub)
    there = Hub(hub, device="cuda")
    for verb in (
        there.update,
        lambda: there.add_data("energy", made_up_rows(3, first=N_ROWS)),
        lambda: there.retract("energy", ["row-1"]),
        lambda: there.set_recipe("energy", {"predictor": {"interval_level": 0.8}}),
        lambda: there.predict("energy", asked()),
    ):
        with pytest.raises(InvalidInputError, match="'cuda' was asked for"):
            verb()
    assert (hubs.refs(hub), memo_results(hub)) == before
    assert there.tasks()[0].name == "energy"  # what computes nothing needs no device


def test_the_cpu_takes_no_embedding_from_the_cache_of_another_device(hub, gpu, monkeypatch):
    with Store.open(hub) as store:
        dataset = store.ref("datasets/energy")
        embedded = []
        monkeypatch.setattr(
            "moma_cl.workspace.encoders.embed",
            lambda encoder, graphs, *_, **__: (
                embedded.append(encoder.device) or np.zeros((len(graphs), 4), dtype=np.float32)
            ),
        )
        shutil.rmtree(hub / "cache" / "embeddings")
        for device in (OTHER_DEVICE, torch.device("cpu"), OTHER_DEVICE):
            with Workspace(store=store, progress=quiet, device=device) as workspace:
                encoders = hubs.encoders_of(workspace)
                vector = encoders.parameters(None, ModuleKind.FULL)
                rows = workspace.rows(dataset)
                encoders.embeddings(ModuleKind.FULL, vector, rows, EmbeddingSettings())
    assert embedded == [OTHER_DEVICE, torch.device("cpu")]
