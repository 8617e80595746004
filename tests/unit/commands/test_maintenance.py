"""Maintenance of a hub with tasks, their modules and predictors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from moma_cl.commands import add_module, archive, maintenance
from moma_cl.hub import Hub
from moma_cl.records.records import BackboneRecord
from moma_cl.views import modules
from moma_cl.views.show import show
from moma_store.errors import (
    AlreadyExistsError,
    BackboneError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from moma_store.store import Store
from moma_store.testing import flip_bit
from tests.helpers import hubs
from tests.helpers.hubs import record, refs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hub with two tasks that has been brought up to date."""
    hub = hubs.make_hub(tmp_path_factory.mktemp("maintenance") / "hub", hubs.short_recipe(1))
    hubs.add_task(hub, "energy", 60, unit="eV/atom", compose=False)
    hubs.add_task(hub, "gap", 60, unit="eV", compose=False)
    Hub(hub).update()
    return hub


@pytest.fixture
def hub(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "hub"))


def test_what_a_pass_would_look_up_survives_gc(hub):
    assert maintenance.verify(hub, deep=True).problems == ()
    before = refs(hub)
    maintenance.gc(hub)
    assert maintenance.gc(hub).records == 0
    assert refs(hub) == before
    assert Hub(hub).update() == []
    assert maintenance.verify(hub, deep=True).problems == ()


def test_gc_removes_what_a_removed_task_leaves(hub):
    Hub(hub).remove_task("gap")
    announced = maintenance.gc(hub, dry_run=True)
    removed = maintenance.gc(hub)
    assert removed == announced
    assert removed.records > 3
    assert removed.blobs > 3
    verification = maintenance.verify(hub, deep=True)
    assert (verification.problems, verification.unreachable_files) == ((), 0)


def test_a_pinned_predictor_outlives_its_task(hub):
    champion = refs(hub)["predictors/gap"]
    assert maintenance.pin(hub, "gap") == maintenance.Pinned(
        digest=champion, kind="predictor", changed=True
    )
    assert not maintenance.pin(hub, champion[:10]).changed
    Hub(hub).remove_task("gap")
    maintenance.gc(hub)
    with Store.open(hub) as store:
        assert store.record(champion)["kind"] == "predictor"
    assert maintenance.unpin(hub, champion).changed
    maintenance.gc(hub)
    with Store.open(hub) as store, pytest.raises(NotFoundError):
        store.record(champion)
    with pytest.raises(NotFoundError):
        maintenance.pin(hub, "gap")


def test_a_damaged_blob_is_named_and_the_rest_serves(hub):
    digest = record(hub, "modules/gap@cgcnn")["blob"]["$blob"]
    flip_bit(hub / "objects" / digest[:2] / f"{digest}.zarr.zip", 5000)
    (problem,) = maintenance.verify(hub).problems
    assert (problem.kind, problem.subject) == ("damaged-blob", digest)
    assert not maintenance.verify(hub, repair=True).damaged
    with pytest.raises(IntegrityError, match="missing or damaged"):
        archive.export(hub, hub.parent / "x.zip", modules=["gap"])
    assert archive.export(hub, hub.parent / "y.zip", modules=["energy"]).blobs > 0


def test_an_exported_hub_answers_like_the_original(hub, tmp_path, write_rows, made_up):
    maintenance.gc(hub)
    archive.export(hub, tmp_path / "hub.zip")
    archive.import_archive(tmp_path / "new", tmp_path / "hub.zip")
    assert refs(tmp_path / "new") == refs(hub)
    asked = [write_rows(made_up(4, first=90), "ask.jsonl")]
    ours, theirs = (list(Hub(h).iter_predictions("energy", asked)) for h in (hub, tmp_path / "new"))
    assert [row.value for row in ours] == [row.value for row in theirs]
    assert Hub(tmp_path / "new").update() == []
    with pytest.raises(AlreadyExistsError):
        archive.import_archive(tmp_path / "new", tmp_path / "hub.zip")


def test_a_module_moves_to_another_hub_of_the_backbone(hub, tmp_path):
    archive.export(hub, tmp_path / "gap.zip", modules=["gap"])
    hubs.make_hub(tmp_path / "other", salt="another")
    imported = archive.import_archive(tmp_path / "other", tmp_path / "gap.zip")
    assert imported.refs == ("modules/gap@cgcnn",)
    (listed,) = modules.modules(tmp_path / "other")
    assert listed.digest == refs(hub)["modules/gap@cgcnn"]
    with pytest.raises(NotFoundError, match="energy"):
        archive.export(hub, tmp_path / "x.zip", modules=["enrgy"])
    with pytest.raises(NotFoundError):
        archive.import_archive(tmp_path / "absent", tmp_path / "gap.zip")


def weights(hub: Path, file: Path, **changes) -> add_module.Weights:
    """A safetensors file with the backbone's parameters, slightly moved."""
    with Store.open(hub) as store:
        record = BackboneRecord.from_doc(store.record(store.ref("backbones/cgcnn")))
        kind = changes.pop("kind", "full")
        link = record.parameters if kind == "full" else record.adapter
        manifest = record.manifest if kind == "full" else record.adapter_manifest
        vector = store.blob(link).arrays["parameters"]
    tensors = {
        name: (vector[start:stop] + np.float32(1e-3)).reshape(shape)
        for name, shape, start, stop in zip(
            manifest["names"],
            manifest["shapes"],
            manifest["offsets"],
            manifest["offsets"][1:],
            strict=False,
        )
    }
    tensors.update(changes)
    save_file({name: array for name, array in tensors.items() if array is not None}, file)
    return add_module.Weights(
        file=file, property="band gap", unit="eV", validation_mae=0.2, n_train=9
    )


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_weights_from_elsewhere_become_a_module(hub, tmp_path, kind):
    declared = weights(hub, tmp_path / "w.safetensors", kind=kind)
    added = add_module.add_module(hub, "elsewhere", declared)
    assert added.kind == kind
    listed = {module.name: module for module in modules.modules(hub)}["elsewhere"]
    assert (listed.digest, listed.kind, listed.rows) == (added.digest, kind, 9)
    assert maintenance.verify(hub, deep=True).problems == ()
    with pytest.raises(AlreadyExistsError):
        add_module.add_module(hub, "elsewhere", declared)
    with pytest.raises(AlreadyExistsError):
        add_module.add_module(hub, "energy", declared)


def composed(hub: Path, task: str) -> dict[str, str]:
    """Why modules are no candidates of a task, by digest."""
    Hub(hub).update()
    return record(hub, f"compositions/{task}@cgcnn")["excluded"]


def test_declaring_what_weights_were_trained_on_makes_them_candidates(
    hub, tmp_path, made_up, write_rows
):
    declared = replace(weights(hub, tmp_path / "w.safetensors"), property="gap")
    elsewhere = write_rows(made_up(4, first=400), "elsewhere.jsonl")
    unknown = add_module.add_module(hub, "unknown", declared)
    disjoint = add_module.add_module(
        hub,
        "disjoint",
        replace(
            declared, trained_on=(elsewhere,), source="a paper", licence="CC-BY-4.0", n_train=0
        ),
    )
    seen = add_module.add_module(
        hub, "seen", replace(declared, trained_on=(write_rows(made_up(60)),))
    )
    excluded = composed(hub, "gap")
    assert "nobody knows" in excluded[unknown.digest]
    assert "structures by which this task is judged" in excluded[seen.digest]
    assert disjoint.digest not in excluded
    record = show(hub, disjoint.digest).document
    assert (record["source"]["from"], record["source"]["licence"]) == ("a paper", "CC-BY-4.0")
    assert (record["source"]["trained_on"], record["n_train"]) == ([elsewhere.name], 4)


def test_a_declaration_with_an_unreadable_structure_is_refused(hub, tmp_path, made_up, write_rows):
    declared = weights(hub, tmp_path / "w.safetensors")
    rows = write_rows([*made_up(2), {"id": "x", "structure": {"lattice": [[1]], "species": []}}])
    with pytest.raises(InvalidInputError, match=r"rows\.jsonl:3"):
        add_module.add_module(hub, "elsewhere", replace(declared, trained_on=(rows,)))
    with pytest.raises(NotFoundError):
        add_module.add_module(
            hub, "elsewhere", replace(declared, trained_on=(tmp_path / "absent",))
        )
    assert "modules/elsewhere@cgcnn" not in refs(hub)


def first_name(hub: Path) -> tuple[str, list[int]]:
    manifest = record(hub, "backbones/cgcnn")["manifest"]
    return manifest["names"][0], manifest["shapes"][0]


@pytest.mark.parametrize("wrong", ["missing", "unknown", "shape", "dtype", "nan"])
def test_weights_that_are_not_the_backbone_s_are_refused(hub, tmp_path, wrong):
    name, shape = first_name(hub)
    change = {
        "missing": {name: None},
        "unknown": {"extra": np.zeros(3, "f4")},
        "shape": {name: np.zeros([*shape, 1], "f4")},
        "dtype": {name: np.zeros(shape, "f8")},
        "nan": {name: np.full(shape, np.nan, "f4")},
    }[wrong]
    declared = weights(hub, tmp_path / "w.safetensors", **change)
    error = InvalidInputError if wrong == "nan" else BackboneError
    with pytest.raises(error, match="extra" if wrong == "unknown" else None):
        add_module.add_module(hub, "elsewhere", declared)
    assert "modules/elsewhere@cgcnn" not in refs(hub)


@pytest.mark.parametrize("name", ["w.pt", "w.pkl", "w.safetensors"])
def test_other_files_are_refused_unread(hub, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04garbage")
    declared = add_module.Weights(
        file=tmp_path / name, property="band gap", unit="eV", validation_mae=0.2
    )
    with pytest.raises(InvalidInputError):
        add_module.add_module(hub, "elsewhere", declared)
    absent = tmp_path / "absent.safetensors"
    declared = add_module.Weights(file=absent, property="band gap", unit="eV", validation_mae=0.2)
    with pytest.raises(NotFoundError):
        add_module.add_module(hub, "elsewhere", declared)
