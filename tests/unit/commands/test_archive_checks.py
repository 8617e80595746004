"""Archives that are not what they claim to be are refused before anything of them is stored."""

import contextlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from moma_cl.commands import archive, maintenance
from moma_cl.hub import Hub
from moma_cl.records.decoding import decoded
from moma_cl.starter.modules import archive_of
from moma_store.archives import Archive
from moma_store.blob_reader import BlobReader
from moma_store.errors import FormatError, InvalidInputError, MomaError
from moma_store.files import Files
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.archives import TakenApart

FAULT = "an archive whose records or blobs are not what they claim to be"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a hub of two tasks, one trained, the archive of it, and of a module."""
    folder = tmp_path_factory.mktemp("archives")
    hub = hubs.make_hub(folder / "hub", hubs.short_recipe(1))
    hubs.add_task(hub, "energy", 160, unit="eV/atom", compose=False)
    hubs.add_task(hub, "gap", 30, unit="eV", module="none", compose=False)
    Hub(hub).update()
    archive.export(hub, folder / "whole.zip")
    archive.export(hub, folder / "part.zip", modules=["energy"])
    hubs.make_hub(folder / "empty")
    return folder


@pytest.fixture
def empty(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "empty", tmp_path / "empty"))


@pytest.fixture
def whole(made):
    return TakenApart.load(made / "whole.zip")


@pytest.fixture
def part(made):
    return TakenApart.load(made / "part.zip")


def bring(hub, taken, folder):
    return archive.import_archive(hub, taken.save(folder / "changed.zip"))


def state(hub):
    with Store.open(hub) as store, store.snapshot() as view:
        return view.refs(), view.records(), sorted(map(str, store.objects.listing()))


def looks(hub):
    """Everything that a user looks at; an archive that came in must not stop any of it."""
    lab = Hub(hub)
    for name in (task.name for task in lab.tasks()):
        lab.show(f"tasks/{name}")
    for listed in lab.modules():
        lab.show(listed.digest)
    lab.status()
    lab.log()
    lab.plan()
    maintenance.gc(hub)
    assert maintenance.verify(hub, deep=True).problems == ()


def test_what_is_taken_apart_and_left_alone_comes_in(whole, part, empty, tmp_path):
    bring(tmp_path / "new", whole, tmp_path)
    looks(tmp_path / "new")
    assert bring(empty, part, tmp_path).refs == ("modules/energy@cgcnn",)
    looks(empty)


@pytest.mark.parametrize(("backbone", "n_modules"), [("chgnet", 13), ("sevennet-0", 9)])
def test_the_records_of_the_starter_modules_are_what_they_claim_to_be(backbone, n_modules):
    with Archive(archive_of(backbone)) as opened:
        records = [decoded(doc) for doc in opened.lines("records.jsonl")]
    kinds = [record.kind for record in records]
    assert kinds.count("module") == n_modules
    assert {r.name for r in records if r.kind == "backbone"} == {backbone}
    assert set(kinds) == {"module", "backbone"}


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    "ref",
    [
        "tasks/../../evil",
        "modules/../evil",
        "modules/a/b",
        "modules/.hidden",
        "modules/" + "x" * 200,
        "modules/nul\0",
        "tasks/energy",
        "recipes/x",
        "hub",
        "hub/recipe",
        "pins/x",
        "nothing/x",
        "nothing",
    ],
)
def test_a_part_brings_modules_under_names_that_a_hub_gives(part, empty, tmp_path, ref):
    before = state(empty)
    part.summary["refs"] = {ref: part.refs["modules/energy@cgcnn"]}
    with pytest.raises(MomaError):  # a hub has the refs of some of these names already
        bring(empty, part, tmp_path)
    assert state(empty) == before
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    ("ref", "other"),
    [
        ("tasks/energy", "datasets/energy"),
        ("datasets/energy", "tasks/energy"),
        ("recipes/energy", "hub"),
        ("modules/energy@cgcnn", "tasks/energy"),
        ("predictors/energy", "compositions/energy@cgcnn"),
        ("predictors/energy", "predictors/gap"),
        ("fitted/gap", "predictors/energy"),
        ("hub", "hub/recipe"),
        ("backbones/cgcnn", "hub"),
        ("tasks/energy", "tasks/gap"),
    ],
)
def test_a_ref_names_a_record_of_its_own_kind(whole, tmp_path, ref, other):
    whole.refs[ref] = whole.refs[other]
    with pytest.raises(InvalidInputError, match="ref "):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("backbones/cgcnn", "backbones/other"),
        ("compositions/energy@cgcnn", "compositions/energy"),
        ("compositions/energy@cgcnn", "compositions/energy@chgnet"),
        ("modules/energy@cgcnn", "modules/energy"),
        ("modules/energy@cgcnn", "modules/energy@cgcnn@cgcnn"),
        ("predictors/energy", "predictors/energy@cgcnn"),
        ("datasets/energy", "datasets/energy@cgcnn"),
    ],
)
def test_a_ref_says_the_backbone_of_its_record(whole, tmp_path, ref, name):
    whole.refs[name] = whole.refs[ref]
    with pytest.raises(InvalidInputError, match=f"ref '{name}' names"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
def test_a_whole_hub_has_a_backbone(whole, tmp_path):
    del whole.refs["backbones/cgcnn"]
    with pytest.raises(InvalidInputError, match="it is a whole hub, and has no backbone"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize("ref", ["tasks/gap", "datasets/gap", "recipes/gap", "hub", "hub/recipe"])
def test_a_task_comes_with_its_companions(whole, tmp_path, ref):
    del whole.refs[ref]
    with pytest.raises(InvalidInputError, match="the archive is refused"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize("depth", [59, 60, 64, 100, 300])
@pytest.mark.parametrize("name", ["source", "made_by"])
def test_a_document_is_nested_as_deep_as_a_hub_can_go_or_refused(
    part, empty, tmp_path, depth, name
):
    deep: object = "x"
    for _ in range(depth):
        deep = [deep]
    part.named("modules/energy@cgcnn")[name] = {"deep": deep}
    if depth < 61 and name == "source":
        bring(empty, part, tmp_path)
        looks(empty)
        return
    with pytest.raises(InvalidInputError):
        bring(empty, part, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    ("ref", "name", "value"),
    [
        ("modules/energy@cgcnn", "n_train", -1),
        ("modules/energy@cgcnn", "n_train", 10**400),
        ("modules/energy@cgcnn", "n_train", 1.5),
        ("modules/energy@cgcnn", "n_train", True),
        ("modules/energy@cgcnn", "validation_mae", "small"),
        ("modules/energy@cgcnn", "validation_mae", None),
        ("modules/energy@cgcnn", "unit", 7),
        ("modules/energy@cgcnn", "module", "huge"),
        ("modules/energy@cgcnn", "module", "none"),
        ("modules/energy@cgcnn", "module", "adapter"),
        ("modules/energy@cgcnn", "backbone", None),
        ("modules/energy@cgcnn", "backbone", "energy"),
        ("modules/energy@cgcnn", "made_by", {"torch": ["2"]}),
        ("modules/energy@cgcnn", "transform", "square"),
        ("modules/energy@cgcnn", "answers", ["eV"]),
        ("tasks/energy", "name", "other"),
        ("tasks/energy", "unit", "furlong/fortnight^banana"),
        ("tasks/energy", "transform", "sqrt"),
        ("tasks/energy", "grouping", "mood"),
        ("datasets/energy", "n_rows", 7),
        ("datasets/energy", "segments", {}),
        ("recipes/energy", "threads", 0),
        ("recipes/energy", "threads", "many"),
        ("compositions/energy@cgcnn", "backbone_weight", 3.0),
        ("compositions/energy@cgcnn", "weights", [0.5, 0.25, 0.25]),
        ("predictors/energy", "method", "guess"),
        ("predictors/energy", "validation_maes", {"kernel": "small"}),
        ("predictors/energy", "settings", {"predictor": {"interval_level": "wide"}}),
        ("hub", "salt", 7),
        ("backbones/cgcnn", "adapter_width", 10**9),
        ("backbones/cgcnn", "adapter_width", 0),
        ("backbones/cgcnn", "name", "chgnet"),
        ("backbones/cgcnn", "manifest", {"names": [], "shapes": [], "offsets": [0]}),
    ],
)
def test_a_field_holds_what_it_is_declared_to_hold(whole, tmp_path, ref, name, value):
    whole.named(ref)[name] = value
    with pytest.raises(MomaError):
        bring(tmp_path / "new", whole, tmp_path)
    assert state(tmp_path / "new") == ({}, [], [])


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize("change", ["kind", "format", "field"])
def test_what_a_newer_version_may_have_written_is_said(part, empty, tmp_path, change):
    module = part.named("modules/energy@cgcnn")
    module |= {"kind": {"kind": "ensemble"}, "format": {"format": 2}, "field": {"new": 1}}[change]
    with pytest.raises(FormatError, match="newer"):
        bring(empty, part, tmp_path)


@pytest.mark.fault(FAULT)
def test_a_record_names_others_of_the_kinds_that_it_needs(whole, tmp_path):
    module = whole.named("modules/energy@cgcnn")
    module["backbone"], module["dataset"] = module["dataset"], module["backbone"]
    with pytest.raises(InvalidInputError, match="is a dataset, expected a backbone"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
def test_a_result_is_of_the_kind_that_its_key_says(whole, tmp_path):
    memo = next(memo for memo in whole.memos if memo["key"].startswith("estimate:"))
    memo["result"] = whole.refs["tasks/energy"]
    with pytest.raises(InvalidInputError, match="is a task, expected a estimate"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    "more",
    [
        {"action": 5},
        {"detail": "text"},
        {"at": ["now"]},
        {"changes": [{"name": "../x", "old": None, "new": None}]},
        {"changes": [{"name": "tasks/x", "old": 5, "new": None}]},
        {"counter": 7},
    ],
)
def test_a_history_is_one(whole, tmp_path, more):
    whole.history.append(more)
    with pytest.raises(InvalidInputError):
        bring(tmp_path / "new", whole, tmp_path)


def learner(taken, method):
    """A learner of the task with all kinds of them."""
    (task,) = (d for d, doc in taken.records.items() if doc == taken.named("tasks/energy"))
    return next(
        doc
        for doc in taken.records.values()
        if doc["kind"] == "learner" and doc["method"] == method and doc["task"]["$record"] == task
    )


def with_arrays(taken, ref, change, folder):
    """Change the arrays of the blob of the record that a ref names, or of a learner."""
    prefix, _, name = ref.partition("/")
    doc = learner(taken, name) if prefix == "learners" else taken.named(ref)
    if doc["kind"] == "dataset":
        doc = taken.records[doc["segments"][0]["$record"]]
    arrays = read(taken, doc["blob"]["$blob"], folder)
    change(arrays)
    doc["blob"] = taken.put_blob(arrays)


def read(taken, digest, folder):
    """Read a blob of an archive that is taken apart."""
    files = {name: folder / Path(name).name for name in taken.objects}
    for name, file in files.items():
        file.write_bytes(taken.objects[name])

    @contextlib.contextmanager
    def opened(digest):
        file = files[f"objects/{digest}.zarr.zip"]
        with BlobReader(file, digest, opened, Files()) as reader:
            yield reader

    with opened(digest) as reader:
        return reader.read().arrays


def nothing(_):
    pass


def cut(name):
    return lambda arrays: arrays.update({name: arrays[name][:-1]})


def without(name):
    return lambda arrays: arrays.pop(name)


def narrowed(*names):
    return lambda arrays: arrays.update({name: arrays[name][..., 1:] for name in names})


def filled(name, value):
    return lambda arrays: arrays[name].fill(value)


def as_type(name, dtype):
    return lambda arrays: arrays.update({name: arrays[name].astype(dtype)})


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize(
    ("ref", "change"),
    [
        ("modules/energy@cgcnn", cut("parameters")),
        ("modules/energy@cgcnn", without("parameters")),
        ("modules/energy@cgcnn", filled("parameters", np.nan)),
        ("modules/energy@cgcnn", as_type("parameters", "f8")),
        ("modules/energy@cgcnn", without("fingerprints")),
        ("modules/energy@cgcnn", as_type("fingerprints", "f4")),
        ("datasets/energy", cut("targets")),
        ("datasets/energy", filled("targets", np.inf)),
        ("datasets/energy", filled("folds", 9)),
        ("datasets/energy", filled("atomic_numbers", 200)),
        ("datasets/energy", filled("lattices", 0.0)),
        ("datasets/energy", filled("offsets", -1)),
        ("datasets/energy", filled("ids", ord("x"))),
        ("datasets/energy", filled("ids", 0xFF)),
        ("datasets/energy", without("formulas")),
        ("predictors/energy", without("normaliser")),
        ("predictors/energy", filled("normaliser", np.nan)),
        ("predictors/energy", cut("domain_centre")),
        ("predictors/energy", cut("held_out_residuals")),
        ("predictors/energy", cut("golden_answers")),
        ("predictors/gap", narrowed("domain_centre", "domain_spread", "domain_known")),
        ("modules/energy@cgcnn", narrowed("readout_scale", "readout_layer_0")),
        ("learners/kernel", cut("kernel_duals")),
        ("learners/kernel", without("kernel_duals")),
        ("learners/kernel", narrowed("kernel_centre", "kernel_spread", "kernel_support")),
        ("learners/kernel", without("validation_rows")),
        ("learners/kernel", cut("validation_answers")),
        ("learners/kernel", filled("held_out_answers", np.nan)),
        ("learners/finetuned", cut("parameters")),
        ("learners/finetuned", without("parameters")),
        ("learners/finetuned", filled("parameters", np.inf)),
        ("learners/finetuned", cut("head")),
        ("learners/finetuned", filled("validation_rows", 3)),
        ("learners/finetuned", filled("held_out_rows", -1)),
        ("learners/adapted", cut("parameters")),
        (
            "learners/adapted",
            lambda arrays: arrays.update(validation_rows=arrays["validation_rows"] + 10_000),
        ),
        ("modules/energy@cgcnn", cut("domain_slabs")),
        ("modules/energy@cgcnn", filled("normaliser", 0.0)),
        ("modules/energy@cgcnn", filled("held_out_residuals", np.nan)),
        ("modules/energy@cgcnn", without("extremes")),
        ("modules/energy@cgcnn", narrowed("domain_centre", "domain_spread", "domain_known")),
    ],
)
def test_a_blob_holds_what_its_record_promises(whole, tmp_path, ref, change):
    with_arrays(whole, ref, change, tmp_path)
    with pytest.raises(InvalidInputError, match="is refused: blob"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize("name", ["task", "dataset", "composition"])
def test_a_predictor_joins_learners_of_its_own_rows(whole, tmp_path, name):
    (linked,) = whole.named("predictors/gap")["learners"]
    other = whole.named("predictors/energy")
    value = other["compositions"][0] if name == "composition" else other[name]
    whole.records[linked["$record"]][name] = value
    with pytest.raises(InvalidInputError, match=f"has a learner of another {name}"):
        bring(tmp_path / "new", whole, tmp_path)


@pytest.mark.fault(FAULT)
@pytest.mark.parametrize("kind", ["none", "missing", "another kind", "twice"])
def test_a_predictor_has_its_learners(whole, tmp_path, kind):
    predictor = whole.named("predictors/gap")
    (linked,) = predictor["learners"]
    if kind == "missing":
        del whole.records[linked["$record"]]
        whole.memos = [memo for memo in whole.memos if memo["result"] != linked["$record"]]
    else:
        others = {
            "none": [],
            "another kind": [{"$record": whole.refs["tasks/gap"]}],
            "twice": [linked, linked],
        }
        predictor["learners"] = others[kind]
    messages = {
        "none": "it has no learners",
        "missing": "is incomplete: it lacks",
        "another kind": "is a task, expected a learner",
        "twice": "or one of them twice",
    }
    with pytest.raises(MomaError, match=messages[kind]):
        bring(tmp_path / "new", whole, tmp_path)


def test_a_blob_that_is_written_anew_comes_in(whole, tmp_path):
    learners = [f"learners/{method}" for method in ("kernel", "finetuned", "adapted")]
    tasks = ["modules/energy@cgcnn", "datasets/energy", "predictors/energy", "predictors/gap"]
    for ref in (*tasks, *learners):
        with_arrays(whole, ref, nothing, tmp_path)
    bring(tmp_path / "new", whole, tmp_path)
    looks(tmp_path / "new")


# at random

ODD = (None, -1, 0, 1, 10**18, 10**400, 1e300, -0.5, "", "x", "../..", "\x1b[2J", [], {}, True,
       [[[]]], {"$record": "0" * 64}, {"$blob": 1}, "y" * 100_000)  # fmt: skip


def mutate(taken, draw):
    """Change one thing in an archive."""
    refs, digests = taken.refs, sorted(taken.records)
    doc = taken.records[draw.choice(digests)]
    name = draw.choice(sorted(doc))
    what = draw.randrange(9)
    if what == 0:
        refs[draw.choice(sorted(refs))] = draw.choice(digests)
    elif what == 1:
        value = refs.pop(draw.choice(sorted(refs)))
        refs[draw.choice(["tasks/x", "modules/x@cgcnn", "drift/x", "../x", "failures/x", "x"])] = (
            value
        )
    elif what == 2:
        del refs[draw.choice(sorted(refs))]
    elif what == 3:
        del doc[name]
    elif what == 4 and taken.memos:
        draw.choice(taken.memos)["result"] = draw.choice(digests)
    elif what == 5:
        other = taken.records[draw.choice(digests)]
        doc[name] = json.loads(json.dumps(other[draw.choice(sorted(other))]))
    elif what == 6:
        inner = doc[name]
        if isinstance(inner, dict) and inner:
            inner[draw.choice(sorted(inner))] = draw.choice(ODD)
        else:
            doc[name] = [draw.choice(ODD)]
    else:
        doc[name] = draw.choice(ODD)


def tries(made, folder, seeds):
    """Bring mutated archives in; each is refused as a whole, or leaves a hub that works."""
    refused = 0
    for seed in seeds:
        draw = random.Random(seed)
        is_part = draw.random() < 0.3
        taken = TakenApart.load(made / ("part.zip" if is_part else "whole.zip"))
        hub = folder / "hub"
        if is_part:
            shutil.copytree(made / "empty", hub)
        before = state(hub) if is_part else ({}, [], [])
        mutate(taken, draw)
        try:
            bring(hub, taken, folder)
        except MomaError:
            refused += 1
            assert not hub.exists() or state(hub) == before, seed
        else:
            looks(hub)
        shutil.rmtree(hub, ignore_errors=True)
    return refused


@pytest.mark.fault(FAULT)
def test_a_mutated_archive_is_refused_whole_or_leaves_a_hub_that_works(made, tmp_path):
    assert tries(made, tmp_path, range(80)) > 40


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_mutated_archives(made, tmp_path):
    assert tries(made, tmp_path, range(80, 5080)) > 2500
