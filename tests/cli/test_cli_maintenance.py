"""Maintenance and exchange of modules, as the lab's cron and its administrator call them."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import save_file

from moma_cl.records.records import BackboneRecord
from moma_store.store import Store


def blob_of(hub, ref: str):
    with Store.open(hub) as store:
        return hub / store.blob_path(
            BackboneRecord.from_doc(store.record(store.ref(ref))).parameters
        )


def test_a_sound_hub_is_whole_and_gc_says_beforehand_what_it_does(own_hub):
    assert own_hub.ok("verify", "--deep").out.startswith("whole: ")
    announced, removed = own_hub.json("gc", "--dry-run"), own_hub.json("gc")
    assert announced == removed
    assert own_hub.json("gc")["records"] == 0
    assert own_hub.json("verify")["problems"] == []


def test_damage_exits_with_6_until_it_is_repaired(own_hub):
    file = own_hub.hub / "hub.toml"
    file.write_text(file.read_text()[:40])
    ended = own_hub("verify", "--json")
    assert (ended.code, ended.envelope["errors"][0]["code"]) == (6, "integrity")
    assert "verify --repair" in ended.envelope["errors"][0]["message"]
    ended = own_hub("verify", "--repair", "--json")
    assert (ended.code, ended.envelope["errors"][0]["code"]) == (0, "integrity.hub-file")
    backbone = blob_of(own_hub.hub, "backbones/cgcnn")
    backbone.write_bytes(backbone.read_bytes()[:-100])
    ended = own_hub("verify")
    assert ended.code == 6
    assert "[integrity.damaged-blob]" in ended.err
    assert own_hub("verify", "--repair").code == 0
    assert "[integrity.missing-blob]" in own_hub("verify").err


def test_a_hub_is_told_where_its_catalogue_was_moved(own_hub, tmp_path):
    home, tasks = tmp_path / "local", own_hub.json("tasks")
    (own_hub.hub / "catalogue.lmdb").rename(home)
    assert own_hub("tasks").code == 6
    assert own_hub("verify", "--catalogue", home).code == 4
    assert own_hub("verify", "--repair", "--catalogue", tmp_path).code == 4
    assert own_hub("verify", "--repair", "--catalogue", home).code == 0
    assert own_hub.json("tasks") == tasks


def test_a_pin_is_set_and_removed(own_hub):
    champion = own_hub.json("tasks")[0]["champion"]
    assert own_hub.ok("pin", "energy").out == f"predictor {champion[:12]} pinned\n"
    assert own_hub.ok("pin", champion[:8]).out == f"predictor {champion[:12]} pinned already\n"
    assert not own_hub.json("pin", "energy")["changed"]
    assert own_hub.json("unpin", "energy") == {
        "digest": champion,
        "kind": "predictor",
        "changed": True,
    }
    ended = own_hub("pin", "enrgy", "--json")
    assert (ended.code, ended.envelope["errors"][0]["code"]) == (3, "not-found")


def test_a_module_travels_to_another_hub(own_hub, inputs, tmp_path):
    archive = tmp_path / "energy.zip"
    exported = own_hub.json("export", archive, "--module", "energy")
    assert (list(exported["refs"]), exported["bytes"]) == (
        ["modules/energy@cgcnn"],
        archive.stat().st_size,
    )
    assert own_hub("export", archive, "--module", "energy").code == 4
    assert own_hub("export", tmp_path / "x.zip", "--module", "absent").code == 3
    other = type(own_hub)(tmp_path / "other")
    other.ok("init", "--backbone", "cgcnn", "--recipe", inputs / "fast.toml")
    assert other.json("import", archive)["refs"] == ["modules/energy@cgcnn"]
    assert other.json("import", archive)["present"] == ["modules/energy@cgcnn"]
    assert [module["name"] for module in other.json("modules")] == ["energy"]
    whole = tmp_path / "whole.zip"
    own_hub.ok("export", whole)
    assert other("import", whole).code == 4
    copy = type(own_hub)(tmp_path / "copy")
    copy.ok("import", whole)
    assert copy.json("tasks") == own_hub.json("tasks")
    archive.write_bytes(archive.read_bytes()[:-50])
    ended = other("import", archive, "--json")
    assert ended.code in {4, 6}


@pytest.fixture
def safetensors(own_hub, tmp_path):
    with Store.open(own_hub.hub) as store:
        backbone = BackboneRecord.from_doc(store.record(store.ref("backbones/cgcnn")))
        vector = store.blob(backbone.parameters).arrays["parameters"]
    manifest = backbone.manifest
    starts = zip(manifest["names"], manifest["shapes"], manifest["offsets"], strict=False)
    sizes = dict(zip(manifest["offsets"], manifest["offsets"][1:], strict=False))
    save_file(
        {name: vector[at : sizes[at]].reshape(shape) for name, shape, at in starts},
        tmp_path / "w.safetensors",
    )
    return tmp_path / "w.safetensors"


def test_weights_are_added_with_what_is_declared_of_them(own_hub, inputs, safetensors):
    declared = ("--property", "band gap", "--unit", "eV", "--validation-mae", "0.2")
    origin = ("--trained-on", inputs / "more.jsonl", "--source", "a paper", "--license", "CC0")
    added = own_hub.json("add-module", "theirs", "--weights", safetensors, *declared, *origin)
    shown = own_hub.json("show", added["digest"])["document"]
    assert shown["source"]["from"] == "a paper"
    assert (shown["source"]["licence"], shown["source"]["trained_on"]) == ("CC0", ["more.jsonl"])
    assert shown["n_train"] == 8
    bad = ("--trained-on", inputs / "absent.jsonl")
    assert own_hub("add-module", "b", "--weights", safetensors, *declared, *bad).code == 3
    assert own_hub("add-module", "b", "--weights", inputs / "more.jsonl", *declared).code == 4
    assert own_hub("add-module", "theirs", "--weights", safetensors, *declared).code == 4


def test_a_hub_of_the_present_format_is_not_migrated(own_hub, tmp_path):
    ended = own_hub("migrate", tmp_path / "new", "--json")
    assert (ended.code, ended.envelope["errors"][0]["code"]) == (4, "invalid-input")
    assert not (tmp_path / "new").exists()
    file = own_hub.hub / "hub.toml"
    file.write_text(file.read_text().replace("format = 1", "format = 99"))
    ended = own_hub("migrate", tmp_path / "new", "--json")
    assert (ended.code, json.loads(ended.out)["errors"][0]["code"]) == (7, "format")
    file.write_text(file.read_text().replace("format = 99", "format = 0"))
    assert "migrate" in own_hub("tasks").err
